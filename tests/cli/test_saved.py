"""A saved configuration is data: what it says is checked as it stands, and nothing in it is resolved or run unasked."""

import contextlib
import os
import sys
from pathlib import Path

import pytest
import yaml
from helpers.runs import SMALL
from omegaconf import OmegaConf

from grouprl.cli.config.compose import without_hydra
from grouprl.cli.config.identity import HARMLESS, ONCE, identity, portable, resume_hash
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.preflight import check_command, overrides_of
from grouprl.cli.config.saved import foreign, interpolations, read_config
from grouprl.cli.evaluate import main as evaluate
from grouprl.cli.jobs.resume import resumed_job
from grouprl.cli.train import main as train
from grouprl.files import FileError
from grouprl.training.records import read_result, write_result

EVIL = "open('pwned', 'w').close()"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    (tmp_path / "evil.py").write_text(f"{EVIL}\nclass Evil:\n    def __init__(self, **_):\n        {EVIL}\n")
    OmegaConf.register_new_resolver("pwn", lambda *_: Path("pwned").touch() or "repo", replace=True)
    yield tmp_path
    OmegaConf.clear_resolver("pwn")
    assert not Path("pwned").exists(), "code that a saved file names was run"


def saved_run(*, as_started=False, **changes):
    """A run folder as `train.py` leaves it, with some values of its configuration changed by their place.

    ``as_started``: it was started with the changed values.
    """
    (config,) = check_command("train", SMALL, multirun=False)
    values = portable(without_hydra(config))
    identity_of_run = identity(config)
    for place, value in changes.items():
        node = values
        *parents, name = place.split(".")
        for parent in parents:
            node = node[parent]
        node[name] = value
    if as_started:
        identity_of_run["resume_hash"] = resume_hash(OmegaConf.create(values))
    run = Path("runs/a")
    write_result(run, {"run": "a", "state": "interrupted", "identity": identity_of_run, "choices": {}})
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    return run


def refused(capsys, main, *arguments):
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    shown = capsys.readouterr()
    assert left.value.code == 2
    assert "Traceback" not in shown.err
    assert len(shown.err.splitlines()) == 1, shown.err
    return shown.err


INTERPOLATIONS = {
    "reward": "${oc.create:'{_target_: evil.Evil}'}",
    "reward._target_": "${oc.decode:'evil.Evil'}",
    "prompt.system": "${oc.env:HOME}",
    "loss.gate.eps_low": "${eps_high}",
    "lr": "${pwn:1}",
    "study": "a ${pwn:1} b",
    "data.${pwn:1}": 1,
    "optimizer.betas": [0.9, "${pwn:1}"],
    "advantage": {"_target_": "grouprl.advantages.rank.RankAdvantage", "deep": [{"er": "${pwn:${pwn:1}}"}]},
    "prompt.style": r"\${pwn:1}",
    "prompt.context": r"\\${pwn:1}",
    "overlap.data_dir": "${",
}


@pytest.mark.parametrize("place", INTERPOLATIONS)
def test_an_interpolation_is_refused_by_its_place_before_anything_is_resolved(here, capsys, place):
    saved_run(**{place: INTERPOLATIONS[place]})
    shown = refused(capsys, train, "resume=runs/a")
    assert f"train.py: runs/a/config.yaml: {place}" in shown
    assert "holds an interpolation" in shown
    shown = refused(capsys, evaluate, "policy=runs/a", "prompt=1+1")
    assert f"evaluate.py: runs/a/config.yaml: {place}" in shown


def test_a_sweep_that_finds_one_is_refused_before_its_first_arm(here, capsys):
    run = saved_run(**{"reward": INTERPOLATIONS["reward"]})
    sweep = [*SMALL, "-m", "seed=1,2", "hydra.sweep.dir=runs", "hydra.sweep.subdir=${seed}"]
    run.rename("runs/2")
    assert "train.py: runs/2/config.yaml: reward holds an interpolation" in refused(capsys, train, *sweep)
    assert not Path("runs/1").exists()


