"""The benchmarks run: a toy of each, on the code as it is now."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest
from helpers.paths import ROOT

pytestmark = pytest.mark.slow


def run(folder, script, *arguments):
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--out", str(folder), "--name", "toy", *arguments]
    done = subprocess.run(
        command, cwd=folder, check=False, capture_output=True, text=True, timeout=600, env={**os.environ, "CI": "1"}
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "toy.json").read_text()), done.stdout


def test_steps_alone_are_timed_beside_their_floor(tmp_path):
    found, shown = run(tmp_path, "alone.py", "--size", "toy", "--sequences", "8", "16", "--deterministic")
    assert [point["sequences"] for point in found["points"]] == [8, 16]
    for point in found["points"]:
        assert point["floors"]["decode"] > 0
        assert len(point["steps"]) == found["iterations"] == 3
        for step in point["steps"]:  # not the medians: those of parts need not add up
            assert step["whole step"] >= step["generation"] + step["training"] - 1e-6
            assert min(step.values()) > 0
    assert "tokens/s" in shown


def test_scaling_draws_its_slopes(tmp_path):
    found, _ = run(tmp_path, "scaling.py", "--base", "toy", "--axes", "epochs", "--quick", "--iterations", "1")
    assert found["axes"]["epochs"]["values"] == [1, 2, 4]
    assert (tmp_path / "toy.png").stat().st_size > 5_000


def test_beside_trl(tmp_path):
    if importlib.util.find_spec("trl") is None:
        pytest.skip("trl is not installed: pip install -e '.[bench]'")
    found, _ = run(tmp_path, "vs_trl.py", "--size", "toy", "--pairs", "1", "--beta", "0.04", "--lora", "on", "--memory")
    (result,) = found["results"]
    assert max(result["equality"][name] for name in ("logprobs", "gradients", "trl_logprobs")) < 1e-5
    assert result["memory"].keys() == {"grouprl", "TRL"}


def test_determinism_is_timed_in_pairs():
    command = [sys.executable, str(ROOT / "benchmarks" / "determinism.py"), "--size", "toy", "--threads", "1"]
    done = subprocess.run([*command, "--pairs", "2"], check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    on, off = (float(cell) for cell in done.stdout.splitlines()[-1].split("|")[2:4])
    assert on > 0 < off


def test_intervals_are_simulated(tmp_path):
    found, _ = run(tmp_path, "coverage.py", "--studies", "40")
    assert all(row["covers"] > 0.8 for row in found["rows"].values())


def test_the_table_of_the_assay_is_that_of_its_results(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "assay.py"), "table", "--runs", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    text = (ROOT / "experiments" / "assay" / "README.md").read_text()
    assert text.partition("<!-- assay -->\n")[2].strip() == done.stdout.strip().replace("### ", "## ")
