"""Train a policy: ``python train.py [key=value ...]``; see ``python train.py --help``."""

from grouprl.cli.commands import train

if __name__ == "__main__":
    train()
