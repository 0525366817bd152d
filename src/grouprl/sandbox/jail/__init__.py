"""What confines a block of code: its own process does, step by step. For Linux, with the standard library alone."""
