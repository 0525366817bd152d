"""Where the runs of a command line go: a folder of its own for each, found before the first of them starts."""

import re

import pytest
from helpers.runs import SMALL

from grouprl.cli.config.compose import run_name
from grouprl.cli.config.folders import pinned, prepare_folder, prepare_sweep, run_folder, sweep_folders
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.preflight import check_command
from grouprl.files import FileError
from grouprl.training.records import read_result


def folders(*overrides):
    return [str(folder) for folder in sweep_folders(check_command("train", overrides, multirun=True))]


@pytest.mark.parametrize(
    ("subdir", "names"),
    [
        ("${hydra.job.num}", ["0", "1"]),
        ("arm-${hydra.job.id}", ["arm-0", "arm-1"]),
        ("${advantage._target_}/${seed}", ["grouprl.advantages.rank.RankAdvantage/4", "grouprl.advantages.rank.RankAdvantage/5"]),
        ("${hydra.job.override_dirname}__${seed}", ["lr-0.1__4", "lr-0.1__5"]),
        ("../${seed}", ["../4", "../5"]),
    ],
)  # fmt: skip
def test_folders_of_a_sweep(subdir, names):
    found = folders("seed=4,5", "lr=0.1", f"hydra.sweep.subdir={subdir}")
    assert found == [f"runs/sweep/{name}" for name in names]


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["seed=1,2", "hydra.sweep.subdir=x"], ["hydra.sweep.subdir=x", "jobs 0 and 1", "runs/sweep/x", "hydra.job.num"]),
        (["seed=1,2", "hydra.sweep.subdir=${hydra.job.override_dirname}"], ["jobs 0 and 1"]),
        (["seed=1,2,1"], ["jobs 0 and 2"]),
        (["seed=1,2", "hydra.sweep.subdir=a/../${hydra.job.num}/../b"], ["jobs 0 and 1"]),
        (["study=x,x/y", "hydra.sweep.subdir=z", "hydra.sweep.dir=${study}"], None),
        (["study=x,x/z", "hydra.sweep.subdir=z", "hydra.sweep.dir=${study}"], ["jobs 0 and 1", "one inside the other's"]),
        (["study=x,x/z/y", "hydra.sweep.subdir=z", "hydra.sweep.dir=${study}"], ["jobs 0 and 1", "one inside the other's"]),
        (["hydra.sweep.subdir=${nope}"], ["hydra.sweep.subdir=${nope}", "cannot be made out", "nope"]),
        (["hydra.sweep.subdir=${hydra.runtime.output_dir}"], ["hydra.sweep.subdir", "cannot be made out"]),
        (["hydra.sweep.dir=${hydra.job.num}/x", "hydra.sweep.subdir=" + "e" * 256], ["more than 255 bytes"]),
    ],
)  # fmt: skip
def test_folders_that_two_arms_would_share_or_that_cannot_be(overrides, wanted):
    if wanted is None:
        assert folders(*overrides) == ["x/z", "x/y/z"]
        return
    with pytest.raises(UsageError) as refused:
        folders(*overrides)
    assert all(part in str(refused.value) for part in wanted), refused.value
    assert "\n" not in str(refused.value)


def test_a_link_to_an_arms_folder_is_that_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/sweep").mkdir(parents=True)
    (tmp_path / "runs/sweep/1").symlink_to("2")
    with pytest.raises(UsageError, match="jobs 0 and 1 would write to one run folder"):
        folders("seed=1,2", "hydra.sweep.subdir=${seed}")


def test_long_names_that_differ_after_the_cut_are_two_names():
    start = "x" * 300
    one, two = folders(f"prompt.system={start}a,{start}b")
    assert one != two
    assert all(len(name) < 200 for name in (one, two))
    assert run_name(start + "a", 0) != run_name(start + "b", 0) != run_name(start + "b", 1)
    assert run_name("y" * 150, 0) != run_name("y" * 151, 0)


def test_a_sweep_folder_with_the_time_in_its_name_stays_the_same():
    (job,) = check_command("train", [r"hydra.sweep.dir='it\'s/${now:%f}'", "hydra.sweep.subdir=x"], multirun=True)
    (override,) = pinned(job)
    assert re.fullmatch(r"hydra\.sweep\.dir='it\\'s/\d{6}'", override)
    (again,) = check_command("train", [override, "hydra.sweep.subdir=x"], multirun=True)
    assert sweep_folders([again]) == sweep_folders([job])
    (job,) = check_command("train", ["seed=0"], multirun=True)
    assert pinned(job) == []


def test_the_folder_of_a_single_run():
    (job,) = check_command("train", ["hydra.run.dir=a/b"], multirun=False)
    assert str(run_folder(job)) == "a/b"
    (job,) = check_command("train", ["hydra.run.dir=${hydra.job.num}"], multirun=False)
    with pytest.raises(UsageError, match=r"hydra\.run\.dir=\$\{hydra\.job\.num\}: it cannot be made out"):
        run_folder(job)


def test_what_hydra_writes_in_place_is_the_runs_own(tmp_path):
    (job,) = check_command("train", ["hydra.output_subdir=.hydra"], multirun=False)
    run, outside = tmp_path / "run", tmp_path / "outside"
    (run / ".hydra").mkdir(parents=True)
    outside.write_text("precious")
    for name in (".hydra/config.yaml", "grouprl.log"):
        (run / name).hardlink_to(outside)
    prepare_folder(run, job)
    assert outside.stat().st_nlink == 1
    (run / "result.json").write_text("[]")
    with pytest.raises(FileError, match=r"run/result.json: it holds a list and not an object"):
        prepare_folder(run, job)
    (run / "result.json").unlink()
    (run / "grouprl.log").unlink()
    (run / "grouprl.log").symlink_to(outside)
    with pytest.raises(FileError, match=r"run/grouprl.log: it is a link that leads out of the folder"):
        prepare_folder(run, job)


def test_what_hydra_writes_of_a_sweep_is_the_sweeps_own(tmp_path):
    (job,) = check_command("train", [f"hydra.sweep.dir={tmp_path}/sweep", "seed=0"], multirun=True)
    prepare_sweep(job)  # there is nothing yet
    (tmp_path / "sweep").mkdir()
    outside = tmp_path / "outside"
    outside.write_text("precious")
    file = tmp_path / "sweep/multirun.yaml"
    for link in (file.symlink_to, file.hardlink_to):
        link(outside)
        prepare_sweep(job)
        file.write_text("written in place")
        assert outside.read_text() == "precious"
        file.unlink()


@pytest.mark.slow
def test_a_sweep_with_folders_of_the_users_own_ends_with_its_table(train, tmp_path, capsys):
    tiny = ["steps=1", "max_new_tokens=8", "data.heldout_size=0", "prompts_per_step=2", "minibatches=1"]
    assert train(*tiny, "-m", "seed=4,5", "hydra.sweep.subdir=a/${hydra.job.num}") == 0
    table = capsys.readouterr().out
    for name in ("a/0", "a/1"):
        assert f"| `{name}` | finished |" in table
        assert read_result(tmp_path / "runs/sweep" / name)["run"] == name
    assert "tensorboard --logdir runs/sweep/a" in table


def test_two_arms_of_one_folder_are_refused_before_the_first_runs(train, tmp_path, capsys):
    assert train(*SMALL, "-m", "seed=0,1", "hydra.sweep.subdir=x", small=False) == 2
    assert "jobs 0 and 1 would write to one run folder, runs/sweep/x" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "sweep").exists()
