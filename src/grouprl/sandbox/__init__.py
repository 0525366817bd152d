"""A sandbox for Python that nobody has read, a policy's or a verifier's; ``python -m grouprl.sandbox`` attacks it."""
