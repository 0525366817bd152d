"""What is said of a run that nobody would want: once, with the number and the option."""

import re

import pytest
import torch

from grouprl.training import callbacks
from grouprl.training.advice import RULES, rounded_away

SMALL = ["steps=2", "prompts_per_step=4", "group_size=4", "minibatches=1", "data.heldout_size=0", "threads=1"]


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith("iteration ")]


def test_completions_that_do_not_end_and_rewards_that_are_all_the_same_are_said_once(train, caplog):
    assert train(*SMALL, "max_new_tokens=8", "reward=correct", small=False) == 0
    truncated, constant = said(caplog)
    assert re.match(
        r"iteration 1: \d+% of the completions ran into max_new_tokens=8 without an end\. Raise it", truncated
    )
    assert "(<|im_end|>)" in truncated
    assert constant.startswith("iteration 1: every completion got the reward 0: ")
    assert "group_size=4" in constant


def test_a_run_that_learns_is_left_alone(train, caplog):
    assert train(*SMALL, "max_new_tokens=96", small=False) == 0
    assert said(caplog) == []


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"completion/truncated": 0.89}, []),
        ({"completion/truncated": 0.9}, ["truncated"]),
        ({"groups/without_signal": 0.99, "reward/std": 0.0}, []),
        ({"groups/without_signal": 1.0}, ["no signal"]),
        ({"groups/without_signal": 1.0, "reward/std": 0.0}, ["constant"]),
    ],
)
def test_when_a_rule_holds(change, found):
    metrics = {"completion/truncated": 0.0, "groups/without_signal": 0.5, "reward/std": 0.4} | change
    assert [name for name, rule in RULES.items() if rule.holds(metrics)] == found


def test_an_evaluation_that_takes_minutes_is_foreseen(train, monkeypatch, caplog):
    monkeypatch.setattr(callbacks, "SILENCE_S", 0.0)
    monkeypatch.setattr(callbacks, "_LONG_S", 1e-6)
    assert train(*SMALL[:-2], "data.heldout_size=4", "max_new_tokens=8", "threads=1", small=False) == 0
    (text,) = [r.getMessage() for r in caplog.records if "if no completion ends early" in r.getMessage()]
    assert text.startswith("evaluation after 0 iterations: up to ")
    assert "(data.heldout_size)" in text


def test_weights_whose_steps_are_rounded_away_are_counted():
    weights = torch.tensor([0.001, 0.02, 0.3, 4.0])
    # In bfloat16 numbers are 2^-8 of their size apart: half of that is 2e-6, 3e-5, 5e-4 and 8e-3 here.
    assert rounded_away([weights.bfloat16()], 1e-4) == 0.5
    assert rounded_away([weights.bfloat16()], 1e-6) == 1.0
    assert rounded_away([weights], 1e-6) == 0.0
    assert rounded_away([weights, weights.bfloat16()], 1e-6) == 0.5


@pytest.mark.parametrize(
    ("given", "warned"), [(["lr=1e-6"], True), (["lr=1e-6", "adapter=lora"], False), (["lr=0.1"], False)]
)
def test_bfloat16_weights_and_a_small_rate_are_said(train, caplog, given, warned):
    small = [*SMALL[1:], "steps=1", "max_new_tokens=8"]
    assert train(*small, *given, "policy.dtype=bfloat16", "mismatch_tolerance=100", small=False) == 0
    found = [r.getMessage() for r in caplog.records if "rounded away" in r.getMessage()]
    assert bool(found) == warned
    if warned:
        assert re.match(r"9\d\.\d% of the trained weights .*\(bfloat16\) that a step of lr=1e-06 is", found[0])
