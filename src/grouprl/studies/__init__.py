"""Which of several runs or policies is better, and how sure that is."""
