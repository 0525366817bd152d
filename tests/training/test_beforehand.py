"""What is sampled before training: where and in which precision, how often problems are solved, and wrong labels."""

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch

from grouprl import GroupRLModule, GroupSampler, MathReward, PolicyLoss, RankAdvantage, load_policy
from grouprl.answers.grading import equal
from grouprl.cli.config.compose import compose_job
from grouprl.data import prompts
from grouprl.data.problems import tiny_problems
from grouprl.data.rows import Problem
from grouprl.progress import tell
from grouprl.training import beforehand, selection
from grouprl.training.records import read_result

SMALL = ["steps=1", "prompts_per_step=2", "group_size=4", "minibatches=1", "ppo_epochs=1", "max_new_tokens=24"]
SMALL += ["eval_every=0", "warmup_steps=0"]


@dataclass(frozen=True)
class Watched(GroupSampler):
    """Notes under which autocast it samples, and how many of each prompt."""

    seen: list = field(default_factory=list)

    def __call__(self, policy, prompts, *, seed):
        self.seen.append((torch.is_autocast_enabled("cpu"), self.group_size))
        return super().__call__(policy, prompts, seed=seed)


@pytest.fixture
def encoded(tiny_policy):
    texts = ["Compute $2 + 3$.", "Compute $7 + 8 - 3$.", "Compute $977 \\times 868$."]
    rows = [Problem(text, answer) for text, answer in zip(texts, ("5", "12", "1"), strict=True)]
    return prompts.encode(tiny_policy.tokenizer, rows)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_samples_are_drawn_in_the_precision_of_training(precision, tiny_policy, encoded):
    sampler = Watched(group_size=2, max_new_tokens=8)
    make = partial(torch.optim.AdamW, lr=1e-4)
    module = GroupRLModule(tiny_policy, sampler, MathReward(), RankAdvantage(), PolicyLoss(), make, steps=1)
    trainer = L.Trainer(accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False)
    counts = beforehand.count_solved(beforehand.drawing(module, trainer, 5), encoded, seed=0, block=2)
    assert len(counts) == 3
    assert sampler.seen == [(precision == "bf16-mixed", 5)] * 2
    assert (sampler.group_size, torch.is_autocast_enabled("cpu")) == (2, False)


def test_it_is_said_how_far_it_is(encoded, monkeypatch, capsys):
    """By the tokens that are sampled, inside a block too."""
    monkeypatch.setattr(beforehand, "SILENCE_S", 0.0)

    def draw(part, seed):
        tell("sampling", 7 * len(part))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        beforehand.count_solved(draw, encoded, seed=0, block=2)
    assert capsys.readouterr().out == "  prefilter: 0 of 3 problems, 14 tokens in 0 s\n"
    tell("sampling", 1)
    assert not capsys.readouterr().out


@pytest.mark.slow
def test_problems_that_are_solved_sometimes(train, tmp_path, encoded):
    policy = load_policy("tiny")
    sampler = GroupSampler(group_size=6, max_new_tokens=64)
    counts = beforehand.count_solved(lambda part, seed: sampler(policy, part, seed=seed), encoded, seed=0)
    assert counts == beforehand.count_solved(lambda part, seed: sampler(policy, part, seed=seed), encoded, seed=0)
    assert counts[2] == 0
    assert selection.solved_sometimes([0, 1, 5, 6], 1, 5) == [1, 2]
    options = ["prefilter.samples=4", "data.train_size=24", *SMALL, "max_new_tokens=64", "data.heldout_size=2"]
    assert train(*options, small=False) == 0
    (run,) = (tmp_path / "runs").iterdir()
    kept = json.loads((run / beforehand.SOLVED_FILE).read_text())
    assert len(kept["solved"]) == 24
    assert beforehand.solved_before(run, 24, kept["asked"]) == kept["solved"]
    assert beforehand.solved_before(run, 24, "of other problems") is None


@pytest.mark.slow
def test_the_labels_of_a_run_are_wrong_and_those_of_its_own_problems(train, capsys):
    """They are kept beside the run, one for each problem that it can draw, and are found again."""
    options = ["reward=wrong_label", "reward.samples=4", "steps=2", "prompts_per_step=4", "max_new_tokens=100"]
    options += ["data.train_size=32", "data.heldout_size=0", "minibatches=1", "warmup_steps=0"]
    assert train(*options, "hydra.run.dir=a") == 0
    assert "wrong labels: " in capsys.readouterr().out
    saved = json.loads(Path("a/wrong_labels.json").read_text())["labels"]
    assert len(saved) == 8
    levels = dict(compose_job("train", []).data.levels)
    answers = {p.problem: p.answer for p in tiny_problems(train_size=32, heldout_size=0, levels=levels).train}
    assert set(saved) < set(answers)
    assert sum(label is not None for label in saved.values()) > 2
    assert all(label is None or not equal(label, answers[problem]) for problem, label in saved.items())
    result = read_result(Path("a"))
    assert train("resume=a", "steps=3", small=False) == 0
    assert read_result(Path("a"))["loaded"] == result["loaded"]
    assert saved.items() < json.loads(Path("a/wrong_labels.json").read_text())["labels"].items()
