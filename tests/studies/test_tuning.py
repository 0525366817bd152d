"""What equal tuning takes for each arm: the best mean over the tuning's own seeds, and whether it lies inside of the grid."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.studies import change, make_run

from grouprl.studies.beginning import begin
from grouprl.studies.plan import OutcomeError, Tuning, plan_of
from grouprl.studies.tuning import Tried, table, tried, tuned

GRID = ("0.0005", "0.001", "0.002")


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """Rank does best with the middle value, z-score with the last one; a seed of the study itself is no part of it."""
    monkeypatch.chdir(tmp_path)
    chances = {"rank": (0.3, 0.7, 0.5), "zscore": (0.3, 0.5, 0.8)}
    for arm, of_arm in chances.items():
        for value, chance in zip(GRID, of_arm, strict=True):
            for seed in (7, 8):
                make_run(Path(f"s/{arm}-{value}-{seed}"), advantage=arm, seed=seed, chances=chance, lr=value)
        make_run(Path(f"s/{arm}-own"), advantage=arm, seed=0, chances=1.0, lr=GRID[0])
    swept = {"advantage": ["rank", "zscore"], "seed": ["0", "1"]}
    return begin(plan_of(swept, [], tuning=Tuning("lr", GRID, (7, 8))), Path("s"))


def test_an_arm_takes_the_value_with_the_best_mean(plan):
    attempts = tried(plan, Path("s"))
    assert [len(scores) for one in attempts for scores in one.scores.values()] == [2] * 6
    (best,) = tuned(plan, Path("s")).tuned.values()
    assert best == {"advantage=rank": "0.001", "advantage=zscore": "0.002"}
    text = "\n".join(table(plan, attempts))
    assert "not tuned: the best lr of advantage=zscore" in text
    assert "the best lr of advantage=rank" not in text


def test_the_mean_over_seeds_decides_and_not_the_best_of_them():
    one = Tried("b", "a", {"1": (0.5, 0.5), "2": (0.9, 0.2), "3": (), "4": (0.1, 0.2)})
    assert (one.best, one.is_tuned) == ("2", True)
    assert Tried("b", "a", {"1": (0.5, 0.6), "2": (0.9, 0.1)}).best == "1"
    assert not Tried("b", "a", {"1": (0.5,), "2": (0.6,)}).is_tuned
    with pytest.raises(OutcomeError, match="no run of the tuning scored anything"):
        Tried("b", "a", {"1": (), "2": ()}).best


def test_a_value_that_lost_a_run_is_not_taken_for_what_is_left_of_it(plan):
    """The best of rank's values, one of whose runs fails before its first evaluation."""
    lost = Path("s/rank-0.001-8")
    for file in (lost / "heldout").iterdir():
        file.unlink()
    change(lost, state="failed")
    one, _ = tried(plan, Path("s"))
    assert [len(scores) for scores in one.scores.values()] == [2, 1, 2]
    assert one.best == "0.002"
    assert "(1 of 2 runs)" in "\n".join(table(plan, [one]))
