"""Run some of a study's runs again, bit for bit: ``python verify.py STUDY n=2``."""

from grouprl.cli.verify import main

if __name__ == "__main__":
    main()
