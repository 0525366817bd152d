"""Errors of one rank: all ranks leave with one message, none waits for ever, and what failed is written down."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from helpers.paths import ROOT
from helpers.runs import SMALL

from grouprl.batch import Prompts
from grouprl.rewards.base import Failure, Rewards
from grouprl.rewards.scoring import ScoringError
from grouprl.runtime import failures, guards
from grouprl.runtime.failures import RankError, SharedFailure, failing_together, naming_lost_ranks
from grouprl.runtime.guards import FiniteSteps, SamplerMismatch, TrainingError
from grouprl.training import callbacks
from grouprl.training.callbacks import RewardFailures


@pytest.fixture
def beside(monkeypatch):
    """Another rank beside this one, which is rank 0: what it gathers."""

    def set_other(other):
        for module in (failures, guards, callbacks):
            monkeypatch.setattr(module, "gathered", lambda own, ranks: [own, other])

    return set_other


def test_an_error_of_another_rank_is_raised_here(beside):
    beside("No completion of this iteration could be scored.")
    done = []
    text = r"On rank 1 of 2: No completion of this iteration could be scored\."
    with pytest.raises(RankError, match=text), failing_together(2):
        done.append("this rank's work")
    assert done


@pytest.mark.parametrize("error", [ScoringError("no reward"), TrainingError("no memory")])
def test_an_error_of_this_rank_is_told_to_the_others_first(beside, error, caplog):
    beside(None)
    with pytest.raises(RankError, match=r"^On rank 0 of 2: no (reward|memory)$") as raised, failing_together(2):
        raise error
    assert raised.value.__cause__ is error
    assert not caplog.text


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(3), ZeroDivisionError("no")])
def test_an_error_that_does_not_explain_itself_is_told_with_its_place(beside, error, caplog):
    beside(None)
    text = rf"On rank 0 of 2: {type(error).__name__}: .*test_failures\.py, line \d+\)"
    with pytest.raises(RankError, match=text), failing_together(2):
        raise error
    assert "Traceback" in caplog.text


def test_errors_of_several_ranks_are_one(beside):
    beside("two")
    with pytest.raises(RankError, match=r"^On rank 0 \(and 1 more\) of 2: one$"), failing_together(2):
        raise TrainingError("one")


def test_a_single_process_raises_its_own_error():
    with pytest.raises(KeyError, match="x"), failing_together(1):
        raise KeyError("x")


def test_an_error_is_held_until_the_ranks_meet(beside):
    failure = SharedFailure()
    with failure.holding(2):
        raise TrainingError("in the first batch")
    assert str(failure.error) == "in the first batch"
    beside(None)
    with pytest.raises(RankError, match="in the first batch"):
        failure.meet(2)
    assert failure.error is None
    failure.meet(2)


@pytest.mark.parametrize(
    "text",
    [
        "[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.1.1]:61250",
        "NCCL error: remote process exited or there was a network error",
    ],
)
def test_a_rank_that_is_gone_is_said_in_one_line(text):
    with pytest.raises(RankError, match="Another process of this run has ended"), naming_lost_ranks():
        raise RuntimeError(text)
    with pytest.raises(RuntimeError, match="shapes"), naming_lost_ranks():
        raise RuntimeError("shapes differ")


def away(deviations, tokens):
    """Sums over tokens of how far ratios are away from 1."""
    return guards._Away(deviations, 0, tokens)


STRATEGY = SimpleNamespace(world_size=2, root_device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("exact", "mine", "others", "said"),
    [
        (True, (1e-6, "mine", away(0.0, 10)), (0.7, "theirs", away(9.0, 10)), "0.7 away from 1(.|\n)*Largest: theirs"),
        (
            False,
            (0.1, "mine", away(0.1, 90)),
            (0.5, "theirs", away(5.0, 10)),
            "0.051 away from 1(.|\n)*Largest: theirs",
        ),
        (False, (0.1, "mine", away(0.1, 990)), (0.5, "theirs", away(5.0, 10)), None),
    ],
)
def test_the_comparison_with_the_sampler_is_of_the_tokens_of_all_ranks(beside, exact, mine, others, said):
    """A rank with few tokens, and those far off, does not stop a run whose mean is within the tolerance."""
    beside((*others, away(0.0, 0)))
    mismatch = SamplerMismatch(None, exact=exact)
    mismatch.largest, mismatch.offender, sums = mine
    mismatch.deviations, mismatch.tokens = sums.deviations, sums.tokens
    if said is None:
        mismatch.check(STRATEGY, 0)
        return
    with pytest.raises(TrainingError, match=said):
        mismatch.check(STRATEGY, 0)


def test_the_loss_of_a_step_that_is_not_finite_is_that_of_all_ranks():
    def reduce(value, reduce_op):
        return value + float("nan") if reduce_op == "sum" else torch.tensor(1.0)

    strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=reduce)
    with pytest.raises(TrainingError, match=r"the last: loss nan, gradient norm 0\.5"):
        FiniteSteps(0).allows(strategy, 0.25, torch.tensor(0.5))


def module_with(failures_here, failures_anywhere):
    prompts = Prompts(("1 + 1?",), ("2",), ((1,),), (0,))
    rewards = Rewards(torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool), failures=failures_here)
    counts = {f"reward/failures/{kind}": 0.0 for kind in ("error", "timeout")}
    metrics = {**counts, "reward/failures/unscorable": float(failures_anywhere)}
    rollouts = SimpleNamespace(completions=(("a", "b"),))
    return SimpleNamespace(last_metrics=metrics, last_rollouts=(prompts, rollouts, rewards, None), iteration=3)


def test_rewards_that_failed_on_another_rank_are_written_down(beside, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(callbacks, "GroupRLModule", SimpleNamespace)
    theirs = [{"iteration": 3, "kind": "error", "reason": "no", "problem": "2 + 2?", "completion": "c"}]
    beside(theirs)
    written = RewardFailures(tmp_path)
    for rank, failed in ((0, ()), (0, (Failure(0, 1, "unscorable", "nan"),)), (1, ())):
        trainer = SimpleNamespace(is_global_zero=rank == 0, world_size=2)
        written.on_train_batch_end(trainer, module_with(failed, len(failed) + 1))
    rows = [json.loads(line) for line in (tmp_path / "reward_failures.jsonl").read_text().splitlines()]
    mine = {"iteration": 3, "kind": "unscorable", "reason": "nan", "problem": "1 + 1?", "completion": "b"}
    assert rows == [*theirs, mine, *theirs]
    assert caplog.text.count("got no reward") == 1


OWN = """
import math, os

