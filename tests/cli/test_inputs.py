"""What a run depends on: which files are found, and that one byte of any of them is noticed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.runs import SMALL
from omegaconf import OmegaConf

import grouprl
from grouprl.cli.config.compose import without_hydra
from grouprl.cli.config.identity import changed_inputs, identity
from grouprl.cli.config.inputs import input_digests, package_digest
from grouprl.cli.config.preflight import check_command


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def digests(**options):
    return input_digests(OmegaConf.create(options))


def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"data": {"path": "d/train.jsonl"}}, ["train.jsonl"]),
        (
            {"data": {"path": "d/train.jsonl", "heldout_path": "e/train.jsonl"}},
            ["heldout_path/train.jsonl", "train.jsonl"],
        ),
        ({"data": {"files": ["d/train.jsonl", "d/more.jsonl"]}}, ["more.jsonl", "train.jsonl"]),
        ({"policy": {"path": "model"}}, ["model/config.json", "model/sub/model.safetensors"]),
        ({"reward": {"_target_": "mine.f"}}, ["helper.py", "mine.py"]),
        ({"reward": {"_target_": "mine.py:f"}}, ["helper.py", "mine.py"]),
        ({"reward": {"_target_": "pack.inner.f"}}, ["helper.py", "pack/__init__.py", "pack/inner.py", "pack/other.py"]),
        ({"reward": {"_target_": "loose.inner.f"}}, ["inner.py"]),
        ({"reward": {"_target_": "spaces.reward.f"}}, ["beside.py", "reward.py"]),
        ({"reward": {"_target_": "spaces.deep.core.f"}}, ["deep/__init__.py", "deep/core.py", "deep/other.py"]),
        ({"reward": {"_target_": "three.f"}}, ["_target_/2/core.py", "_target_/core.py", "core.py", "three.py"]),
        ({"data": {"path": "linked"}}, ["linked/d/more.jsonl", "linked/d/train.jsonl"]),
        ({"loss": {"gate": {"_target_": "mine.Gate"}}}, ["helper.py", "mine.py"]),
        ({"reward": {"_target_": "torch.nn.Linear"}}, []),
        ({"reward": {"_target_": "grouprl.rewards.parts.MathReward"}}, []),
        ({"text": "x" * 5000, "other": "a\0b", "none": None, "number": 3}, []),
    ],
)
def test_files_that_options_name(here, options, names):
    for name in ("d/train.jsonl", "e/train.jsonl", "d/more.jsonl", "model/config.json", "model/sub/model.safetensors"):
        write(name, name)
    write("model/README.md", "a card")
    write("model/.cache/x", "hidden")
    write("helper.py", "import json, torch\n")
    write("mine.py", "from helper import nothing\nimport mine\n")
    write("pack/__init__.py", "")
    write("pack/inner.py", "from . import other\n")
    write("pack/other.py", "import helper\n")
    write("loose/inner.py", "not python at all (\n")
    write("spaces/reward.py", "from .beside import g\n")
    write("spaces/beside.py", "")
    write("spaces/deep/__init__.py", "from . import other\n")
    write("spaces/deep/core.py", "")
    write("spaces/deep/other.py", "")
    write("three.py", "import a.core, b.core, c.core\n")
    for name in "abc":
        write(f"{name}/core.py", name)
    Path("linked").mkdir()
    Path("linked/d").symlink_to(here / "d")
    assert sorted(digests(**options)) == names


@pytest.mark.parametrize("changed", ["mine.py", "helper.py", "model/weights.bin", "train.jsonl"])
def test_one_byte_is_noticed_by_its_files_name(here, changed):
    write("mine.py", "import helper\n# a comment of many words\n")
    write("helper.py", "one = 1\n")
    write("model/weights.bin", "a" * 2**20)
    write("train.jsonl", "{}\n")
    options = {"reward": {"_target_": "mine.f"}, "policy": {"path": "model"}, "data": {"path": "train.jsonl"}}
    before = {"package": package_digest(), "inputs": digests(**options)}
    content = bytearray(Path(changed).read_bytes())
    content[len(content) // 2] ^= 1
    Path(changed).write_bytes(content)
    after = {"package": package_digest(), "inputs": digests(**options)}
    assert changed_inputs(before, after) == [changed]
    assert changed_inputs(before, {**before, "package": "another"}) == ["grouprl"]
    assert changed_inputs({}, before) == ["grouprl", *sorted(before["inputs"])]


def test_names_and_digests_are_the_same_in_another_place(here, monkeypatch):
    for place in ("one", "two/deeper"):
        write(f"{place}/mine.py", "import helper\n")
        write(f"{place}/helper.py", "")
        write(f"{place}/data.jsonl", "{}\n")
    found = []
    for place, path in (("one", "data.jsonl"), ("two/deeper", str(here / "two/deeper/data.jsonl"))):
        monkeypatch.chdir(here / place)
        found.append(digests(data={"path": path}, reward={"_target_": "mine.f"}))
    assert found[0] == found[1]
    assert list(found[0]) == ["data.jsonl", "helper.py", "mine.py"]


def test_the_package_is_known_by_its_own_files_alone(here):
    """Not by the folder it is installed in, its commit, the documents beside it or its compiled files."""

    def digest_of(folder):
        code = "from grouprl.cli.config.inputs import package_digest; print(package_digest())"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=folder,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(folder)},
            check=True,
        )
        return done.stdout.strip()

    package = Path(grouprl.__file__).parent
    for name in ("a", "b"):
        # What torch needs is not needed to read files: modules that import it stay untouched.
        shutil.copytree(package, here / name / "grouprl", ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    assert len(digest_of(here / "a")) == 16
    write("b/docs/new.md", "words")
    assert digest_of(here / "a") == digest_of(here / "b")
    with (here / "b/grouprl/advantages/rank.py").open("a") as file:
        file.write("# a word\n")
    assert digest_of(here / "a") != digest_of(here / "b")


def test_a_file_that_bears_an_options_value_by_chance_is_none(here):
    """The output of ``nohup python train.py > sweep``, and files called as words of options are."""
    for name in ("sweep", "auto", "lenient", "refuse", "data"):
        Path(name).write_text("by chance")
    (config,) = check_command("train", SMALL, multirun=False)
    assert not {"sweep", "auto", "lenient", "refuse", "data"} & set(input_digests(without_hydra(config)))


def test_options_that_decide_nothing_make_no_other_run():
    def hashes(*overrides):
        (config,) = check_command("train", [*SMALL, *overrides], multirun=False)
        found = identity(config)
        return found["config_hash"], found["resume_hash"]

    whole = hashes()
    for harmless in ("checkpoint_every=5", "keep_checkpoints=7", "stop_grace_s=3", "study=another"):
        assert hashes(harmless) == whole, harmless
    for longer in ("steps=7", "threads=1"):  # a run may go on with them, but is another arm
        assert (hashes(longer)[0] == whole[0], hashes(longer)[1] == whole[1]) == (False, True), longer
    assert not set(hashes("lr=0.5")) & set(whole)
