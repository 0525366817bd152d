"""One run from problems to an exported policy, and what it leaves on disk."""
