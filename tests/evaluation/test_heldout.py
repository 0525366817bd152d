"""Held-out problems measured in one go and in several: as many samples, each drawn anew."""

import pytest

from grouprl.data import prompts
from grouprl.data.problems import tiny_problems
from grouprl.evaluation.heldout import GREEDY, measure, rows_of, summarize
from grouprl.policy.load import load_policy
from grouprl.sampling.group import GroupSampler


@pytest.fixture(scope="module")
def measured():
    policy = load_policy("tiny")
    problems = prompts.encode(policy.tokenizer, tiny_problems(1, 16).heldout)

    def run(samples, at_once=None, seed=0):
        sampler = GroupSampler(group_size=4, max_new_tokens=48)
        return measure(policy, sampler, problems, samples=samples, seed=seed, at_once=at_once)

    return run


def drawn(results, start, end):
    return [(result.marks[start:end], result.lengths[start:end]) for result in results]


@pytest.mark.slow
def test_samples_in_several_goes_are_as_many_and_all_drawn_anew(measured):
    whole, parts = measured(4), measured(10, at_once=4)
    assert {result.samples for result in parts} == {10}
    assert drawn(parts, 0, 4) == drawn(whole, 0, 4)
    goes = [drawn(parts, 0, 2), drawn(parts, 4, 6), drawn(parts, 8, 10)]
    goes += [drawn(measured(10, at_once=4, seed=1), start, start + 2) for start in (0, 4, 8)]
    for number, go in enumerate(goes):  # nor does the next seed draw what this one did
        assert go not in goes[:number]
    assert [r.greedy_correct for r in parts] == [r.greedy_correct for r in whole]


def test_rows_and_estimates_are_of_the_same_samples(measured):
    results = measured(8, at_once=3)
    rows, estimates = rows_of(results), summarize(results)
    assert [row["problem"] for row in rows[::9]] == list(range(16))
    samples = [row for row in rows if row["sample"] != GREEDY]
    assert len(samples) == 16 * 8
    assert estimates["pass@1"].value == pytest.approx(sum(row["correct"] for row in samples) / len(samples))
    assert estimates["pass@8"].value == pytest.approx(sum(any(result.marks) for result in results) / 16)
    assert estimates["pass@1"].value <= estimates["pass@4"].value <= estimates["pass@8"].value
