"""Run folders as studies find them, with outcomes that are drawn and not trained for."""

import json

import numpy as np
import yaml

from grouprl.evaluation.heldout import GREEDY
from grouprl.files import write_parquet
from grouprl.studies.verification import sealed
from grouprl.training.records import HELDOUT_FOLDER, heldout_file, read_result, write_result

BASE = {"prompts_per_step": 2, "group_size": 4, "lr": 1e-3, "seed": 0, "reward": {"_target_": "r.R", "seed": 0}}
HARD = np.random.default_rng(0).uniform(0.3, 0.7, 40)
"""Chances of forty problems."""


def make_run(
    folder,
    *,
    advantage="rank",
    seed=0,
    chances=0.5,
    problems=40,
    samples=8,
    state="finished",
    threads=1,
    processor="a processor",
    package="a",
    weights="w",
    own_reward=None,
    **changes,
):
    """A run folder with evaluations after 0, 2 and 4 iterations."""
    generator = np.random.default_rng((seed, len(advantage), int(1000 * np.mean(chances))))
    targets = {"rank": "a.Rank", "zscore": "a.ZScore", "rloo": "a.Rloo", "centered": "a.Centered"}
    config = BASE | {"seed": seed, "advantage": {"_target_": targets[advantage]}} | changes
    config["reward"] = {"_target_": "r.R", "seed": seed}
    result = {"run": folder.name, "state": state, "seed": seed, "seconds": 60.0, "choices": {"advantage": advantage}}
    overrides = [f"advantage={advantage}", f"seed={seed}", "study=s", *(f"{k}={v}" for k, v in changes.items())]
    overrides += [f"reward={own_reward}"] if own_reward else []
    machine = {"threads": threads, "precision": "32-true", "processor": processor}
    result |= {"overrides": overrides, "machine": machine, "identity": {"package": package}}
    write_result(folder, result | {"loaded": {"heldout": str(problems), "weights": weights}})
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [{"iteration": n, "completion/length": 10.0, "time/sampling": 0.4} for n in range(1, 5)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / HELDOUT_FOLDER).mkdir()
    for iteration, part in ((0, 0.2), (2, 0.7), (4, 1.0)):
        marks = generator.random((problems, samples)) < np.broadcast_to(chances, problems)[:, None] * part
        write_parquet(
            folder / HELDOUT_FOLDER / heldout_file(iteration),
            [
                {"problem": p, "sample": s, "correct": bool(marks[p, max(s, 0)]), "tokens": 10}
                | ({"question": f"What is {p}?", "text": f"<b>{advantage}</b>"} if s == GREEDY else {})
                for p in range(problems)
                for s in range(GREEDY, samples)
            ],
        )
    return change(folder)


def change(folder, **changes):
    """Change what a run's ``result.json`` says, as a run that had written it so."""
    result = read_result(folder) | changes
    write_result(folder, result | {"digests": sealed(folder, result)})
    return folder


def finish(run, weights):
    """Give a run folder weights, and record the digests of what is in it, as a finished run does."""
    (run / "policy").mkdir()
    (run / "policy" / "model.safetensors").write_bytes(weights)
    return change(run)
