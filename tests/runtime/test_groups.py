"""Groups without a signal are drawn anew from other prompts, what was sampled for them counts, and a share can be left out."""

import json

import pytest
import torch
from helpers.batches import prompts_of

from grouprl.batch import Rollouts
from grouprl.files import read_json
from grouprl.rewards.base import Failure, Rewards
from grouprl.runtime.groups import GroupFilter, Groups, draw_groups
from grouprl.training.datamodule import PromptStream


def drawn(prompts, values, width=3, failures=()):
    """Groups of two whose completion tokens name their prompt, and whose rewards are given."""
    rows, size = len(prompts), (len(prompts), 2)
    values = torch.tensor(values, dtype=torch.float32)
    ids = torch.tensor([ids[0] for ids in prompts.token_ids])
    longest = max(map(len, prompts.token_ids))
    rollouts = Rollouts(
        prompt_ids=ids.unsqueeze(-1).expand(rows, longest).clone(),
        prompt_mask=torch.arange(longest) >= longest - torch.tensor([[len(p)] for p in prompts.token_ids]),
        completion_ids=ids[:, None, None].expand(*size, width).clone(),
        completion_mask=torch.ones(*size, width, dtype=torch.bool),
        sampler_logprobs=torch.full((*size, width), -1.0),
        truncated=torch.zeros(size, dtype=torch.bool),
        completions=tuple((f"{i}a", f"{i}b") for i in ids.tolist()),
    )
    rewards = Rewards(values, torch.ones(size, dtype=torch.bool), {"correct": values}, tuple(failures))
    return Groups(prompts, rollouts, rewards, values - values.mean(-1, keepdim=True), tokens=rows * 2 * width)


