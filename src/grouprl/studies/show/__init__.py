"""A study to look at: text, pictures and a page."""
