"""Compare two evaluations question by question: ``python compare.py EVALUATION_A EVALUATION_B``."""

from grouprl.cli.compare import main

if __name__ == "__main__":
    main()
