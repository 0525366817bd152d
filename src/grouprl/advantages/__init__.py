"""From the rewards of a group to how much each of its completions is reinforced."""
