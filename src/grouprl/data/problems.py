"""Problems to train on and to hold out: the embedded task, files, Hugging Face datasets.

Every loader returns `ProblemSplits`. Rows are checked as they are read: a missing column, a missing answer or a
broken line is an error that names the file, the line and what to do.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grouprl.data import checks, words
from grouprl.data.rows import AnswerFormat, BadRows, Duplicates, Problem, RowCheck, chosen_rows
from grouprl.data.tables import dataset_rows, read_rows
from grouprl.data.tiny import task

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProblemSplits:
    """Problems to train on, and others to measure on."""

    train: Sequence[Problem]
    heldout: Sequence[Problem]


def tiny_problems(
    train_size: int = 4096,
    heldout_size: int = 400,
    levels: Mapping[int, float] | None = None,
    seed: int = 0,
    heldout_seed: int = 0,
    wrong_share: float = 0.0,
) -> ProblemSplits:
    """The embedded task: short arithmetic chains, split by a hash of the chain (see `grouprl.data.tiny.task`).

    Args:
        train_size: Training problems with distinct chains.
        heldout_size: Held-out problems with distinct chains.
        levels: Weight of each level, 1 to 3.
        seed: Seed of the training problems alone; whatever it is, the warm starts have not seen them.
        heldout_seed: Seed of the held-out ones.
        wrong_share: Share of the training problems that get another one's answer: a known harm, for an assay.
    """
    checks.tiny_problems(train_size, heldout_size, seed, heldout_seed, wrong_share)
    weights = {int(level): float(weight) for level, weight in (levels or dict.fromkeys(task.LEVELS, 1.0)).items()}

    def draw(split: task.Split, size: int, stream: int) -> list[Problem]:
        made = task.distinct_problems(split, size, seed=stream, levels=weights)
        return [Problem(p.text, p.answer, p.intermediate) for p in made]

    train = with_wrong_answers(draw("train", train_size, task.unseen_stream(seed)), wrong_share, seed=seed)
    return ProblemSplits(train, draw("heldout", heldout_size, heldout_seed))


def word_problems(
    train_size: int = 4096,
    heldout_size: int = 200,
    levels: Sequence[float] = (0.4, 0.3, 0.2, 0.1),
    seed: int = 0,
    heldout_seed: int = 0,
    wrong_share: float = 0.0,
) -> ProblemSplits:
    """Word problems of one to four steps, split by their calculations (see `grouprl.data.words`).

    Args:
        train_size: Training problems with distinct arithmetic.
        heldout_size: Held-out problems with distinct arithmetic.
        levels: Weights of problems of 1, 2, 3 and 4 steps.
        seed: Seed of the training problems alone.
        heldout_seed: Seed of the held-out ones.
        wrong_share: Share of the training problems that get another one's answer: a known harm, for an assay.
    """
    checks.word_problems(train_size, heldout_size, seed, heldout_seed, wrong_share, levels)

    def draw(split: words.Split, size: int, stream: int) -> list[Problem]:
        made = words.distinct_stories(split, size, seed=stream, levels=levels)
        return [Problem(p.text, p.answer, p.intermediate) for p in made]

    train = with_wrong_answers(draw("train", train_size, seed), wrong_share, seed=seed)
    return ProblemSplits(train, draw("heldout", heldout_size, heldout_seed))


def reasoning_gym_problems(
    generator: str,
    difficulty: int | None = None,
    options: Mapping[str, Any] | None = None,
    train_size: int = 2048,
    heldout_size: int = 200,
    seed: int = 0,
    heldout_seed: int = 0,
) -> ProblemSplits:
    """Problems of a generator of reasoning_gym, with its own verifier where it has one.

    Args:
        generator: Its name, such as ``countdown``.
        difficulty: Level of all its attributes, from 0; ``None``: the library's defaults.
        options: Settings of the generator's own, over those.
        train_size: Training problems with different texts, none of them held out.
        heldout_size: Held-out problems with different texts.
        seed: Seed of the training problems alone.
        heldout_seed: Seed of the held-out ones.

    Raises:
        ValueError: See `grouprl.data.reasoning_gym.set_up`.
        grouprl.sandbox.sandbox.SandboxError: The sandbox, in which verifiers are run, cannot be enforced here.
    """
    checks.reasoning_gym_problems(generator, difficulty, options, train_size, heldout_size, seed, heldout_seed)
    from grouprl.data.reasoning_gym import set_up

    made = set_up(generator, difficulty, dict(options or {}))
    made.check()
    heldout = made.problems("heldout", heldout_size, seed=heldout_seed, but=())
    train = made.problems("train", train_size, seed=seed, but=[problem.problem for problem in heldout])
    return ProblemSplits(train, heldout)


def with_wrong_answers(problems: Sequence[Problem], share: float, *, seed: int) -> list[Problem]:
    """The problems, a share of which has the answer and the intermediate results of another problem among them.

    Args:
        problems: The problems; two at least where some get wrong ones.
        share: How many get wrong ones, 0 to 1, rounded to a whole number; 2 instead of 1. A larger share has those of a
            smaller one among it.
        seed: Of the choice.
    """
    changed, order = list(problems), list(range(len(problems)))
    random.Random(f"wrong/{seed}").shuffle(order)
    count = round(share * len(problems))
    chosen = order[: 2 if count == 1 else count]
    for place, source in zip(chosen, chosen[1:] + chosen[:1], strict=True):
        giver = problems[source]
        wrong = giver.answer if giver.answer != problems[place].answer else f"{giver.answer}1"
        changed[place] = Problem(problems[place].problem, wrong, giver.intermediate)
    return changed


def jsonl_problems(
    path: str,
    heldout_path: str | None = None,
    heldout_size: int = 200,
    columns: Mapping[str, str] | None = None,
    answer_format: AnswerFormat = "plain",
    limit: int | None = None,
    bad_rows: BadRows = "refuse",
    duplicates: Duplicates = "drop",
    levels: Sequence[int] | None = None,
    types: Sequence[str] | None = None,
    seed: int = 0,
) -> ProblemSplits:
    """Problems of a JSONL file (one object a line), or of one whose name ends in .json, .csv, .tsv or .parquet.

    Args:
        path: Training file.
        heldout_path: File to hold out. Without one, ``heldout_size`` rows of ``path`` are held out.
        heldout_size: Number of rows held out (at most a fifth of the file where there is no ``heldout_path``).
        columns: Name of the columns for ``problem`` and ``answer``.
        answer_format: ``plain``; ``boxed``: the last box of the column (a solution); ``hashes``: what follows ``####``.
        limit: Use only the first so many training rows.
        bad_rows: Lines that are no JSON object in UTF-8, or have no problem or answer, or one that is neither text
            nor a finite number: ``refuse``, or ``drop`` them with a report of their numbers.
        duplicates: Rows whose problem came before: ``drop``, ``refuse`` or ``keep``. One with another answer is a
            bad row.
        levels: Only rows whose ``level`` column (``3`` or ``Level 3``) is one of these.
        types: Only rows whose ``type`` column is one of these. Columns are named by ``columns``, too.
        seed: Seed of the held-out choice.

    Raises:
        ValueError: There is no such file, or it has rows that cannot be used; the text names the first ones.
    """

    def read(file: str, key: str) -> list[Problem]:
        checks.data_file(key, file)
        check = RowCheck(file, columns, answer_format, bad_rows, duplicates)
        return check.problems(chosen_rows(read_rows(file, on_error=check.bad), columns, levels, types, file, check.bad))

    rows, heldout = read(path, "data.path"), read(heldout_path, "data.heldout_path") if heldout_path else None
    return _split(rows, heldout, heldout_size, limit, seed)


def hub_problems(
    name: str,
    split: str = "train",
    heldout_split: str | None = None,
    configs: Sequence[str] | None = None,
    heldout_size: int = 200,
    columns: Mapping[str, str] | None = None,
    answer_format: AnswerFormat = "plain",
    limit: int | None = None,
    bad_rows: BadRows = "refuse",
    duplicates: Duplicates = "drop",
    levels: Sequence[int] | None = None,
    types: Sequence[str] | None = None,
    seed: int = 0,
) -> ProblemSplits:
    """Problems of a Hugging Face dataset: a hub id, or a local folder of data files in the same format.

    Args:
        name: Dataset id or folder.
        split: Training split.
        heldout_split: Split to hold out. Without one, rows of ``split`` are held out.
        configs: Dataset configurations to put together (``None``: the default one).
        heldout_size: As for `jsonl_problems`.
        columns: As for `jsonl_problems`.
        answer_format: As for `jsonl_problems`.
        limit: As for `jsonl_problems`.
        bad_rows: As for `jsonl_problems`.
        duplicates: As for `jsonl_problems`.
        levels: As for `jsonl_problems`.
        types: As for `jsonl_problems`.
        seed: As for `jsonl_problems`.

    Raises:
        ValueError: As for `jsonl_problems`.
    """

    def read(which: str) -> list[Problem]:
        check = RowCheck(f"{name} [{which}]", columns, answer_format, bad_rows, duplicates)
        return check.problems(
            chosen_rows(dataset_rows(name, configs, which), columns, levels, types, check.source, check.bad)
        )

    rows, heldout = read(split), read(heldout_split) if heldout_split else None
    return _split(rows, heldout, heldout_size, limit, seed)


def _split(
    rows: list[Problem], heldout: list[Problem] | None, heldout_size: int, limit: int | None, seed: int
) -> ProblemSplits:
    if heldout is not None:
        shared = {row.problem for row in heldout} & {row.problem for row in rows}
        if shared:
            raise ValueError(
                f"data: {len(shared)} held-out problems are among the training problems, such as {min(shared)[:80]!r}. "
                "Take them out of one of the two."
            )
        return ProblemSplits(rows[:limit], heldout[:heldout_size])
    # Rows of one problem text stay on one side of the split.
    texts = sorted({row.problem for row in rows})
    random.Random(seed).shuffle(texts)
    most = len(texts) // 5
    if heldout_size > most:
        _log.warning(
            "data.heldout_size=%d: %d of %d problems are held out, a fifth; data.heldout_path=FILE holds out others",
            *(heldout_size, most, len(texts)),
        )
    chosen = set(texts[: min(heldout_size, most)])
    train = [row for row in rows if row.problem not in chosen]
    return ProblemSplits(train[:limit], [row for row in rows if row.problem in chosen])