RANK = int(os.environ.get("LOCAL_RANK", "0"))

class Reward:
    def __init__(self, how):
        self.how = how

    def __call__(self, completions, prompts):
        scores = [[float(len(text) % 5) for text in row] for row in completions]
        if RANK == 1 and self.how == "one":
            scores[0][0] = math.nan
        if RANK == 1 and self.how == "all":
            return [[math.nan] * len(row) for row in completions]
        return scores

class Advantage:
    def __call__(self, rewards, *, valid=None, parts=None):
        if RANK == 1:
            raise ZeroDivisionError("on purpose")
        return rewards - rewards.mean(-1, keepdim=True)
"""
REWARD = ["reward=custom", "reward._target_=own.Reward"]


@pytest.fixture
def on_two_ranks(tmp_path):
    """Run train.py on two processes that exchange over gloo."""
    (tmp_path / "own.py").write_text(OWN)

    def run(*options):
        ranks = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "hydra.run.dir=run"]
        command = [sys.executable, str(ROOT / "train.py"), *SMALL, *ranks, *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=300, env=environment
        )
        return done, json.loads((tmp_path / "run" / "result.json").read_text())

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([*REWARD, "+reward.how=all"], "On rank 1 of 2: No completion of this iteration could be scored"),
        (["advantage=custom", "advantage._target_=own.Advantage"], "On rank 1 of 2: ZeroDivisionError: on purpose"),
    ],
)
def test_a_run_that_fails_on_one_rank_ends_on_both_with_one_message(on_two_ranks, options, said):
    done, result = on_two_ranks(*options)
    assert done.returncode == 1
    assert done.stderr.count("On rank 1 of 2") == 1
    assert said in done.stderr
    assert "Connection closed" not in done.stderr
    assert result["state"] == "failed"
    assert said in result["error"]


@pytest.mark.slow
def test_a_reward_that_fails_for_one_completion_on_one_rank_is_counted_and_kept(on_two_ranks, tmp_path):
    """And one held-out problem, of which the other rank has none, is measured."""
    done, result = on_two_ranks(*REWARD, "+reward.how=one", "data.heldout_size=1")
    assert (done.returncode, result["state"]) == (0, "finished"), done.stderr
    assert len((tmp_path / "run" / "reward_failures.jsonl").read_text().splitlines()) == 2
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["reward/failures/unscorable"] for row in rows if "reward" in row] == [1.0, 1.0]
    assert result["metrics"]["heldout/pass@1/after/count"] == 1


def test_an_interrupt_that_is_no_signals_is_held_as_any_error():
    class OfASignal(KeyboardInterrupt):
        """As the handlers of signals raise it."""

    failure = SharedFailure()
    with failure.holding(2):
        raise KeyboardInterrupt
    assert type(failure.error) is KeyboardInterrupt
    with pytest.raises(OfASignal), SharedFailure().holding(2):
        raise OfASignal
    with pytest.raises(KeyboardInterrupt), SharedFailure().holding(1):
        raise KeyboardInterrupt
