"""The protocol of grpo-decomp from our files, beside computations that share no code with ours."""

from __future__ import annotations

import importlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.studies import finish, make_run
from scipy import special
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.weightstats import DescrStatsW

from grouprl.cli import study as tables
from grouprl.files import read_parquet
from grouprl.studies.beginning import begin
from grouprl.studies.plan import plan_of, read_plan
from grouprl.studies.verdict import judge

HARD = np.random.default_rng(0).uniform(0.2, 0.8, 40)
SEEDS = range(6)


@pytest.fixture
def protocol(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("protocol")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A reward and random reward over six seeds, as a published study."""
    monkeypatch.chdir(tmp_path)
    swept = {"advantage": ["rank", "zscore"], "seed": [str(seed) for seed in SEEDS]}
    begin(plan_of(swept, ["reward=correct"], controls=("random",)), Path("s"))
    for seed in SEEDS:
        for name, own, gain in (("rank", "correct", 0.1), ("zscore", "correct", 0.0), ("random", "random", -0.1)):
            arm = name if name != "random" else "rank"
            run = make_run(Path(f"s/{name}-{seed}"), advantage=arm, seed=seed, chances=HARD + gain, own_reward=own)
            finish(run, name.encode())
    monkeypatch.setattr("sys.argv", ["study", "s", "--publish", "p"])
    tables.main()
    return Path("p")


def by_hand(folder):
    """Right samples [questions, samples] and greedy answers of the last evaluation of each run, from the file alone."""
    found = {}
    rows = [row for row in read_parquet(folder / "heldout.parquet") if row["iteration"] == 4]
    for name, seed in itertools.product(("rank", "random"), SEEDS):
        of_run = [row for row in rows if row["run"] == f"{name}-{seed}"]
        samples = {(row["problem"], row["sample"]): row["correct"] for row in of_run}
        drawn = np.array([[samples[problem, sample] for sample in range(8)] for problem in range(40)], dtype=float)
        found[name, seed] = drawn, np.array([samples[problem, -1] for problem in range(40)])
    return found


def test_the_numbers_are_those_of_independent_computations(published, protocol):
    runs = judge(read_plan(published), published).outcomes["the one base"]
    arm, control = runs["advantage=rank"], runs["random"]
    hand = by_hand(published)
    differences = np.array([hand["rank", s][0].mean() - hand["random", s][0].mean() for s in SEEDS])
    test = protocol.over_seeds(arm, control)
    described = DescrStatsW(differences)
    assert test.value == pytest.approx(described.mean, abs=1e-9)
    assert (test.low, test.high) == pytest.approx(described.tconfint_mean(0.05), abs=1e-9)
    assert test.p_value == pytest.approx(described.ttest_mean(0.0)[1], abs=1e-9)
    t = differences.mean() / (differences.std(ddof=1) / math.sqrt(6))
    assert test.p_value == pytest.approx(special.betainc(5 / 2, 1 / 2, 5 / (5 + t * t)), abs=1e-9)
    draws = protocol.draws_of(40, 500)
    for seed in SEEDS:
        one = protocol.of_seed(arm[seed], control[seed], draws)
        greedy, placebo = hand["rank", seed][1], hand["random", seed][1]
        counts = [[sum(greedy & placebo), sum(~greedy & placebo)], [sum(greedy & ~placebo), sum(~greedy & ~placebo)]]
        assert one.greedy.p_value == pytest.approx(mcnemar(counts, exact=True).pvalue, abs=1e-9)
        of_questions = hand["rank", seed][0].mean(1) - hand["random", seed][0].mean(1)
        means = sorted(sum(of_questions[question] for question in draw) / 40 for draw in draws)
        at = [share * (len(means) - 1) for share in (0.025, 0.975)]
        wanted = [means[int(x)] + (x - int(x)) * (means[int(x) + 1] - means[int(x)]) for x in at]
        assert (one.low, one.high) == pytest.approx(wanted, abs=1e-9)
        assert one.low < one.difference < one.high


def test_the_report_says_seeds_first(published, protocol, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["protocol", str(published)])
    protocol.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "## advantage=rank beside random reward, the one base"
    assert lines[2].startswith("Over 6 seeds, pass@1: +")
    assert len([line for line in lines if line.startswith("| ")]) == 1 + 1 + 6


def test_draws_that_are_none_of_these_questions_are_refused(protocol):
    with pytest.raises(ValueError, match="for 3 questions"):
        protocol.bootstrap_interval([0.1, 0.2, 0.3], np.zeros((5, 2), dtype=int))
