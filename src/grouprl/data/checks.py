"""What the loaders of problems refuse, without torch."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grouprl.checks import choice

ANSWER_FORMATS = ("plain", "boxed", "hashes")

_OTHER_FORMATS = (".arrow", ".xlsx", ".ods", ".gz", ".bz2", ".xz", ".zip", ".zst", ".pkl", ".npy")


def row_check(bad_rows: str, duplicates: str, answer_format: str) -> None:
    """Arguments of `grouprl.data.rows.RowCheck`."""
    choice("data.bad_rows", bad_rows, ("refuse", "drop"))
    choice("data.duplicates", duplicates, ("drop", "refuse", "keep"))
    choice("data.answer_format", answer_format, ANSWER_FORMATS)


def jsonl_problems(
    bad_rows: str, duplicates: str, answer_format: str, heldout_size: int, limit: int | None, seed: int
) -> None:
    """Arguments of `grouprl.data.problems.jsonl_problems`, and of ``hub_problems`` there."""
    row_check(bad_rows, duplicates, answer_format)
    _sizes(heldout_size=heldout_size, seed=seed)
    if limit is not None and limit < 1:
        raise ValueError(f"data.limit={limit}: give at least 1, or null for all.")


hub_problems = jsonl_problems


def tiny_problems(train_size: int, heldout_size: int, seed: int, heldout_seed: int, wrong_share: float) -> None:
    """Arguments of `grouprl.data.problems.tiny_problems`."""
    _sizes(heldout_size=heldout_size, seed=seed, heldout_seed=heldout_seed)
    if not 0 <= wrong_share <= 1:
        raise ValueError(f"data.wrong_share={wrong_share}: give a share, 0 to 1.")
    most = 100_000  # more take minutes to make
    if not 1 <= train_size <= most or heldout_size > most // 5:
        raise ValueError(
            f"data.train_size={train_size}, data.heldout_size={heldout_size}: give 1 to {most} problems "
            f"to train on, and {most // 5} to hold out."
        )


def word_problems(
    train_size: int, heldout_size: int, seed: int, heldout_seed: int, wrong_share: float, levels: Any
) -> None:
    """Arguments of `grouprl.data.problems.word_problems`."""
    tiny_problems(train_size, heldout_size, seed, heldout_seed, wrong_share)
    numbers = not isinstance(levels, (str, Mapping)) and all(isinstance(weight, (int, float)) for weight in levels)
    if not numbers or len(levels) != 4 or min(levels) < 0 or not 0 < sum(levels) < float("inf"):
        raise ValueError(
            f"data.levels={levels}: give the weights of problems of 1, 2, 3 and 4 steps, at least 0 and not all 0, as "
            "in data.levels=[1,0,0,0]."
        )


def reasoning_gym_problems(
    generator: str,
    difficulty: int | None,
    options: Any,
    train_size: int,
    heldout_size: int,
    seed: int,
    heldout_seed: int,
) -> None:
    """Arguments of `grouprl.data.problems.reasoning_gym_problems`; the library is looked up, not imported."""
    tiny_problems(train_size, heldout_size, seed, heldout_seed, 0.0)
    if options is not None and not isinstance(options, Mapping):
        raise ValueError(f"data.options={options}: add settings of the generator, as in +data.options.min_numbers=3.")
    if difficulty is not None and difficulty < 0:
        raise ValueError(f"data.difficulty={difficulty}: give a level from 0, or null for the library's defaults.")
    if importlib.util.find_spec("reasoning_gym") is None:
        raise ValueError(
            f"data=reasoning_gym data.generator={generator}: the library is not installed. Install it with "
            'pip install "grouprl[reasoning_gym]".'
        )


def _sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 0:
            raise ValueError(f"data.{name}={size}: give at least 0.")


def place(path: str | Path) -> Path:
    """Where a file lies: ``~`` is the home folder; a text that no file can be called is a file that is not there."""
    file = Path(os.path.expanduser(path))
    try:
        file.exists()
    except (OSError, ValueError):  # too long, or with a null byte
        return Path(os.devnull, "no such file")
    return file


def data_file(key: str, path: str) -> None:
    """A file that is there and may be read, and not of a format that is not."""
    file, formats = place(path), "a JSONL, JSON, CSV, TSV or Parquet file"
    if file.is_dir():
        raise ValueError(
            f"{key}={path}: this is a folder. Give the path of {formats}; data=hub data.name=FOLDER reads a folder of "
            "JSONL, CSV or Parquet files."
        )
    if not file.is_file():
        raise ValueError(f"{key}={path}: there is no such file. Give the path of {formats}.")
    if not os.access(file, os.R_OK):
        raise ValueError(f"{key}={path}: you may not read this file (chmod u+r).")
    if file.suffix.lower() in _OTHER_FORMATS:
        raise ValueError(f"{key}={path}: {file.suffix} files are not read. Give {formats}.")
