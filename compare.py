"""The verdict of a study, or two evaluations question by question: ``python compare.py STUDY``, ``compare.py A B``."""

from grouprl.cli.commands import compare

if __name__ == "__main__":
    compare()
