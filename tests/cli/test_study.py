"""Options of a study on the command line, and the plan that they make."""

import shlex
from types import SimpleNamespace

import pytest

from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.study import launcher, planned, split_study
from grouprl.cli.jobs.sweep import checked_sweep
from grouprl.statistics.seeds import seeds_needed
from grouprl.studies.show.step import next_study

ARMS = ["advantage=rank,zscore"]


def plan(*overrides):
    study, others = split_study(overrides, multirun=True)
    return planned(study, others)


def test_options_of_a_study_are_none_of_a_run():
    study, others = split_study([*ARMS, "jobs=2", "margin=0.5", "arms=[policy]", "lr=1e-3"], multirun=True)
    assert (study.jobs, study.margin, study.arms) == (2, 0.5, ["policy"])
    assert others == [*ARMS, "lr=1e-3"]
    assert split_study(["arms=policy"], multirun=True)[0].arms == ["policy"]


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["jobs=0"], "jobs=0"),
        (["jobs=two"], "jobs=two"),
        (["jobs=1,2"], "give one value"),
        (["until=tomorrow"], "until=decided"),
        (["looks=[6,8]"], "they belong to until=decided"),
        (["until=decided", "looks=[8,6]"], "rising numbers of seeds"),
        (["until=decided", "looks=[6,8]", "seed=0,1"], "2 seeds are given"),
        (["until=decided", "seed=0,1"], "2 seeds are given, and its first look is after 6"),
        (["until=decided", "seed=5"], "seed=5: until=decided takes a seed for each run"),
        (["seed=0,0"], "seed=0,0: 0 is there twice"),
        (["repeat=a,a", "seed=0,1"], "repeat=a,a: a is there twice"),
        (["controls=true", "reward=majority", "seed=0,1"], "reward=majority is one of the controls already"),
        (["margin=0"], "margin=0"),
        (["metric=best"], "metric=best"),
        (["baseline=rank"], "no arm of this study"),
        (["arms=[seed]", "seed=0,1"], "seeds are repetitions"),
        (["arms=[lr]"], "lr is not swept"),
        (["tune_grid=[1,2,3]"], "belong to tune=lr"),
        (["tune=lr", "lr=1e-3,2e-3"], "tune=lr: it is swept already"),
        (["tune=loss"], "Name an option that is a number above 0"),
        (["tune=lr", "tune_grid=[1,2]"], "three or more multiples"),
        (["tune=lr", "seed=999,1000"], "seed 1000 is the study's"),
    ],
)
def test_what_cannot_be_is_said(overrides, wanted):
    with pytest.raises(UsageError) as refused:
        plan(*ARMS, *overrides)
    assert wanted in str(refused.value)


def test_one_arm_has_nothing_to_decide():
    with pytest.raises(UsageError, match="until=decided: there is one arm, and nothing to decide"):
        plan("until=decided", "lr=1e-3")


def test_without_a_sweep_there_is_no_study():
    with pytest.raises(UsageError, match=r"jobs=2: it is an option of a study\. Add -m"):
        split_study(["jobs=2"], multirun=False)


def test_looks_take_their_seeds_from_the_command_line_or_from_zero_on():
    assert plan(*ARMS, "until=decided").looks == (6, 8, 10, 12)
    assert plan(*ARMS, "until=decided").seeds == tuple(range(12))
    given = plan(*ARMS, "until=decided", "seed=20,21,22,23,24,25,26")
    assert (given.looks, given.seeds) == ((6, 7), tuple(range(20, 27)))
    asked = plan(*ARMS, "until=decided", "looks=[2,3]", "seed=range(5)")
    assert (asked.looks, asked.seeds) == ((2, 3), (0, 1, 2))
    assert plan(*ARMS, "seed=3,5").looks == ()


