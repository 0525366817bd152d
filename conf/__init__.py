"""Configuration: one folder a component group, one file an option."""
