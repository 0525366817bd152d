"""The benchmarks run: a toy of each, on the code as it is now."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.paths import ROOT

from grouprl.files import write_parquet

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


@pytest.fixture
def assay(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("assay")


def planted(assay, *means, sd=0.01, seeds=10):
    """A kind of harm of three doses with these means, and the same noise in each dose's differences."""
    noise = np.random.default_rng(0).normal(0, 1, seeds)
    noise = sd * (noise - noise.mean()) / noise.std(ddof=1)
    none = np.full(seeds, means[0])
    return assay.Response("harm", {assay.NONE: none} | {f"{n}": none + m - means[0] + noise for n, m in
                          enumerate(means[1:], 1)})  # fmt: skip


def test_the_assay_finds_what_is_planted(assay):
    harm = planted(assay, 0.7, 0.699, 0.68, 0.65)
    assert harm.trend.value == pytest.approx((-1.5 * 0.7 - 0.5 * 0.699 + 0.5 * 0.68 + 1.5 * 0.65) / 5)
    assert harm.against_none("2").value == pytest.approx(-0.02)
    assert harm.against_none("2").sd == pytest.approx(0.01)
    assert harm.chance("1", 10).value < 0.1 < 0.99 < harm.chance("2", 10).value
    assert harm.smallest_seen(10) == "2"
    assert harm.is_reversed == []
    assert "The largest dose, 3, is seen in 100% of the draws of 6 seeds." in "\n".join(harm.lines("pass@1"))


def test_a_dose_that_helps_is_not_seen_and_makes_a_pair_reversed(assay):
    harm = planted(assay, 0.7, 0.76, 0.68, 0.65)
    assert harm.smallest_seen(10) == "2"
    assert math.isnan(harm.chance("1", 10).value)
    assert harm.is_reversed == [f"{assay.NONE} / 1"]
    assert planted(assay, 0.7, 0.68, 0.699, 0.65).smallest_seen(10) == "3"  # the second is not
    assert planted(assay, 0.7, 0.6, 0.6, 0.76).smallest_seen(10) is None
    assert assay.seen_in_draws([0.06, 0.061, 0.059, 0.06, 0.062, 0.058, 0.06], 6) == 0
    assert assay.seen_in_draws([-0.06, -0.061, -0.059, -0.06, -0.062, -0.058, -0.06], 6) == 1


def test_the_calibration_simulates_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    calibration = importlib.import_module("calibration")
    wanted = calibration.Moments(0.72, 0.2, 0.02, 0.1, 0.3, 0.05)
    structure, found = calibration.fitted(wanted, 100, 16)
    assert (found.mean, found.problem, found.both) == pytest.approx((0.72, 0.2, 0.1), rel=0.05)
    assert (found.seed, found.correlation, found.arm_problem) == pytest.approx((0.02, 0.3, 0.05), rel=0.3)
    problems = np.array([[-1.0, 0.5], [-0.5, 1.5]])
    many = calibration.probabilities(structure, problems, 200_000, np.random.default_rng(0)).mean(1)
    assert calibration.true_difference(structure, problems) == pytest.approx((many[1] - many[0]).mean(), abs=1e-3)
    about = {
        "runs": "r",
        "measured": wanted._asdict(),
        "simulated": found._asdict(),
        "seeds_as_seen": [2.0, -1.0, -1.0],
    }
    saved = about | {"structure": dataclasses.asdict(structure)}
    (tmp_path / "variance.json").write_text(json.dumps(saved))
    rows, _ = run(tmp_path, "calibration.py", "--studies", "100", "--seeds", "6", "--workers", "1")
    rates = {row["setting"]: row["rates"] for row in rows["rows"]}
    assert rates["no difference"]["t"] < 0.15
    assert rates["no difference, seeds drawn from 3 runs"]["t"] < 0.15
    skewed = dataclasses.replace(structure, seed=0.5, both=0.0, seeds_as_seen=(2.0, -1.0, -1.0))
    drawn = calibration.probabilities(skewed, np.zeros((1, 1)), 900, np.random.default_rng(0))
    assert np.mean(drawn > 0.6) == pytest.approx(1 / 3, abs=0.05)
    assert rates["a difference"]["t covers"] > 0.85 < rates["a difference"]["crossed covers"]


