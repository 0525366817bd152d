"""What a study asks: arms, seeds and bases of a command line, written once and held to."""

import json

import pytest

from grouprl.files import FileError
from grouprl.statistics.sequential import nominal_level
from grouprl.studies.beginning import begin
from grouprl.studies.plan import PLAN_FILE, StudyError, plan_of, question_of, read_plan

SWEPT = {"advantage": ["rank", "zscore"], "seed": ["0", "1", "2"]}


def test_swept_options_are_arms_but_for_seeds_and_bases():
    plan = plan_of({"policy": ["tiny", "tiny_b"], "loss": ["repo", "grpo"], **SWEPT}, ["lr=1e-3"])
    assert list(plan.arms) == [f"loss={a}, advantage={b}" for a in ("repo", "grpo") for b in ("rank", "zscore")]
    assert plan.arms["loss=grpo, advantage=rank"] == ("loss=grpo", "advantage=rank")
    assert plan.seeds == (0, 1, 2)
    assert list(plan.bases) == ["policy=tiny", "policy=tiny_b"]
    assert plan.runs == 24
    assert plan.compares
    as_arms = plan_of({"policy": ["tiny", "tiny_b"], "data.seed": ["0", "1"]}, ["seed=4"], arm_keys=["policy"])
    assert list(as_arms.arms) == ["policy=tiny", "policy=tiny_b"]
    assert list(as_arms.bases) == ["data.seed=0", "data.seed=1"]
    assert as_arms.seeds == (4,)
    assert not as_arms.compares


def test_what_is_asked_where_nobody_says():
    assert question_of(["lr=1", "lr=2"]) == "which lr is better: 1 or 2?"
    assert question_of(["lr=1, seed=0", "lr=2, seed=0"]) == "which is better: lr=1, seed=0 or lr=2, seed=0?"
    assert question_of(["A", "B", "C"]) == "which is best: A, B or C?"
    assert question_of(["all runs"]) == "what does all runs end with?"


def test_one_arm_is_a_study_that_compares_nothing():
    plan = plan_of({"seed": ["0", "1"]}, [])
    assert list(plan.arms) == ["all runs"]
    assert (plan.runs, plan.compares) == (2, False)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"margin": 0.0}, "margin=0"),
        ({"metric": "best"}, "metric=best"),
        ({"baseline": "advantage=rloo"}, "no arm of this study"),
        ({"looks": (4, 3)}, "rising numbers of seeds"),
        ({"arm_keys": ["lr"]}, "lr is not swept"),
    ],
)
def test_a_plan_that_cannot_be(settings, wanted):
    with pytest.raises(ValueError, match=wanted):
        plan_of(SWEPT, [], **settings)


def test_what_can_be_seen_is_announced_at_the_level_of_the_verdict():
    """By hand: 15 pairs of six arms, and the last of four looks."""
    six = plan_of({"advantage": list("abcdef"), "seed": [str(n) for n in range(6)]}, [])
    assert six.planned_level == pytest.approx(0.05 / 15)
    assert "a difference of 2.68 standard deviations" in "\n".join(six.describe())
    looks = plan_of({"advantage": ["a", "b"], "seed": [str(n) for n in range(12)]}, [], looks=(6, 8, 10, 12))
    assert looks.planned_level == nominal_level((6, 8, 10, 12))
    assert "a difference of 1.04 standard deviations" in "\n".join(looks.describe())
    assert "a difference of 1.43 standard deviations" in "\n".join(
        plan_of({"advantage": ["a", "b"], "seed": [str(n) for n in range(6)]}, []).describe()
    )


def test_a_plan_is_written_once_and_what_comes_later_is_a_change(tmp_path):
    first = begin(plan_of(SWEPT, ["lr=1e-3"]), tmp_path)
    assert read_plan(tmp_path) == first
    assert begin(plan_of(SWEPT, ["lr=1e-3"]), tmp_path) == first
    more = SWEPT | {"seed": ["0", "1", "2", "3"], "advantage": ["rank", "zscore", "rloo"]}
    later = begin(plan_of(more, ["lr=1e-3"], margin=2.0), tmp_path)
    assert (later.arms, later.seeds, later.margin, later.digest) == (first.arms, first.seeds, 1.0, first.digest)
    assert later.changes == (
        "arm advantage=rloo was added",
        "seeds 3 were added",
        "margin was 1.0, and 2.0 was asked for later",
    )
    assert begin(plan_of(more, ["lr=1e-3"], margin=2.0), tmp_path) == later
    assert read_plan(tmp_path) == later


def test_another_study_does_not_go_into_the_folder(tmp_path):
    begin(plan_of(SWEPT, ["steps=40"]), tmp_path)
    for other in (plan_of(SWEPT, ["steps=20"]), plan_of({"lr": ["1e-3", "1e-4"]}, ["steps=40"])):
        with pytest.raises(StudyError, match=r"holds another study .*advantage is better: rank.*study=NAME"):
            begin(other, tmp_path)
    with pytest.raises(StudyError, match=r"its runs have steps=40, these lr=1e-3"):
        begin(plan_of(SWEPT, ["lr=1e-3"]), tmp_path)


def test_a_sweep_that_compares_nothing_makes_room(tmp_path):
    begin(plan_of({"seed": ["0", "1"]}, ["steps=40"]), tmp_path)
    now = begin(plan_of(SWEPT, ["steps=20"]), tmp_path)
    assert read_plan(tmp_path) == now


def test_a_study_that_looks_is_not_given_other_looks(tmp_path):
    begin(plan_of(SWEPT, [], looks=(2, 3)), tmp_path)
    for other in (plan_of(SWEPT, []), plan_of(SWEPT, [], looks=(3,))):
        with pytest.raises(StudyError, match=r"looks after \[2, 3\] seeds, which was decided before its first run"):
            begin(other, tmp_path)


@pytest.mark.parametrize("damage", ["margin", "arms", "text", "gone", "changes"])
def test_a_plan_that_was_changed_is_refused(tmp_path, damage):
    begin(plan_of(SWEPT, []), tmp_path)
    file = tmp_path / PLAN_FILE
    content = json.loads(file.read_text())
    if damage == "margin":
        content["margin"] = 5.0
    elif damage == "arms":
        content["arms"] = {"a": 1}
    elif damage == "changes":
        content["changes"] = ["nothing"]
    elif damage == "gone":
        del content["seeds"]
    file.write_text("{" if damage == "text" else json.dumps(content))
    with pytest.raises(FileError, match=PLAN_FILE):
        read_plan(tmp_path)
