"""A reward on another scale, or with outliers: its order, what is drawn, and what advantages make of it."""

import pytest
import torch

from grouprl.advantages.baselines import LeaveOneOutAdvantage
from grouprl.advantages.rank import RankAdvantage
from grouprl.batch import Prompts
from grouprl.rewards.controls import RandomReward, WrongLabelReward
from grouprl.rewards.warped import WarpedReward

VALUES = [[0.0, 0.5, -0.25, 0.7, 1.0, float("nan")], [0.5] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]]


def score(iteration=1, **settings):
    prompts = Prompts(["p"] * 3, ["a"] * 3, ["x"] * 3, (0, 1, 2), iteration=iteration)
    return WarpedReward(lambda completions, prompts: VALUES, **settings)([["t"] * 6] * 3, prompts)


def test_a_power_keeps_sign_order_and_what_could_not_be_scored():
    found = score(power=2.0)
    assert found.values[0, :5].tolist() == pytest.approx([0.0, 0.25, -0.0625, 0.49, 1.0])
    assert found.valid.tolist() == [[True] * 5 + [False], [True] * 6, [True] * 6]
    assert torch.equal(found.parts["unwarped"], score().values)
    rank, mean = RankAdvantage(), LeaveOneOutAdvantage()
    assert torch.equal(rank(found.values, valid=found.valid), rank(score().values, valid=score().valid))
    assert not torch.allclose(mean(found.values, valid=found.valid), mean(score().values, valid=score().valid))


def test_outliers_are_drawn_by_seed_iteration_and_place():
    every = score(outlier_share=1.0, outlier_factor=-3.0)
    assert torch.equal(every.values, -3 * score().values)
    some = [score(iteration=n, outlier_share=0.3).values for n in range(200)]
    multiplied = torch.stack([values[1] == 5.0 for values in some]).float()
    assert multiplied.mean() == pytest.approx(0.3, abs=0.05)
    assert len({tuple(values[1].tolist()) for values in some}) > 20
    assert torch.equal(some[7], score(iteration=7, outlier_share=0.3).values)
    assert not torch.equal(some[7], score(iteration=7, outlier_share=0.3, seed=1).values)


def test_outliers_are_drawn_apart_from_a_random_reward():
    prompts = Prompts(["p"] * 400, ["a"] * 400, ["x"] * 400, tuple(range(400)), iteration=1)
    values = WarpedReward(RandomReward(), outlier_share=0.1)([["t"] * 4] * 400, prompts).values
    assert (values == 10).sum() / (values > 0).sum() == pytest.approx(0.1, abs=0.03)
    with pytest.raises(ValueError, match="looks for labels"):
        WarpedReward(WrongLabelReward())


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"power": 0.0}, "reward.power=0"),
        ({"outlier_share": 1.5}, "reward.outlier_share=1.5"),
        ({"outlier_factor": float("inf")}, "reward.outlier_factor=inf"),
    ],
)
def test_what_is_no_distortion_is_refused(settings, wanted):
    with pytest.raises(ValueError, match=wanted):
        score(**settings)
