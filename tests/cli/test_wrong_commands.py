"""More than a hundred wrong commands: each is answered in one line, with a status, before torch, and loses nothing."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import TESTS

from grouprl.cli.environment import DEFAULTS

LIST = Path(__file__).with_name("wrong_commands.txt")
CASES = [
    tuple(part.strip() for part in line.split("  ->  "))
    for line in LIST.read_text().splitlines()
    if line.strip() and not line.startswith("#")
]


def files(folder):
    return {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """What each command answered, and the folder's files before and after."""
    folder = tmp_path_factory.mktemp("wrong")
    problems = [{"problem": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(8)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    (folder / "broken.jsonl").write_text('{"problem": "1 + 1?", "answer": "2"}\n{"problem": "1 +\n')
    (folder / "binary.parquet").write_bytes(bytes(range(256)))
    (folder / "bad_table.csv").write_text("arm,seed\nA,0\n")
    (folder / "mine.py").write_text("def reward(completion, answer):\n    return 1.0\n")
    (folder / "broken_code.py").write_text("def f(:\n")
    run = folder / "a_run"
    run.mkdir()
    (run / "result.json").write_text(json.dumps({"state": "running", "overrides": [], "seed": 0}))
    (run / "config.yaml").write_text("steps: 3\n")
    before = files(folder)
    words = [shlex.split(command.removeprefix("torch ")) for command, _ in CASES]
    (folder.parent / "commands.json").write_text(json.dumps(words))
    done = subprocess.run(
        [sys.executable, str(TESTS / "helpers" / "commands.py"), str(folder.parent / "commands.json")],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, **DEFAULTS, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return dict(zip([command for command, _ in CASES], json.loads(done.stdout), strict=True)), before, files(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("command", "wanted"), CASES, ids=[command for command, _ in CASES])
def test_it_is_answered_in_one_line(answered, command, wanted):
    answer = answered[0][command]
    lines = [line for line in answer["output"].splitlines() if not line.startswith("run folder")]
    assert answer["status"] in (1, 2), answer
    assert len(lines) == 1, answer["output"]
    name = shlex.split(command.removeprefix("torch "))[0]
    assert lines[0].startswith(f"{name}.py: ")
    assert wanted in lines[0]
    assert answer["torch"] <= command.startswith("torch ")


@pytest.mark.slow
def test_nothing_is_lost(answered):
    _, before, after = answered
    assert {name: after.get(name) for name in before} == before


def test_there_are_more_than_a_hundred():
    assert len({command for command, _ in CASES}) == len(CASES) > 100