def test_it_cannot_be_put_back_by_the_command_line(here, capsys):
    saved_run()
    for override in ("steps='${pwn:1}'", "reward='${oc.create:{_target_: evil.Evil}}'", "resume='${pwn:1}'"):
        shown = refused(capsys, train, *{"resume=runs/a"} - {override[:6] + "=runs/a"}, override)
        assert "plain values" in shown


FOREIGN = {
    "reward._target_": "evil.Evil",
    "loss.gate._target_": "os.system",
    "sampler.tools": {"_target_": "evil.Evil"},
    "trainer.plugins": [{"_target_": "evil.Evil"}],
    "advantage.deep": {"er": {"_target_": "evil.Evil"}},
    "advantage._target_": ["evil.Evil"],
    "data._target_": {"_target_": "grouprl.data.problems.tiny_problems"},
    "policy.trust_remote_code": True,
    "policy.attention": "somebody/kernels",
    "reward._partial_": True,
    "reward._args_": [1],
    "loss._recursive_": False,
    "policy._convert_": "none",
    "optimizer._partial_": "yes",
}


@pytest.mark.parametrize("place", FOREIGN)
def test_code_that_does_not_ship_is_refused_by_its_place(here, capsys, place):
    saved_run(**{place: FOREIGN[place]})
    shown = refused(capsys, train, "resume=runs/a")
    assert f"train.py: {place}" in shown
    assert "code that the run folder names is not run unless you name it, too" in shown


def test_code_that_is_named_again_is_checked_as_on_any_command_line(here, capsys):
    saved_run(**{"reward._target_": "nowhere.Evil"}, as_started=True)
    assert "there is no module 'nowhere'" in refused(capsys, train, "resume=runs/a", "reward._target_=nowhere.Evil")
    saved_run(**{"reward._target_": "grouprl.rewards.parts.Nothing"}, as_started=True)
    shown = refused(capsys, train, "resume=runs/a", "reward._target_=grouprl.rewards.parts.Nothing")
    assert "there is no such name" in shown


def test_what_was_checked_is_what_is_run(here):
    """The job holds the very values that were read, without anything that could become something else."""
    run = saved_run()
    job = resumed_job(["resume=runs/a"], multirun=False)
    assert OmegaConf.to_container(job.config, resolve=False) == yaml.safe_load((run / "config.yaml").read_text())
    assert not list(interpolations(OmegaConf.to_container(job.config, resolve=False)))
    assert not list(foreign(OmegaConf.to_container(job.config, resolve=False)))


def test_what_ships_names_no_code_of_others():
    for overrides in (["optimizer=sgd"], ["adapter=lora"], ["experiment=tools"], ["loss=gspo", "beta=0.04"]):
        (config,) = check_command("train", overrides, multirun=False)
        assert not list(foreign(portable(without_hydra(config))))


def test_a_run_whose_configuration_could_not_be_saved_is_refused(here):
    with pytest.raises(UsageError, match=r"prompt.system=Solve \$\{x\}: a run's saved configuration cannot hold"):
        check_command("train", [*SMALL, r"prompt.system='Solve \${x}'"], multirun=False)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "it holds nothing"),
        ("{}", "it is empty"),
        ("- 1", "it holds a list"),
        ("steps: [", "no YAML"),
        ("\0", "no YAML"),
    ],
)
def test_a_damaged_configuration_is_named_in_one_line(here, capsys, content, fault):
    run = saved_run()
    (run / "config.yaml").write_text(content)
    with pytest.raises(FileError, match=fault):
        read_config(run)
    for main, arguments in ((train, ["resume=runs/a"]), (evaluate, ["policy=runs/a", "prompt=1+1"])):
        assert "runs/a/config.yaml" in refused(capsys, main, *arguments)


