"""Python that a policy writes while it reasons, run in a sandbox; ``python -m grouprl.sampling.tools`` attacks it."""
