"""Where things are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository."""
TESTS = ROOT / "tests"
TINY_FOLDER = ROOT / "src" / "grouprl" / "data" / "tiny" / "model"
