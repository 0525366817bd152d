"""Numbers a reader can trust: intervals, and comparisons over questions and over seeds."""
