"""What was not planned before the first run: seeds, arms, bases and margins that came later, and plans that came after."""

from dataclasses import replace
from pathlib import Path

import pytest
from helpers.runs import prints
from helpers.studies import HARD, make_run

from grouprl.cli import compare
from grouprl.studies.beginning import begin
from grouprl.studies.plan import plan_of, read_plan
from grouprl.studies.table import progress
from grouprl.studies.verdict import judge

SEEDS = [str(seed) for seed in range(6)]


def test_another_margin_on_the_command_line_is_exploratory(study, capsys):
    study({"tiny": 0.0})
    planned_code, first = prints(compare.main, capsys)("s")
    code, text = prints(compare.main, capsys)("s", "--margin", "60")
    assert code == planned_code
    assert text.splitlines()[0] == first.splitlines()[0]
    planned, later = text.split("## exploratory: margin is 1.0 in the plan, and 60.0 here")
    assert "equivalent" not in planned
    assert "equivalent within 60 points" in later


@pytest.mark.slow
def test_seeds_that_were_added_are_exploratory(study, capsys):
    """The planned ones are judged as planned; all of them together are said beside."""
    plan = study({"tiny": 0.05}, seeds=4)
    more = plan_of({"policy": ["tiny"], "advantage": ["rank", "zscore"], "seed": [str(n) for n in range(6)]}, [])
    for seed in (4, 5):
        for advantage, gain in (("rank", 0.0), ("zscore", 0.05)):
            folder = Path(f"s/tiny-{advantage}-{seed}")
            make_run(folder, advantage=advantage, seed=seed, chances=HARD + gain, policy="tiny")
    later = begin(more, Path("s"))
    assert later.seeds == plan.seeds
    assert "4 seeds, and 2 seeds added later, which are exploratory: 12 runs." in later.describe()[1]
    assert progress(Path("s")).startswith("study: 12 of 12 runs done")
    found = judge(later, Path("s"))
    assert found.bases["policy=tiny"].arms[0].seeds == (0, 1, 2, 3)
    assert found.exploratory.bases["policy=tiny"].arms[0].seeds == tuple(range(6))
    assert "exploratory, with what was added later: " in prints(compare.main, capsys)("s")[1]


@pytest.mark.slow
def test_an_arm_and_a_base_that_were_added_are_exploratory(study, capsys):
    """The planned pair keeps its verdict; all pairs together are said beside, at one level."""
    plan = study({"tiny": 0.05})
    planned = judge(plan, Path("s"))
    for seed in range(6):
        for policy, advantage, gain in (("tiny", "rloo", 0.10), ("tiny_b", "rank", 0.0), ("tiny_b", "zscore", 0.05)):
            make_run(
                Path(f"s/{policy}-{advantage}-{seed}"),
                advantage=advantage, seed=seed, chances=HARD + gain, policy=policy,
            )  # fmt: skip
    more = plan_of({"policy": ["tiny", "tiny_b"], "advantage": ["rank", "zscore", "rloo"], "seed": SEEDS}, [])
    later = begin(more, Path("s"))
    assert (list(later.arms), list(later.later_arms)) == (["advantage=rank", "advantage=zscore"], ["advantage=rloo"])
    assert list(later.later_bases) == ["policy=tiny_b"]
    assert read_plan(Path("s")) == later == begin(more, Path("s"))
    assert later.digest == plan.digest
    found = judge(later, Path("s"))
    assert found.lines() == planned.lines()
    assert [pair.verdict for pair in found.bases["policy=tiny"].pairs] == planned.lines()
    exploratory = found.exploratory
    assert [len(of.pairs) for of in exploratory.bases.values()] == [3, 1]
    assert not exploratory.complete
    text = prints(compare.main, capsys)("s")[1]
    assert "exploratory: arm advantage=rloo was added\n" in text
    assert "exploratory, with what was added later: so far, policy=tiny: advantage=rloo is better than" in text


@pytest.mark.slow
def test_seeds_that_were_added_and_cannot_be_compared_leave_the_planned_verdict(study, capsys):
    study({"tiny": 0.2}, seeds=4)
    for advantage in ("rank", "zscore"):
        for seed in (4, 5):
            run = Path(f"s/tiny-{advantage}-{seed}")
            make_run(run, advantage=advantage, seed=seed, chances=HARD, policy="tiny", package="b")
    swept = {"policy": ["tiny"], "advantage": ["rank", "zscore"], "seed": [str(n) for n in range(6)]}
    begin(plan_of(swept, []), Path("s"))
    code, text = prints(compare.main, capsys)("s")
    assert code == 0
    assert text.startswith("advantage=zscore is better")
    assert "exploratory, with what was added later: " in text
    assert "other versions of grouprl" in text


def test_a_plan_that_comes_after_its_runs_is_exploratory(study, capsys):
    first = study({"tiny": 0.3})
    assert judge(first, Path("s")).decided
    Path("s/study.json").unlink()
    swept = {"policy": ["tiny"], "advantage": ["rank", "zscore"], "seed": SEEDS}
    plan = begin(plan_of(swept, []), Path("s"))
    assert plan.changes == ("written after 12 of its runs had ended (tiny-rank-0, tiny-rank-1, tiny-rank-2, ...)",)
    code, text = prints(compare.main, capsys)("s")
    assert "exploratory: written after 12 of its runs had ended" in text
    assert (code, text.startswith("exploratory, advantage=zscore is better than advantage=rank")) == (3, True)
    assert "Next: the same on other seeds, whose plan is there before its runs" in text
    package = begin(replace(plan, conditions={"package": "a"}), Path("s"))
    assert package.changes == plan.changes
    Path("s/study.json").unlink()
    first = begin(plan_of({"advantage": ["a", "b"], "seed": SEEDS}, [], conditions={"package": "a"}), Path("s"))
    second = begin(plan_of({"advantage": ["a", "b"], "seed": SEEDS}, [], conditions={"package": "b"}), Path("s"))
    assert (first.changes, second.changes) == (
        (),
        ("the package was a before, and is b: runs are made anew",),
    )


def test_a_plan_of_seeds_that_another_study_has_shown_is_exploratory(study):
    study({"tiny": 0.3})
    swept = {"policy": ["tiny"], "advantage": ["rank", "zscore"], "seed": [str(n) for n in range(12)]}
    plan = begin(plan_of(swept, []), Path("t"))
    assert plan.is_late
    assert plan.changes == (
        "written after 12 of its runs had ended (s/tiny-rank-0, s/tiny-rank-1, s/tiny-rank-2, ...)",
    )
    others = begin(plan_of(swept | {"seed": ["20", "21"]}, []), Path("u"))
    assert others.changes == ()
