"""What runs of a study have in common and is done once: the held-out evaluation of the policy before training."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from grouprl.batch import Prompts
from grouprl.evaluation.heldout import ProblemResult, measure
from grouprl.evaluation.results import digest
from grouprl.files import FileError, read_json, write_json
from grouprl.module import GroupRLModule
from grouprl.policy.policy import Policy
from grouprl.sampling.base import Sampler


class SharedStart(Callback):
    """Takes the evaluation before training from another run of the study, or leaves it for the others."""

    def __init__(self, study: Path, key: str) -> None:
        """Nothing is read yet.

        Args:
            study: Folder of the study.
            key: Digest of all that the evaluation depends on, the machine and the package included.
        """
        self.key, self.file = key, study / f"start-{key}.json"
        self.known: dict[int, ProblemResult] = {}

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, GroupRLModule)
        if module.iteration == 0:
            self.known = {result.problem: result for result in _read(self.file, self.key)}
            if self.known:
                module.measure_heldout = self._recall

    def _recall(self, _policy: Policy, _sampler: Sampler, prompts: Prompts, **_options: Any) -> list[ProblemResult]:
        return [self.known[problem] for problem in prompts.indices]

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        assert isinstance(module, GroupRLModule)
        module.measure_heldout = measure
        if module.iteration == 0 and not self.known:
            write_json(self.file, sealed(self.key, [asdict(result) for result in module.last_evaluation]))


def sealed(key: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """What a file holds: results under their key, with a digest by which an edit is seen."""
    content = {"key": key, "results": results}
    return content | {"digest": digest(content)}


def _read(file: Path, key: str) -> list[ProblemResult]:
    """The results in a file; none where there is none, or it was edited: they are measured then."""
    try:
        content = read_json(file) or {}
        if content != sealed(key, content.get("results", [])):
            return []
        return [_result(row) for row in content["results"]]
    except (FileError, KeyError, TypeError):
        return []


def _result(row: dict[str, Any]) -> ProblemResult:
    return ProblemResult(**row | {"marks": tuple(row["marks"]), "lengths": tuple(row["lengths"])})
