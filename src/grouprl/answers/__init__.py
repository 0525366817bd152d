"""The grader: find the answer in a text, and compare it with the gold one."""