def test_the_command_that_goes_on_after_an_undecided_study_looks_at_seeds_of_its_own():
    sweep = [*ARMS, "seed=3,5", "data.levels={1: 1}", "margin=2"]
    told = next_study(plan(*sweep), [], "a")
    words = shlex.split(told)
    study, others = split_study(words[words.index("-m") + 1 :], multirun=True)
    found = planned(study, others)
    assert (found.looks, found.seeds, found.margin) == ((6, 8, 10, 12), tuple(range(6, 18)), 2.0)
    assert "study=a_2" in others
    assert list(found.arms) == list(plan(*ARMS).arms)
    assert set(found.common) - {"study=a_2"} == {"data.levels={1:1}"}

    def pair(first, second, sd=0.01, ending="undecided"):
        test = SimpleNamespace(single=SimpleNamespace(sd=sd))
        return SimpleNamespace(first=first, second=second, ending=ending, test=test, margin=0.01, planned_level=0.05)

    three = plan("advantage=rank,zscore,rloo", "seed=0,1")
    rank, zscore, rloo = three.arms
    told = next_study(three, [pair(rank, zscore, ending="better"), pair(rank, rloo, sd=0.018)], "b")
    assert "advantage=rank,rloo" in told  # what is decided is left out
    seeds = seeds_needed(0.01, 0.018)
    assert f"'seed=range(2,{2 + seeds})'" in told
    assert f"looks=[{seeds * 6 // 12},{seeds * 8 // 12},{seeds * 10 // 12},{seeds}]" in told
    assert seeds > 12
    told = next_study(three, [pair(rank, zscore, sd=0.05)], "b")
    assert told.startswith(
        f"Next: to tell them apart to within the margin takes about {seeds_needed(0.01, 0.05)} seeds"
    )
    crossed = plan("advantage=rank,zscore", "lr=1e-3,2e-3", "seed=0,1")
    arms = list(crossed.arms)
    assert "advantage=rank,zscore lr=0.001,0.002 " in next_study(crossed, [pair(arms[0], arms[3])], "c")


def test_several_runs_at_once_divide_the_cores(monkeypatch):
    monkeypatch.setattr("grouprl.runtime.machine.cores", lambda: 8)
    study, others = split_study([*ARMS, "jobs=3"], multirun=True)
    assert launcher(study, others) == ["hydra/launcher=joblib", "hydra.launcher.n_jobs=3", "threads=1"]
    monkeypatch.setattr("grouprl.policy.folder.weights_in", {"tiny": 10**9, "tiny_b": 10**9, "x/y": None}.get)
    assert launcher(study, others)[-1] == "threads=2"  # a large model, and one that is not here
    assert launcher(study, [*others, "policy=hf", "policy.path=x/y"])[-1] == "threads=2"
    monkeypatch.setattr("grouprl.policy.folder.weights_in", {"tiny": 10**9, "tiny_b": 10**5}.get)
    assert launcher(study, [*others, "policy=tiny,tiny_b"])[-1] == "threads=1"  # the smallest decides for all
    assert launcher(study, [*others, "threads=1"])[-1] == "hydra.launcher.n_jobs=3"
    with pytest.raises(UsageError, match="hydra/launcher is given as well"):
        launcher(study, [*others, "hydra/launcher=joblib"])
    assert launcher(split_study(ARMS, multirun=True)[0], ARMS) == []


@pytest.mark.slow
def test_a_study_has_the_precision_that_its_machine_chose(monkeypatch, tmp_path):
    """So that its runs on another kind of processor are of another study, and not mixed."""
    monkeypatch.chdir(tmp_path)

    def overrides(*more):
        study, others = split_study([*ARMS, *more], multirun=True)
        return [text for text in checked_sweep(study, ["-m"], others).overrides if "precision" in text]

    assert overrides() == []
    monkeypatch.setattr("grouprl.runtime.machine.instructions", lambda: ["amx_bf16"])
    assert overrides() == []  # the embedded policy is small
    assert overrides("policy=smollm2") == ["trainer.precision=bf16-mixed"]
    assert overrides("policy=smollm2,tiny") == []  # each base its own
    assert overrides("policy=smollm2", "trainer.precision=32-true") == ["trainer.precision=32-true"]


