"""Command line: configuration with Hydra, and the scripts. Hydra is imported here and nowhere below."""