def spare(*rows, rounds):
    from dataclasses import replace

    prompts = prompts_of(*rows)
    return replace(prompts, spares=len(prompts) - len(prompts) // rounds)


class Draws:
    """Gives groups whose rewards are prescribed by the first token of their prompt."""

    def __init__(self, rewards):
        self.rewards, self.asked = rewards, []

    def __call__(self, prompts):
        firsts = [ids[0] for ids in prompts.token_ids]
        self.asked.append(firsts)
        failures = [Failure(row, 0, "error", f"of {first}") for row, first in enumerate(firsts) if first == 6]
        return drawn(prompts, [self.rewards[first] for first in firsts], width=2 + len(self.asked), failures=failures)


SPOKEN, SILENT = [0.0, 1.0], [1.0, 1.0]


def test_silent_groups_give_way_to_spare_ones_and_the_rest_stays():
    draw = Draws({1: SPOKEN, 2: SILENT, 3: SILENT, 4: SILENT, 5: SPOKEN, 6: SPOKEN, 7: SPOKEN, 8: SPOKEN, 9: SPOKEN})
    groups = draw_groups(draw, spare([1], [2], [3, 3], [4], [5, 5, 5, 5], [6], [7], [8], [9], rounds=3), 3)
    assert draw.asked == [[1, 2, 3], [4, 5], [7]]
    assert [ids[0] for ids in groups.prompts.token_ids] == [1, 5, 7]
    assert groups.prompts.indices == (0, 4, 6)
    assert groups.rollouts.completions == (("1a", "1b"), ("5a", "5b"), ("7a", "7b"))
    assert groups.rollouts.completion_ids[:, :, 0].tolist() == [[1, 1], [5, 5], [7, 7]]
    assert groups.rollouts.completion_mask.sum(-1).tolist() == [[3, 3], [4, 4], [5, 5]]
    assert groups.rollouts.prompt_mask.sum(-1).tolist() == [1, 4, 1]
    assert groups.rollouts.prompt_mask[:, -1].all()  # still padded on the left
    assert groups.rewards.values.tolist() == [SPOKEN] * 3 == groups.rewards.parts["correct"].tolist()
    assert groups.without_signal == []
    assert (groups.replaced, groups.resampled) == (2, 3)
    assert groups.tokens == 3 * 2 * 3 + 2 * 2 * 4 + 1 * 2 * 5  # those that were given up as well


def test_what_stays_silent_after_the_last_round_is_kept():
    draw = Draws({1: SILENT, 2: SPOKEN, 3: SILENT, 6: SILENT})
    groups = draw_groups(draw, spare([1], [2], [3], [6], rounds=2), 2)
    assert draw.asked == [[1, 2], [3]]
    assert [ids[0] for ids in groups.prompts.token_ids] == [1, 2]
    assert groups.without_signal == [0]
    assert (groups.replaced, groups.resampled) == (0, 1)


@pytest.mark.parametrize(("share", "groups", "count"), [(0.25, 2, 0), (0.5, 1, 0), (0.75, 1, 1)])
def test_a_share_that_is_none_or_all_of_the_groups_is_refused(share, groups, count):
    with pytest.raises(
        ValueError, match=rf"filter.drop={share} of the {groups} groups of a process is {count} of them"
    ):
        GroupFilter(drop=share).kept(prompts_of(*[[1]] * groups), seed=0)


def test_without_spares_or_silence_nothing_more_is_drawn():
    draw = Draws({1: SILENT, 2: SPOKEN, 3: SPOKEN, 4: SPOKEN})
    assert draw_groups(draw, prompts_of([1], [2])).tokens == 2 * 2 * 3
    draw_groups(draw, spare([2], [3], [4], [4], rounds=2), 2)
    assert draw.asked == [[1, 2], [2, 3]]


@pytest.mark.parametrize(("prompts", "rounds"), [(prompts_of([1], [2]), 3), (spare([1], [2], rounds=2), 1)])
def test_a_filter_and_data_that_know_of_other_rounds_are_refused(prompts, rounds):
    """Else groups without a signal would stay, or all be drawn again, without a word."""
    with pytest.raises(ValueError, match=rf"PromptDataModule\(\.\.\., rounds={rounds}\)"):
        draw_groups(Draws({1: SPOKEN, 2: SPOKEN}), prompts, rounds)


def test_failures_go_with_their_groups():
    draw = Draws({1: SPOKEN, 2: SILENT, 6: SPOKEN, 7: SPOKEN})
    groups = draw_groups(draw, spare([1], [2], [6], [7], rounds=2), 2)
    assert [(failure.prompt, failure.reason) for failure in groups.rewards.failures] == [(1, "of 6")]
    draw = Draws({1: SPOKEN, 6: SILENT, 7: SPOKEN, 8: SPOKEN})
    assert draw_groups(draw, spare([1], [6], [7], [8], rounds=2), 2).rewards.failures == ()


@pytest.mark.parametrize(("world_size", "rounds"), [(1, 1), (1, 3), (2, 3)])
def test_no_prompt_of_the_stream_is_met_twice_in_an_epoch(world_size, rounds):
    prompts = prompts_of(*[[n] for n in range(24)])
    streams = [
        PromptStream(prompts, steps=9, prompts_per_step=4, seed=0, rank=rank, world_size=world_size, rounds=rounds)
        for rank in range(world_size)
    ]
    seen, keys = [], set()
    for iteration in range(24 // (4 * rounds)):
        for stream in streams:
            item = stream[iteration]
            assert item.spares == (rounds - 1) * 4 // world_size
            seen += [ids[0] for ids in item.token_ids]
            keys |= {(item.iteration, index) for index in item.indices}
    assert sorted(seen) == list(range(24))
    assert len(keys) == 24  # no two draws share their randomness


def test_a_share_is_left_out_by_lot():
    prompts = prompts_of(*[[n] for n in range(16)])
    kept = GroupFilter(drop=0.75).kept(prompts, seed=1)
    assert int(kept.sum()) == 4
    assert torch.equal(kept, GroupFilter(drop=0.75).kept(prompts, seed=1))
    assert not torch.equal(kept, GroupFilter(drop=0.75).kept(prompts, seed=2))
    assert GroupFilter().kept(prompts, seed=1).all()


@pytest.mark.parametrize(("option", "wanted"), [("filter.rounds=0", "at least 1"), ("filter.drop=1.0", "below 1")])
def test_filters_that_cannot_work_are_refused(option, wanted, train, capsys):
    assert train(option) == 2
    assert wanted in capsys.readouterr().err


def rows_of(run):
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "reward" in row]


@pytest.mark.slow
def test_a_run_draws_again_and_says_so(train, tmp_path):
    options = ["group_size=2", "eval_every=0", "reward=correct"]
    for name, more in {"all": [], "informative": ["filter=informative"], "dropped": ["filter.drop=0.5"]}.items():
        assert train(*options, *more, f"hydra.run.dir={name}") == 0
    everything, informative, dropped = (rows_of(tmp_path / name) for name in ("all", "informative", "dropped"))
    first, again = everything[0], informative[0]
    assert again["groups/without_signal"] == first["groups/without_signal"] - again["groups/replaced"]
    assert sum(row["groups/replaced"] for row in informative) > 0 == everything[0]["groups/replaced"]
    for row in everything:
        assert row["tokens/sampled"] == pytest.approx(row["completion/length"] * 4 * 2)
    assert informative[0]["tokens/sampled"] > informative[0]["completion/length"] * 4 * 2
    assert dropped[0]["tokens/sampled"] == everything[0]["tokens/sampled"]
    assert dropped[0]["ppo/grad_norm"] != everything[0]["ppo/grad_norm"]
    assert read_json(tmp_path / "informative" / "result.json")["choices"]["filter"] == "informative"
