"""What an interrupted evaluation keeps: settings, blocks of samples, and digests by which a changed one is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grouprl.checks import differing, refusal
from grouprl.files import Row, read_json, read_parquet, write_json, write_parquet

if TYPE_CHECKING:
    from grouprl.evaluation.prompts import Prompt

SETTINGS_FILE = "settings.json"
BLOCKS_FILE = "blocks.json"
INPUTS, ACCEPTED = "inputs", "accepted_changes"
"""Entries of the settings: digests of what an evaluation depends on beside its options, and what changed on its way."""
OF_THE_POLICY = ("weights", "config", "tokenizer")
"""Inputs that make another policy: blocks of two policies are no evaluation of either."""


class KeptBlocks:
    """The blocks of one benchmark in one mode, in a folder of their own.

    A block counts as done once its digest is written down, after the block itself.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], accepted: Collection[str] = ()) -> None:
        """Take up what the folder holds of the same settings.

        Args:
            folder: Where blocks are kept.
            settings: What decides the samples and their grades; of its entry ``inputs`` each by its name.
            accepted: Names of inputs that may be others than those the kept blocks were made with. Which blocks were is
                written down. Of the policy's, `OF_THE_POLICY`, none can be accepted.

        Raises:
            ValueError: The folder holds blocks of other settings. The text names what differs.
        """
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        wanted = json.loads(json.dumps(settings))
        before = read_json(folder / SETTINGS_FILE, {f"{ACCEPTED}?": list}, remedy="Choose another out=FOLDER")
        self._digests = read_json(folder / BLOCKS_FILE, remedy="Remove it, and the blocks are measured anew") or {}
        self.accepted_changes: list[dict[str, Any]] = []
        """Of each change that was accepted the digests ``before`` it, and the blocks that were measured by then."""
        if before is not None:
            _refuse_others(folder, before, wanted, accepted)
            self.accepted_changes = [*before.get(ACCEPTED, ()), *self._change(before[INPUTS], wanted[INPUTS])]
        write_json(folder / SETTINGS_FILE, {**wanted, ACCEPTED: self.accepted_changes})

    def _change(self, before: Mapping[str, str], now: Mapping[str, str]) -> list[dict[str, Any]]:
        changed = differing(before, now)
        if not changed or not self._digests:
            return []
        return [{"before": {name: before.get(name) for name in changed}, "blocks": sorted(self._digests)}]

    def read(self, start: int, prompts: Sequence[Prompt], problems: Sequence[tuple[str, str]]) -> list[Row] | None:
        """Rows of a block, or None where it is not done.

        Args:
            start: Index of its first problem.
            prompts: The prompt of each of its problems.
            problems: Text and reference answer of each.

        Raises:
            ValueError: The block was changed, or holds other problems. The text names its file.
        """
        file = self.folder / _name(start)
        if file.name not in self._digests or not file.is_file():
            return None
        if _digest(file) != self._digests[file.name]:
            raise ValueError(f"{file}: it was changed since it was written. Remove it, and it is measured anew.")
        rows = read_parquet(file, ("index", "problem", "gold", "prompt"))
        found = {row["index"]: (row["problem"], row["gold"], row["prompt"]) for row in rows}
        for index, (prompt, (problem, answer)) in enumerate(zip(prompts, problems, strict=True), start=start):
            if found.pop(index, None) != (problem, answer, prompt.text):
                raise ValueError(
                    f"{file}: problem {index} or its prompt is another than was measured. "
                    "Remove it, and it is measured anew."
                )
        if found:
            raise ValueError(f"{file}: it holds problems of another block. Remove it, and it is measured anew.")
        return rows

    def write(self, start: int, rows: Sequence[Row]) -> None:
        """Keep a block."""
        file = self.folder / _name(start)
        write_parquet(file, rows)
        self._digests[file.name] = _digest(file)
        write_json(self.folder / BLOCKS_FILE, self._digests)


def graded_anew(folder: Path, rows: Sequence[Row], version: str) -> None:
    """Put other verdicts into the blocks of a folder, of which the digests are written anew.

    Args:
        folder: Where blocks are kept; without any nothing is done.
        rows: All rows, of all blocks.
        version: Of the grader.
    """
    digests = read_json(folder / BLOCKS_FILE)
    settings = read_json(folder / SETTINGS_FILE)
    if not digests or settings is None:
        return
    by_sample = {(row["index"], row["sample"]): row for row in rows}
    for name in digests:
        block = [by_sample[row["index"], row["sample"]] for row in read_parquet(folder / name, ("index", "sample"))]
        write_parquet(folder / name, block)
        digests[name] = _digest(folder / name)
    write_json(folder / BLOCKS_FILE, digests)
    write_json(folder / SETTINGS_FILE, {**settings, "grader": version})


def _refuse_others(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], accepted: Collection[str]) -> None:
    file = folder / SETTINGS_FILE
    if not isinstance(before.get(INPUTS), dict):
        raise ValueError(f"{file}: it holds no settings of this version of grouprl. Choose another out=FOLDER.")
    options = [name for name in differing(before, now) if name not in (INPUTS, ACCEPTED)]
    if options:
        raise ValueError(
            f"out={folder}: it holds an evaluation with other settings: {', '.join(options)} (see {file}). "
            "Choose another out=FOLDER."
        )
    refuse_changed(str(folder), before[INPUTS], now[INPUTS], accepted)


def refuse_changed(out: str, before: Mapping[str, Any], now: Mapping[str, Any], accepted: Collection[str]) -> None:
    """Refuse an evaluation's folder whose inputs were others, but for those that were accepted by name.

    Args:
        out: The folder, as its option names it.
        before: Digests of the inputs by name, as the folder holds them.
        now: As they are.
        accepted: Names that may differ, but for `OF_THE_POLICY`.

    Raises:
        ValueError: There are others. The text names them.
    """
    changed = differing(before, now)
    remedy = "Choose another out=FOLDER to measure anew"
    others = [name for name in changed if name in OF_THE_POLICY]
    if others:
        raise ValueError(f"out={out}: it holds an evaluation of another policy ({', '.join(others)} differ). {remedy}.")
    text = refusal(f"out={out}", changed, accepted, remedy)
    if text is not None:
        raise ValueError(text)


def _name(start: int) -> str:
    return f"block-{start:06d}.parquet"


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
