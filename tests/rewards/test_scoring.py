"""Rewards that misbehave: each failure is counted with its completion, and never becomes a silent 0."""

import json
import os
import re
import time

import pytest
import torch

from grouprl.batch import Prompts
from grouprl.rewards.base import Rewards
from grouprl.rewards.isolation import IsolatedReward, RewardWorkerError, load_object
from grouprl.rewards.parts import MathReward
from grouprl.rewards.scoring import RewardTimeoutError, Scorer, ScoringError

COMPLETIONS = (("good", "bad", "fine"), ("fine", "good", "good"))
PROMPTS = Prompts(problems=("p", "q"), answers=("1", "2"), token_ids=((1,), (1,)), indices=(0, 1))

REWARDS = r"""
import math, os, time

def score(text):
    return {"good": 1.0, "fine": 0.5}.get(text, 0.0)

def plain(completions, prompts, scale=1.0):
    return [[scale * score(text) for text in row] for row in completions]

def raises(completions, prompts):
    if any("bad" in row for row in completions):
        raise KeyError("bad")
    return plain(completions, prompts)

def nan(completions, prompts):
    return [[math.nan if text == "bad" else score(text) for text in row] for row in completions]

def wrong_shape(completions, prompts):
    flat = [score(text) for row in completions for text in row]
    return flat if "bad" in sum(map(list, completions), []) else plain(completions, prompts)

def hangs(completions, prompts):
    while any("bad" in row for row in completions):
        time.sleep(0.01)
    return plain(completions, prompts)

def loops(completions, prompts):
    while any("bad" in row for row in completions):
        pass
    return plain(completions, prompts)

def eats(completions, prompts):
    hoard = []
    while any("bad" in row for row in completions):
        hoard.append(bytearray(50_000_000))
    return plain(completions, prompts)

def crashes(completions, prompts):
    if any("bad" in row for row in completions):
        os._exit(3)
    return plain(completions, prompts)

def talks(completions, prompts):
    print("looking at", completions)
    return plain(completions, prompts)

def always(completions, prompts):
    raise ValueError("always")

class Model:
    def __init__(self, bias):
        self.bias = bias
    def __call__(self, completions, prompts):
        return [[score(text) + self.bias + len(prompts.problems[i]) for text in row] for i, row in enumerate(completions)]
"""


@pytest.fixture
def isolated(tmp_path):
    """Isolated rewards of the file above, by name; their workers end with the test."""
    path = tmp_path / "own_rewards.py"
    path.write_text(REWARDS)
    made = []

    def make(name, arguments=None, **limits):
        reward = IsolatedReward(f"{path}:{name}", arguments, **{"timeout_s": 2.0, "memory_mb": 300, **limits})
        made.append(reward)
        return reward

    yield make
    for reward in made:
        reward.close()


WANTED = torch.tensor([[1.0, 0.0, 0.5], [0.5, 1.0, 1.0]])


@pytest.mark.slow
def test_a_reward_in_a_worker_scores_as_in_this_process(isolated, tmp_path):
    assert torch.equal(isolated("plain")(COMPLETIONS, PROMPTS).values, WANTED)
    assert torch.equal(isolated("talks")(COMPLETIONS, PROMPTS).values, WANTED)
    assert torch.equal(isolated("plain", {"scale": 3})(COMPLETIONS, PROMPTS).values, 3 * WANTED)
    assert torch.equal(isolated("Model", {"bias": 2})(COMPLETIONS, PROMPTS).values, WANTED + 3)
    inside = load_object(f"{tmp_path / 'own_rewards.py'}:plain")
    assert inside(COMPLETIONS, PROMPTS) == WANTED.tolist()


def test_parts_and_gaps_come_back_through_the_pipe():
    reward = IsolatedReward("grouprl.rewards.parts.MathReward", {"correct": 0.8})
    texts = ((r"Step 1: \boxed{1}", "x"), (r"\boxed{3}", r"\boxed{2}"))
    try:
        found, wanted = reward(texts, PROMPTS), MathReward(correct=0.8)(texts, PROMPTS)
    finally:
        reward.close()
    assert torch.equal(found.values, wanted.values)
    assert found.parts.keys() == wanted.parts.keys()
    assert all(torch.equal(found.parts[name], wanted.parts[name]) for name in wanted.parts)


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("raises", "error", "KeyError"),
        ("nan", "unscorable", "nan"),
        ("wrong_shape", "error", r"shape \[1\]"),
        pytest.param("hangs", "timeout", "2 s", marks=pytest.mark.slow),
        pytest.param("loops", "timeout", "2 s", marks=pytest.mark.slow),
        ("eats", "error", "MemoryError"),
        pytest.param("crashes", "error", "exit status 3", marks=pytest.mark.slow),
    ],
)
def test_one_bad_completion_costs_itself_alone(isolated, name, kind, reason):
    scorer = Scorer(isolated(name))
    rewards = scorer(COMPLETIONS, PROMPTS)
    assert rewards.valid.tolist() == [[True, False, True], [True, True, True]]
    assert torch.equal(rewards.values, WANTED)
    (failure,) = rewards.failures
    assert (failure.prompt, failure.sample, failure.kind) == (0, 1, kind)
    import re

    assert re.search(reason, failure.reason), failure.reason
    # The next batch is scored as if nothing had been.
    assert torch.equal(scorer((("good", "fine"),), PROMPTS.take([0])).values, torch.tensor([[1.0, 0.5]]))