@pytest.mark.slow
def test_a_study_that_looks_is_given_out_one_batch_of_seeds_at_a_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study, others = split_study([*ARMS, "until=decided", "looks=[2,3]"], multirun=True)
    sweep = checked_sweep(study, ["-m"], others)
    seeds = [next(o for o in batch.overrides if o.startswith("seed=")) for batch in sweep.batches]
    assert seeds == ["seed=0,1", "seed=2"]
    assert [batch.seeds for batch in sweep.batches] == [2, 3]
    names = [folder.name for folder in sweep.folders]
    arms = [f"advantage-{name}" for name in ("rank", "zscore")]
    assert names == [f"{arm}__seed-{n}" for arm in arms for n in (0, 1)] + [f"{arm}__seed-2" for arm in arms]
    with pytest.raises(UsageError, match="runs of several batches would write to one folder"):
        checked_sweep(study, ["-m"], [*others, "hydra.sweep.subdir=${hydra.job.num}"])


def test_options_that_start_the_launcher_are_none_of_a_plan():
    study, others = split_study([*ARMS, "jobs=2", "threads=1"], multirun=True)
    assert planned(study, [*others, *launcher(study, others)]).common == ("threads=1",)


@pytest.mark.slow
def test_runs_are_named_after_what_is_swept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study, others = split_study(
        [*ARMS, "loss/gate=clip,none", "seed=0,1", "steps=9", "loss/kl=k1", "jobs=2"], multirun=True
    )
    names = {folder.name for folder in checked_sweep(study, ["-m"], others).folders}
    assert names == {
        f"advantage-{a}__loss.gate-{gate}__seed-{n}"
        for a in ("rank", "zscore")
        for gate in ("clip", "none")
        for n in (0, 1)
    }
    given = [*others, "hydra.job.config.override_dirname.exclude_keys=[seed]"]
    assert all("steps-9" in folder.name for folder in checked_sweep(study, ["-m"], given).folders)


def test_names_of_arms_and_questions_are_taken_as_they_are():
    study, _ = split_study(["baseline=loss=repo, advantage=rank", "question='Which is it, rank or z?'"], multirun=True)
    assert (study.baseline, study.question) == ("loss=repo, advantage=rank", "Which is it, rank or z?")
    assert plan(*ARMS, "seed=0,1", "baseline=advantage=rank").baseline == "advantage=rank"


@pytest.mark.slow
def test_controls_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study, others = split_study(
        [*ARMS, "seed=0,1", "reward=math", "reward.correct=0.8", "controls=true"], multirun=True
    )
    sweep = checked_sweep(study, ["-m"], others)
    names = [folder.name for folder in sweep.folders]
    assert len(names) == len(set(names)) == 2 * (2 + 4)
    assert "reward-majority__seed-1" in names
    with pytest.raises(UsageError, match="the reward is swept already"):
        plan(*ARMS, "seed=0,1", "reward=math,correct", "controls=true")


@pytest.mark.slow
def test_a_sweep_that_compares_nothing_is_named_after_all_of_its_options(tmp_path, monkeypatch):
    """Else a sweep of other options would move its runs aside."""
    monkeypatch.chdir(tmp_path)
    names = [
        {folder.name for folder in checked_sweep(*_split(o, ["-m"])).folders}
        for o in (["advantage=rank", "seed=0,1"], ["advantage=zscore", "seed=0,1"], ["advantage=rank,rloo", "lr=1e-4"])
    ]
    assert not set.intersection(*names)
    assert names[2] == {f"advantage-{a}__lr-0.0001__seed-0" for a in ("rank", "rloo")}


def _split(overrides, flags):
    study, others = split_study(overrides, multirun=True)
    return study, flags, others


def test_arms_without_held_out_problems_are_refused_before_the_first_run():
    study, others = split_study([*ARMS, "seed=0,1", "data.heldout_size=0"], multirun=True)
    with pytest.raises(UsageError, match=r"data\.heldout_size=0"):
        checked_sweep(study, ["-m"], others)
