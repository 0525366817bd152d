"""From the texts of completions to rewards, and what becomes of those that cannot be scored."""
