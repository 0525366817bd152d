"""Train a policy: ``python train.py [key=value ...]``; see ``python train.py --help``."""

from grouprl.cli.train import main

if __name__ == "__main__":
    main()
