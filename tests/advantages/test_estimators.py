import itertools
import math

import pytest
import torch

from grouprl import CenteredAdvantage, LeaveOneOutAdvantage, RankAdvantage, ZScoreAdvantage

ESTIMATORS = [
    RankAdvantage(),
    RankAdvantage(ties="min"),
    RankAdvantage(ties="max"),
    RankAdvantage(ties="dense"),
    ZScoreAdvantage(),
    ZScoreAdvantage(unbiased=True),
    CenteredAdvantage(),
    LeaveOneOutAdvantage(),
]


def close(actual, expected):
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=actual.dtype), atol=1e-6, rtol=0)


def test_rank_by_hand():
    rewards = torch.tensor([[0.1, 0.9, 0.5, 0.3], [1.0, 0.0, 0.0, 0.5]])
    close(RankAdvantage()(rewards), [[-1, 1, 1 / 3, -1 / 3], [1, -2 / 3, -2 / 3, 1 / 3]])


@pytest.mark.parametrize(
    ("ties", "expected"),
    [
        ("average", [-2 / 3, -2 / 3, 1 / 3, 1]),
        ("min", [-1, -1, 1 / 3, 1]),
        ("max", [-1 / 3, -1 / 3, 1 / 3, 1]),
        ("dense", [-1, -1, 0, 1]),
    ],
)
def test_ties(ties, expected):
    close(RankAdvantage(ties=ties)(torch.tensor([[0.0, 0.0, 0.5, 1.0]])), [expected])


def test_random_ties_are_a_seeded_order_of_the_ranks():
    rewards = torch.tensor([[0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]])
    first = RankAdvantage(ties="random", seed=1)(rewards)
    assert first[0, 3] == 1
    for row in first:
        assert torch.allclose(row.sort().values, torch.tensor([-1, -1 / 3, 1 / 3, 1]))
    assert torch.equal(first, RankAdvantage(ties="random", seed=1)(rewards))
    orders = {tuple(RankAdvantage(ties="random", seed=seed)(rewards)[1].tolist()) for seed in range(20)}
    assert len(orders) > 5


def test_zscore_centered_and_leave_one_out_by_hand():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    sigma = math.sqrt(3 / 16)
    close(ZScoreAdvantage()(rewards), [[0.75 / (sigma + 1e-4), *[-0.25 / (sigma + 1e-4)] * 3]])
    close(ZScoreAdvantage(unbiased=True)(rewards), [[0.75 / 0.5001, *[-0.25 / 0.5001] * 3]])
    close(CenteredAdvantage()(rewards), [[0.75, -0.25, -0.25, -0.25]])
    close(LeaveOneOutAdvantage()(rewards), [[1.0, -1 / 3, -1 / 3, -1 / 3]])


@pytest.mark.parametrize("group", range(2, 13))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rank_is_leave_one_out_bit_for_bit_on_binary_rewards(group, dtype):
    rewards = torch.tensor(list(itertools.product((0.0, 1.0), repeat=group)), dtype=dtype)
    assert torch.equal(RankAdvantage()(rewards), LeaveOneOutAdvantage()(rewards))


@pytest.mark.parametrize("advantage", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("value", [0.7, 0.1 + 0.2, 1 / 3, -1e-3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_rewards_give_exactly_zero(advantage, value, dtype):
    for group in range(2, 65):
        assert torch.count_nonzero(advantage(torch.full((3, group), value, dtype=dtype))) == 0


def test_sums_in_another_order_are_a_tie():
    rewards = torch.tensor([[(0.1 + 0.2) + 0.7, 0.1 + (0.2 + 0.7)]], dtype=torch.float64)
    assert rewards[0, 0] != rewards[0, 1]
    assert torch.count_nonzero(RankAdvantage()(rewards)) == 0
    assert torch.count_nonzero(RankAdvantage(resolution=0)(rewards)) == 2


@pytest.mark.parametrize("advantage", ESTIMATORS, ids=repr)
def test_invalid_samples_leave_the_statistics(advantage):
    rewards = torch.tensor([[0.2, 9.0, 0.5, 1.0], [0.3, 0.1, 7.0, 8.0]])
    valid = torch.tensor([[True, False, True, True], [True, False, False, False]])
    rewards[~valid] = torch.nan
    result = advantage(rewards, valid=valid)
    expected = advantage(torch.tensor([[0.2, 0.5, 1.0]]))
    torch.testing.assert_close(result[0, [0, 2, 3]], expected[0])
    assert result[0, 1] == 0
    assert torch.count_nonzero(result[1]) == 0


@pytest.mark.parametrize("advantage", [RankAdvantage(), ZScoreAdvantage(), CenteredAdvantage(), LeaveOneOutAdvantage()])
def test_groups_do_not_mix_and_sum_to_zero(advantage):
    rewards = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    together = advantage(rewards)
    apart = torch.cat([advantage(row.unsqueeze(0)) for row in rewards])
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(together.sum(-1), torch.zeros(5), atol=1e-5, rtol=0)
    assert together.dtype == rewards.dtype


def test_larger_reward_larger_advantage():
    rewards = torch.tensor([[0.1, 0.4, 0.2, 0.8]])
    for advantage in ESTIMATORS:
        assert torch.equal(advantage(rewards).argsort(), rewards.argsort())


def test_refusals_name_the_key():
    with pytest.raises(ValueError, match=r"advantage.ties=mean: choose one of average"):
        RankAdvantage(ties="mean")
    with pytest.raises(ValueError, match="group_size=1"):
        RankAdvantage()(torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"\[prompts, group\]"):
        RankAdvantage()(torch.zeros(3))
    with pytest.raises(ValueError, match="NaN"):
        RankAdvantage()(torch.tensor([[0.0, torch.nan]]))