def test_studies_are_drawn_from_stored_runs(tmp_path, monkeypatch):
    """Runs of one kind: a twentieth is called different, and 2% less right samples is what their intervals hold."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    stored, rng = importlib.import_module("stored"), np.random.default_rng(0)
    chances = np.clip(0.7 + 0.02 * rng.normal(size=(24, 1)) + 0.2 * rng.normal(size=(1, 60)), 0.02, 0.98)
    right = rng.binomial(16, chances)
    rows = [{"seed": s, "problem": p, "right": int(right[s, p]), "samples": 16} for s in range(24) for p in range(60)]
    write_parquet(tmp_path / "runs.parquet", rows[::-1])
    read, samples = stored.read_runs(tmp_path / "runs.parquet")
    assert (read == right).all()
    first, second = stored.study(right, samples, 6, 1.0, rng)
    assert (first.min() > 0.5, second.max()) == (True, 0)
    found, _ = run(tmp_path, "stored.py", "--from", str(tmp_path / "runs.parquet"), "--studies", "400")
    same, planted = found["rows"][:2], found["rows"][2:]
    assert all(0.01 < row["different"] < 0.1 and row["holds"] == pytest.approx(1 - row["different"]) for row in same)
    assert [row["planted"] for row in planted] == pytest.approx([-0.02 * right.mean() / 16] * 2)
    assert all(row["holds"] > 0.9 for row in planted)


def test_verdicts_are_simulated(tmp_path):
    """Arms of which one is far better: seen, and within what was announced."""
    structure = {"mean": 1.0, "problem": 1.0, "pair": 0.02, "seed": 0.05, "both": 0.3, "arm_problem": 0.1}
    file = tmp_path / "variance.json"
    file.write_text(json.dumps({"runs": "r", "structure": structure | {"problems": 60, "samples": 8}}))
    options = ["--structure", str(file), "--studies", "6", "--workers", "1", "--effect", "-0.6"]
    found, shown = run(tmp_path, "verdicts.py", *options)
    power = [row for row in found["rows"] if row["asks"] == "power"]
    assert [row["said"] for row in power] == [1, 1]
    assert all(row["announced"] > 0.9 for row in power)
    assert all(row["said"] <= 0.5 for row in found["rows"] if row["asks"] != "power")
    assert [row["seeds"] for row in found["rows"][:2]] == [6, 10]
    assert "3 arms that do not differ, looks after 6, 8, 10, 12" in shown


def test_stopping_is_set_beside_adastop(tmp_path, monkeypatch):
    if importlib.util.find_spec("adastop") is None:
        pytest.skip("adastop is not installed: pip install -e '.[bench]'")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    stopping = importlib.import_module("stopping")
    first = [0.70, 0.71, 0.69, 0.72, 0.70, 0.68, 0.71, 0.70, 0.69, 0.71, 0.70, 0.72]
    second = [value + 0.1 + 0.001 * (n % 3) for n, value in enumerate(first)]
    assert stopping.ours(first, second, (6, 8), 0.01) == ("better", 6)
    assert stopping.theirs(first, second, 4, 3) == ("better", 4)
    assert stopping.ours(second, first, (6, 8), 0.01) == ("worse", 6)
    assert stopping.theirs(second, first, 4, 3) == ("worse", 4)
    near = [value + 0.0001 * (-1) ** n for n, value in enumerate(first)]
    assert stopping.ours(first, near, (6, 8), 0.01) == ("equivalent", 6)
    assert stopping.theirs(first, near, 4, 3) == ("equal", 12)
    structure = {"mean": 1.0, "problem": 1.0, "pair": 0.02, "seed": 0.05, "both": 0.3}
    file = tmp_path / "variance.json"
    file.write_text(json.dumps({"runs": "r", "structure": structure | {"problems": 60, "samples": 8}}))
    found, shown = run(tmp_path, "stopping.py", "--structure", str(file), "--studies", "4", "--workers", "1")
    assert [row["difference"] for row in found["rows"]] == list(stopping.DIFFERENCES)
    for row in found["rows"]:
        for rule in (*stopping.LOOKS, "AdaStop"):
            assert sum(share for name, share in row[rule].items() if name != "seeds") == pytest.approx(1)
    assert "wrong answers 40%" in shown


def test_the_table_of_the_assay_is_that_of_its_results(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "assay.py"), "table", "--runs", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    text = (ROOT / "experiments" / "assay" / "README.md").read_text()
    assert text.partition("<!-- assay -->\n")[2].strip() == done.stdout.strip().replace("### ", "## ")