@pytest.mark.slow
def test_the_worker_is_gone_after_a_timeout(isolated):
    reward = isolated("hangs", timeout_s=0.5)
    with pytest.raises(RewardTimeoutError):
        reward(COMPLETIONS, PROMPTS)
    assert reward._worker is None
    reward((("good",),), PROMPTS.take([0]))
    pid = reward._worker.pid
    reward.close()
    time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
def test_a_search_for_failures_has_an_end(isolated):
    """Every completion hangs: what was not tried in time counts as failed, and the run is told."""
    scorer = Scorer(isolated("hangs", timeout_s=0.5), patience_s=1.0)
    started = time.monotonic()
    with pytest.raises(ScoringError, match="No completion of this iteration could be scored"):
        scorer((("bad",) * 8,) * 4, Prompts(("p",) * 4, ("1",) * 4, ((1,),) * 4, (0, 1, 2, 3)))
    assert time.monotonic() - started < 60


def test_what_a_failure_costs_is_configurable():
    def half(completions, prompts):
        return [[float("nan") if text == "bad" else 1.0 for text in row] for row in completions]

    assert Scorer(half)(COMPLETIONS, PROMPTS).valid.sum() == 5
    assert Scorer(half, on_unscorable="drop_group")(COMPLETIONS, PROMPTS).valid.tolist() == [[False] * 3, [True] * 3]
    with pytest.raises(ScoringError, match=r"on_unscorable=stop(.|\n)*unscorable(.|\n)*Completion: 'bad'"):
        Scorer(half, on_unscorable="stop")(COMPLETIONS, PROMPTS)
    with pytest.raises(ValueError, match="on_unscorable=maybe: choose one of drop_sample, drop_group, stop"):
        Scorer(half, on_unscorable="maybe")


def test_rewards_in_this_process_fail_as_gently(caplog):
    def raises(completions, prompts):
        if any("bad" in row for row in completions):
            raise RuntimeError("no")
        return [[1.0] * len(row) for row in completions]

    rewards = Scorer(raises)(COMPLETIONS, PROMPTS)
    (said,) = [text for text in caplog.messages if text.startswith("The reward failed on a whole batch")]
    assert "RuntimeError: no (test_scoring.py, line" in said
    assert rewards.valid.sum() == 5
    assert re.fullmatch(r"RuntimeError: no \(test_scoring\.py, line \d+\)", rewards.failures[0].reason)

    def infinite(completions, prompts):
        values = torch.full((len(completions), len(completions[0])), torch.inf)
        values[:, 1:] = 1.0
        return Rewards(values, torch.ones_like(values, dtype=torch.bool))

    assert Scorer(infinite)(COMPLETIONS, PROMPTS).valid.tolist() == [[False, True, True]] * 2


@pytest.mark.slow
def test_a_reward_that_is_not_there(tmp_path):
    for target in ("no_such_module.f", f"{tmp_path}/none.py:f", "math.no_such_name"):
        with pytest.raises(RewardWorkerError):
            IsolatedReward(target)(COMPLETIONS, PROMPTS)


@pytest.mark.slow
def test_a_run_with_a_reward_that_fails(tmp_path, cli):
    (tmp_path / "own_rewards.py").write_text(
        "def score(completions, prompts):\n"
        "    if any(len(text) % 7 == 0 for row in completions for text in row): raise ValueError('seven')\n"
        "    return [[len(text) / 100 for text in row] for row in completions]\n"
    )
    small = [
        "steps=2",
        "prompts_per_step=4",
        "group_size=4",
        "minibatches=1",
        "max_new_tokens=32",
        "data.train_size=16",
    ]
    options = [*small, "data.heldout_size=4", "eval_every=0", "reward=custom"]
    done = cli("train.py", *options, "hydra.run.dir=run", "reward._target_=own_rewards.py:score")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "reward_failures.jsonl").read_text().splitlines()]
    assert rows
    assert all(row["kind"] == "error" and "seven" in row["reason"] and len(row["completion"]) % 7 == 0 for row in rows)
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum(row.get("reward/failures/error", 0) for row in metrics) == len(rows)
    assert "completions got no reward" in done.stderr
    options += ["hydra.run.dir=stopped", "reward._target_=own_rewards.py:score", "on_unscorable=stop"]
    always = cli("train.py", *options)
    assert always.returncode == 1
    assert "on_unscorable=stop" in always.stderr
    assert "Traceback" not in always.stderr