def _places(node, place=""):
    """Places of all values, nodes and leaves."""
    for name, value in node.items():
        yield f"{place}{name}"
        if isinstance(value, dict):
            yield from _places(value, f"{place}{name}.")


@pytest.mark.slow
def test_a_value_that_is_missing_or_another_is_refused_wherever_it_stands(here):
    """But for what may change when a run is resumed."""
    run = saved_run()
    written = (run / "config.yaml").read_text()
    places = list(_places(yaml.safe_load(written)))
    assert len(places) > 80
    changes = (lambda node, name: node.pop(name), lambda node, name: node.update({name: "another"}))
    for number, place in enumerate(places):
        *parents, name = place.split(".")
        for change in changes if place in HARMLESS | ONCE else changes[number % 2 :][:1]:
            values = yaml.safe_load(written)
            node = values
            for parent in parents:
                node = node[parent]
            change(node, name)
            (run / "config.yaml").write_text(yaml.safe_dump(values))
            if place in HARMLESS | ONCE:
                with contextlib.suppress(UsageError):
                    resumed_job(["resume=runs/a"], multirun=False)
            else:
                with pytest.raises(UsageError):
                    resumed_job(["resume=runs/a"], multirun=False)


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        (["temperature=1", "beta=0", "lr=1e-3"], {"temperature": 1.0, "steps": 2}),  # as they were, in other words
        (["steps=9", "threads=null", "target_kl=null"], {"steps": 9, "threads": None}),
        (["steps='9'", "micro_batch_size=2"], {"steps": 9, "micro_batch_size": 2}),
    ],
)
def test_the_first_command_line_may_be_given_again(here, given, seen):
    saved_run()
    job = resumed_job(["resume=runs/a", *SMALL[1:], *given], multirun=False)
    assert {key: job.config[key] for key in seen} == seen
    assert all(type(job.config[key]) is type(value) for key, value in seen.items())
    again = [o for o in job.result["overrides"] if o.startswith("steps=")]
    assert again == ([f"steps={seen['steps']}"] if any("steps" in o for o in given) else [])


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("nosuch=null", "nosuch: the run has no such option"),
        ("+a.b=null", "a.b: the run has no such option"),
        ("steps=null", "steps=null"),
        ("target_kl=0.1", "the run was started with target_kl=None"),
        ("resume_fall_back=abc", "resume_fall_back=abc: expected true or false"),
        ("accept_changed=[grupprl]", "nothing that the run depends on is called grupprl. Names: grouprl"),
    ],
)
def test_what_is_given_on_a_resume_is_never_dropped_in_silence(here, capsys, given, wanted):
    saved_run()
    assert wanted in refused(capsys, train, "resume=runs/a", given)


@pytest.mark.slow
def test_a_text_that_begins_like_a_path_is_a_text(here, capsys):
    """Qwen3's own system prompt, a pattern, and a home folder that is nobody's."""
    for text in ("/no_think", "/a+/", "/a+/b/", "/think and /answer", "~nobody/x", "~"):
        (config,) = check_command("train", [*SMALL, f"prompt.system='{text}'"], multirun=False)
        assert portable(without_hydra(config))["prompt"]["system"] == text
    for path in ("/nowhere/at/all.txt", "/tmp"):
        (config,) = check_command("train", [*SMALL, f"prompt.system={path}"], multirun=False)
        assert portable(without_hydra(config))["prompt"]["system"].startswith("<outside")
    saved_run(**{"prompt.system": "<outside the working folder>/x"}, as_started=True)
    shown = refused(capsys, evaluate, "policy=runs/a", "prompt=1+1")
    assert "system: it was a path outside the working folder" in shown


