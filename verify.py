"""Run some of a study's runs again, bit for bit: ``python verify.py STUDY n=2``."""

from grouprl.cli.commands import verify

if __name__ == "__main__":
    verify()
