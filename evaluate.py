"""Look at what a policy writes: ``python evaluate.py policy=RUN prompt=...``."""

from grouprl.cli.commands import evaluate

if __name__ == "__main__":
    evaluate()