def test_a_key_of_another_version_and_one_of_nobodys(here, capsys):
    run = saved_run()
    written = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(written + "foo: 1\n")
    assert "runs/a/config.yaml: foo is no option" in refused(capsys, train, "resume=runs/a")
    result = read_result(run)
    write_result(run, result | {"identity": result["identity"] | {"package": "another"}})
    assert "started by an older grouprl" in refused(capsys, train, "resume=runs/a")
    (run / "config.yaml").write_text("".join(line for line in written.splitlines(True) if "max_grad_norm" not in line))
    assert "by another version of grouprl, which had no max_grad_norm" in refused(capsys, train, "resume=runs/a")


@pytest.mark.parametrize(
    ("added", "fault"),
    [
        ("zz: &a [1]\nyy: [*a, *a]", "has an anchor or alias"),
        ("zz: &a [*a]", "has an anchor or alias"),
        ("zz: !!set {a}", "has a tag"),
        ("zz: !!python/object/apply:os.system [id]", "has a tag"),
        ("zz: 2024-01-01", "it holds what no run writes: Object of type date"),
        ("steps: 3", "the key 'steps' is there twice"),
        ("zz: {a: {b: 1, b: 2}}", "the key 'b' is there twice"),
    ],
)
def test_yaml_that_no_run_writes_is_refused(here, capsys, added, fault):
    run = saved_run()
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + added + "\n")
    for main, arguments in ((train, ["resume=runs/a"]), (evaluate, ["policy=runs/a", "prompt=1+1"])):
        assert fault in refused(capsys, main, *arguments)


def test_aliases_that_multiply_take_no_time(here, capsys):
    run = saved_run()
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10)]
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + "\n".join(lines) + "\n")
    assert "has an anchor or alias" in refused(capsys, train, "resume=runs/a")


@pytest.mark.parametrize("name", ["config.yaml", "result.json", ".lock", "metrics.jsonl"])
def test_a_pipe_in_place_of_a_file_does_not_hold_anybody(here, capsys, name):
    run = saved_run()
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    assert f"runs/a/{name}: it is neither a file nor a folder" in refused(capsys, train, "resume=runs/a")
    if name == "config.yaml":
        assert f"runs/a/{name}: it cannot be read" in refused(capsys, evaluate, "policy=runs/a", "prompt=1+1")


def test_keys_that_could_not_be_saved_are_refused_at_the_start():
    with pytest.raises(UsageError, match="1: a key that is no text"):
        check_command(
            "train", [*SMALL, "reward=custom", "reward._target_=builtins.len", "+reward.opts={1: 2}"], multirun=False
        )


@pytest.mark.parametrize("place", ["1", "null", "loss.1", "data.true", "2026-01-01"])
def test_a_key_that_is_no_text_is_named_in_one_line(here, capsys, place):
    *parents, name = place.split(".")
    run = saved_run()
    values = yaml.safe_load((run / "config.yaml").read_text())
    (values[parents[0]] if parents else values)[yaml.safe_load(name)] = 1
    (run / "config.yaml").write_text(yaml.safe_dump(values))
    for main, arguments in ((train, ["resume=runs/a"]), (evaluate, ["policy=runs/a", "prompt=1+1"])):
        assert "is no text, as every key is" in refused(capsys, main, *arguments)


@pytest.mark.parametrize("prompt", [3, "chat", {"style": 3}, {"system": ["a"]}])
def test_a_prompt_of_another_shape_is_named_in_one_line(here, capsys, prompt):
    saved_run(prompt=prompt)
    assert "runs/a/config.yaml" in refused(capsys, evaluate, "policy=runs/a", "prompt=1+1")


def test_files_of_hydra_beside_a_run_are_not_read(here):
    run = saved_run()
    (run / ".hydra").mkdir()
    for name in ("config.yaml", "hydra.yaml", "overrides.yaml"):
        (run / ".hydra" / name).write_text("reward: {_target_: evil.Evil}\nlr: ${pwn:1}\n")
    assert resumed_job(["resume=runs/a"], multirun=False) is not None
    with pytest.raises(UsageError, match=r"--experimental-rerun: what it reads is a program"):
        overrides_of(["--experimental-rerun", "runs/a/.hydra/config.pickle"])
