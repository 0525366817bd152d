"""Problems of the library reasoning_gym: one of its generators, by name and difficulty (arXiv 2505.24760)."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from grouprl.answers.verifiers import SCHEME, verified_gold
from grouprl.data.rows import Problem
from grouprl.sandbox.sandbox import Sandbox

Split = Literal["train", "heldout"]

_REFUSED = ("composite",)
"""Mixtures of others."""
_MOST_DRAWN = 20
"""Times as many problems as asked for that are drawn to find different ones."""


@dataclass(frozen=True)
class Generator:
    """One of the library's generators, set up."""

    name: str
    settings: Any
    """An object of the generator's own class of settings, without a seed and a size."""

    def problems(self, split: Split, count: int, *, seed: int, but: Sequence[str]) -> list[Problem]:
        """Problems with different texts, a pure function of the arguments.

        A problem for which the generator has a verifier of its own gets a gold that asks it; of others the answer is
        the gold.

        Args:
            split: Which side they are for: each has its own streams.
            count: How many.
            seed: Seed of the stream.
            but: Texts that are not to be among them.

        Raises:
            ValueError: There are not so many.
        """
        found, taken = dict[str, Problem](), set(but)
        for entry in self._entries(split, count * _MOST_DRAWN, seed):
            if len(found) == count:
                break
            text = str(entry["question"]).strip()
            if text not in taken:
                taken.add(text)
                found[text] = Problem(text, self._gold(entry))
        if len(found) < count:
            raise ValueError(
                f"data.generator={self.name}: {len(found)} different problems were found among "
                f"{count * _MOST_DRAWN}, and "
                f"{count} are asked for ({split}). Ask for fewer, or choose wider settings or a higher difficulty."
            )
        return list(found.values())

    def check(self) -> None:
        """Whether the generator's verifier accepts its own answer, as it is written in a gold, and may be run here.

        Raises:
            ValueError: It does not.
            grouprl.sandbox.sandbox.SandboxError: The sandbox, in which it runs, cannot be enforced.
        """
        if not self.has_verifier:
            return
        Sandbox().check()
        entry = next(self._entries("train", 1, 0))
        if entry["answer"] is None:
            return
        gold = json.loads(self._gold(entry).removeprefix(SCHEME))
        again = replace(self, settings=type(self.settings)(**gold["settings"]))
        if again._dataset(0, 1).score_answer(gold["answer"], gold) < 1:
            raise ValueError(
                f"data.generator={self.name}: what its verifier needs cannot be written as text. "
                "Choose another generator."
            )

    @functools.cached_property
    def has_verifier(self) -> bool:
        """Whether it has a way to score answers that is its own, rather than to look for the answer in a text."""
        from reasoning_gym.dataset import ProceduralDataset

        return type(self._dataset(0, 1)).score_answer is not ProceduralDataset.score_answer

    def _gold(self, entry: Mapping[str, Any]) -> str:
        if not self.has_verifier:
            return str(entry["answer"])
        try:
            return verified_gold(self.name, asdict(self.settings), entry["answer"], entry["metadata"])
        except TypeError as error:
            raise ValueError(
                f"data.generator={self.name}: its problems cannot be written as text ({error}). "
                "Choose another generator."
            ) from error

    def _entries(self, split: str, count: int, seed: int) -> Iterator[Mapping[str, Any]]:
        """Problems as the library makes them: number k of seed s is number 0 of seed s + k, so seeds lie far apart."""
        start = int.from_bytes(hashlib.sha256(f"{self.name}/{split}/{seed}".encode()).digest()[:4], "big")
        dataset = self._dataset(start // 2, count)
        return (dataset[index] for index in range(count))

    def _dataset(self, seed: int, size: int) -> Any:
        from reasoning_gym.factory import DATASETS

        settings = replace(self.settings, seed=seed, size=size)
        return DATASETS[self.name][0](config=settings)


def set_up(name: str, difficulty: int | None, options: Mapping[str, Any]) -> Generator:
    """One of the library's generators.

    Args:
        name: Its name there, such as ``countdown``.
        difficulty: Level of all its attributes, from 0; None: the library's defaults.
        options: Settings of its own, over those.

    Raises:
        ValueError: The library is not installed, or has no such generator, difficulty or setting.
    """
    try:
        from reasoning_gym import factory
    except ModuleNotFoundError as error:
        raise ValueError(
            f"data=reasoning_gym: {error.name} is not installed. Install it with pip install 'grouprl[reasoning_gym]'."
        ) from error
    if name not in factory.DATASETS or name in _REFUSED:
        import difflib

        near = difflib.get_close_matches(name, factory.DATASETS, 3) or sorted(set(factory.DATASETS) - set(_REFUSED))
        raise ValueError(
            f"data.generator={name}: reasoning_gym has no such generator that can be used. Such as: {', '.join(near)}."
        )
    settings = factory.DATASETS[name][1]()
    if difficulty is not None:
        settings = _at(name, difficulty)
    known = set(asdict(settings)) - {"seed", "size"}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ValueError(f"data.options.{unknown[0]}: {name} has the settings {', '.join(sorted(known))}.")
    try:
        settings = replace(settings, **options)
        settings.validate()
    except (AssertionError, ValueError, TypeError) as error:
        raise ValueError(f"data.options={dict(options)}: {name} does not take them: {error}.") from None
    return Generator(name, settings)


def _at(name: str, difficulty: int) -> Any:
    from reasoning_gym import factory

    if not factory.has_curriculum(name):
        raise ValueError(f"data.difficulty={difficulty}: {name} has no levels. Use data.options.")
    curriculum = factory.create_curriculum(name)
    levels = max((len(attribute.levels) for attribute in curriculum.attributes.values()), default=1)
    if not 0 <= difficulty < levels:
        raise ValueError(f"data.difficulty={difficulty}: {name} has the levels 0 to {levels - 1}.")
    curriculum.set_global_level(difficulty)
    return curriculum.generate_configuration()
