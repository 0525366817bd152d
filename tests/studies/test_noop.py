"""Arms that cannot differ: each rule, the near miss where it keeps silent, and that their runs have equal bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.runs import same, weights
from omegaconf import OmegaConf

from grouprl.advantages.baselines import ZScoreAdvantage
from grouprl.advantages.rank import RankAdvantage
from grouprl.cli.config.compose import compose_job, without_hydra
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.study import check_arms, planned, split_study
from grouprl.studies.noop import no_ops

ONE_STEP = ["minibatches=1", "ppo_epochs=1"]
ONE_GROUP = ["prompts_per_step=4", "minibatches=4"]
SAME = {
    # name: what both have, what the first has, what the second has, a part of the reason
    "another KL estimator at beta 0": ([], ["loss/kl=k1"], ["loss/kl=k3"], "beta=0"),
    "another clip with one step": (ONE_STEP, ["eps_high=0.2"], ["eps_high=0.28"], "every ratio is 1"),
    "no clip with one step": (ONE_STEP, ["loss/gate=clip"], ["loss/gate=none"], "every ratio is 1"),
    "another clip with one step in bfloat16": (
        [*ONE_STEP, "trainer.precision=bf16-mixed"],
        ["eps_high=0.2"],
        ["eps_high=0.28"],
        "every ratio is 1",
    ),
    "a group's tokens or all": (
        ONE_GROUP,
        ["loss/aggregation=group_tokens"],
        ["loss/aggregation=batch_tokens"],
        "one group",
    ),
    "ties in groups of two": (["group_size=2"], ["advantage.ties=average"], ["advantage.ties=max"], "groups of two"),
    "ranks of two levels": (["reward=correct"], ["advantage=rank"], ["advantage=rloo"], "leave-one-out"),
    "ranks of a power": (["reward=warped"], ["reward.power=1"], ["reward.power=3"], "the order of rewards"),
    "ranks of a coin": (["reward=random"], ["advantage=rank"], ["advantage=rloo"], "leave-one-out"),
    "ranks of a majority": (["reward=majority"], ["advantage=rank"], ["advantage=rloo"], "leave-one-out"),
    "ranks of a wrong label": (["reward=wrong_label"], ["advantage=rank"], ["advantage=rloo"], "leave-one-out"),
    "another clip of sequences with one step": (
        [*ONE_STEP, "loss/ratio=sequence"],
        ["eps_high=0.2"],
        ["eps_high=0.28"],
        "every ratio is 1",
    ),
    "outliers that nobody draws": (
        ["reward=warped", "advantage=rloo"],
        ["reward.outlier_factor=5"],
        ["reward.outlier_factor=10"],
        "no outliers",
    ),
    "how often it is saved": ([], ["checkpoint_every=1"], ["checkpoint_every=2"], "no option of a run differs"),
}
NEAR_MISSES = {
    "another KL estimator": (["beta=0.1"], ["loss/kl=k1"], ["loss/kl=k3"]),
    "another clip with two steps": (["minibatches=2", "lr=2e-2"], ["eps_high=0.001"], ["eps_high=0.28"]),
    "another clip with two epochs": (
        ["minibatches=1", "ppo_epochs=2", "lr=2e-2"],
        ["eps_high=0.001"],
        ["eps_high=0.28"],
    ),
    "tokens of two groups": (["prompts_per_step=4", "minibatches=2"], ["loss=repo"], ["loss=dapo"]),
    "ties in groups of four": (["group_size=4"], ["advantage.ties=average"], ["advantage.ties=max"]),
    "ranks of more levels": (["reward=graded"], ["advantage=rank"], ["advantage=rloo"]),
    "a KL coefficient of its own": ([], ["loss.kl.beta=0"], ["loss.kl.beta=0.1"]),
    "a resolution that ties 0 and 1": (["reward=correct"], ["advantage.resolution=1e-6"], ["advantage.resolution=2"]),
    "means of a power": (["reward=warped", "advantage=rloo"], ["reward.power=1"], ["reward.power=3"]),
    "ranks of a power with outliers": (
        ["reward=warped", "reward.outlier_share=0.3"],
        ["reward.power=1"],
        ["reward.power=3"],
    ),
    "ranks of a power of levels that lie close": (
        ["reward=warped", "reward.reward.correct=0.99"],
        ["reward.power=1"],
        ["reward.power=3"],
    ),
    "outliers that are drawn": (
        ["reward=warped", "advantage=rloo", "reward.outlier_share=0.3"],
        ["reward.outlier_factor=5"],
        ["reward.outlier_factor=10"],
    ),
    "random ties of two levels": (["reward=correct"], ["advantage=rank_random"], ["advantage=rloo"]),
}


def found(common, first, second):
    arms = {
        name: OmegaConf.to_container(without_hydra(compose_job("train", [*common, *own])), resolve=True)
        for name, own in (("a", first), ("b", second))
    }
    return no_ops(arms)


@pytest.mark.parametrize("name", SAME)
def test_arms_that_are_the_same_are_found(name):
    common, first, second, why = SAME[name]
    (pair,) = found(common, first, second)
    assert pair.how == "same"
    assert why in pair.why


@pytest.mark.slow
@pytest.mark.parametrize("name", NEAR_MISSES)
def test_near_misses_are_left_alone(name):
    assert found(*NEAR_MISSES[name]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("common", "first", "second"),
    [
        ([*ONE_STEP, "policy.dtype=bfloat16"], ["eps_high=0.2"], ["eps_high=0.28"]),
        ([*ONE_STEP, "eps_low=3e-4"], ["eps_high=4e-4"], ["eps_high=1e-3"]),
        ([*ONE_STEP, "loss.gate.dual_clip=3"], ["eps_high=0.2"], ["eps_high=0.28"]),
        (["group_size=2"], ["advantage=rank_random"], ["advantage=rank"]),
        ([], ["on_out_of_memory=stop"], ["on_out_of_memory=halve"]),
        (["beta=0.1"], ["advantage=rloo"], ["advantage=centered"]),
        (
            ["optimizer=custom", "optimizer._target_=torch.optim.Adam", "+optimizer.weight_decay=1.0"],
            ["advantage=rloo"],
            ["advantage=centered"],
        ),
        (
            [*ONE_STEP, "loss/ratio=custom", "loss.ratio._target_=mine.ratio"],
            ["eps_high=0.2"],
            ["eps_high=0.28"],
        ),
    ],
)
def test_rounding_reduced_precision_and_kl_keep_the_rules_silent(common, first, second):
    assert found(common, first, second) == []


def test_two_rules_hold_together_and_a_class_by_its_path_is_read():
    (pair,) = found(["group_size=2", "reward=correct"], ["advantage=rank"], ["advantage=rloo"])
    assert pair.how == "same"
    own = ["advantage=custom", "advantage._target_=grouprl.advantages.rank.RankAdvantage"]
    assert found(own, ["lr=1e-3"], ["lr=2e-3"]) == []


def test_a_constant_that_adam_cancels_is_said():
    (pair,) = found([], ["advantage=rloo"], ["advantage=centered"])
    assert pair.how == "same up to a constant"
    assert found(["optimizer=sgd"], ["advantage=rloo"], ["advantage=centered"]) == []


@pytest.mark.slow
def test_in_groups_of_two_ranks_and_z_scores_are_one_sign():
    """Near misses: a group of four, an epsilon that is felt, an optimizer that keeps the factor, centered rewards."""
    (pair,) = found(["group_size=2"], ["advantage=rank"], ["advantage=zscore"])
    assert (pair.how, "groups of two ranks and z-scores are both the sign" in pair.why) == (
        "same up to a constant",
        True,
    )
    rewards = torch.tensor([[0.3, 0.9], [1.0, 0.35], [0.5, 0.5]])
    ranks, scores = (advantage(rewards) for advantage in (RankAdvantage(), ZScoreAdvantage()))
    torch.testing.assert_close(ranks, scores, rtol=1e-3, atol=0)
    for one, other in (("rank", "zscore"), ("zscore", "rloo"), ("centered", "zscore")):
        (pair,) = found(["group_size=2", "reward=correct"], [f"advantage={one}"], [f"advantage={other}"])
        assert pair.how == "same up to a constant"
    assert found(["group_size=2"], ["advantage=zscore"], ["advantage=centered"]) == []
    (pair,) = found(["reward=correct"], ["advantage=rank"], ["advantage=centered"])
    assert ("groups of two" in pair.why, "G / (G - 1)" in pair.why) == (False, True)
    for common, second in (
        (["group_size=4"], ["advantage=zscore"]),
        (["group_size=2"], ["advantage=zscore", "advantage.epsilon=0.1"]),
        (["group_size=2", "optimizer=sgd"], ["advantage=zscore"]),
        (["group_size=2"], ["advantage=centered"]),
    ):
        assert found(common, ["advantage=rank"], second) == []


def test_the_same_arms_are_refused_and_may_go_on_when_asked():
    def checked(*overrides):
        study, others = split_study(overrides, multirun=True)
        return check_arms(study, planned(study, others))

    arms = ["minibatches=1", "eps_high=0.2,0.28", "seed=0,1"]
    with pytest.raises(UsageError, match=r"(?s)eps_high=0\.2 and eps_high=0\.28 are the same: with one .*on_noop=warn"):
        checked(*arms)
    (note,) = checked(*arms, "on_noop=warn")
    assert note.startswith("note: eps_high=0.2 and eps_high=0.28 are the same: ")
    (note,) = checked("advantage=rloo,centered", "seed=0,1")
    assert "same up to a constant" in note
    with pytest.raises(UsageError, match="on_noop=x"):
        checked(*arms, "on_noop=x")


@pytest.mark.slow
def test_arms_that_are_the_same_on_one_base_are_refused_there():
    """As many minibatches as groups, which the policy's size decides: one base alone has them."""
    sweep = ["loss/aggregation=group_tokens,batch_tokens", "prompts_per_step=8", "seed=0,1"]
    for policies in ("tiny,smollm2", "smollm2,tiny"):
        study, others = split_study([*sweep, f"policy={policies}"], multirun=True)
        with pytest.raises(UsageError, match=r"on policy=tiny .*with one group a minibatch"):
            check_arms(study, planned(study, others))
        study, others = split_study([*sweep, f"policy={policies}", "on_noop=warn"], multirun=True)
        (note,) = check_arms(study, planned(study, others))
        assert note.endswith(" (on policy=tiny).")


BITS = ["max_new_tokens=64", "prompts_per_step=8", "minibatches=2", "steps=2", "lr=1e-3", "data.heldout_size=0"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME)
def test_their_runs_have_equal_bits(train, name):
    common, first, second, _ = SAME[name]
    for folder, own in (("a", first), ("b", second)):
        assert train(*BITS, *common, *own, f"hydra.run.dir={folder}") == 0
    assert same(weights(Path("a")), weights(Path("b")))


@pytest.mark.slow
@pytest.mark.parametrize("name", NEAR_MISSES)
def test_runs_of_near_misses_differ(train, name):
    common, first, second = NEAR_MISSES[name]
    for folder, own in (("a", first), ("b", second)):
        assert train(*BITS, *common, *own, f"hydra.run.dir={folder}") == 0
    assert not same(weights(Path("a")), weights(Path("b")))
