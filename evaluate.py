"""Look at what a policy writes: ``python evaluate.py policy=RUN prompt=...``."""

from grouprl.cli.evaluate import main

if __name__ == "__main__":
    main()
