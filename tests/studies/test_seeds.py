"""Arms compared over seeds, from run folders that are made here: what is paired, said and refused."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import prints
from helpers.studies import HARD, change, make_run

from grouprl.cli import compare
from grouprl.statistics.crossed import VarianceSplit
from grouprl.statistics.seeds import paired_t, sd_interval, seeds_needed, smallest_visible
from grouprl.studies.outcomes import arms_of, read_outcome
from grouprl.studies.pairs import signed
from grouprl.studies.plan import OutcomeError
from grouprl.studies.seeds import compare_arms


def numbers(file):
    """Of the one base."""
    content = json.loads(Path(file).read_text())
    assert content["kind"] == "runs"
    assert content["verdicts"] == [pair["verdict"] for pair in content["bases"]["the one base"]["pairs"]]
    return content["bases"]["the one base"]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Two arms over six seeds, the second better by ten points."""
    monkeypatch.chdir(tmp_path)
    hard = np.random.default_rng(0).uniform(0.3, 0.7, 40)
    for seed in range(6):
        make_run(Path(f"sweep/rank-{seed}"), seed=seed, chances=hard)
        make_run(Path(f"sweep/zscore-{seed}"), advantage="zscore", seed=seed, chances=hard + 0.1)
    return Path("sweep")


def test_arms_are_named_after_what_differs(study):
    outcomes = [read_outcome(folder) for folder in sorted(study.iterdir())]
    arms = arms_of(outcomes)
    assert list(arms) == ["advantage=rank", "advantage=zscore"]  # neither the reward's seed nor the target inside
    assert {name: sorted(runs) for name, runs in arms.items()} == {name: list(range(6)) for name in arms}
    make_run(Path("other"), seed=7, lr=2e-3)
    names = list(arms_of([*outcomes, read_outcome(Path("other"))]))
    assert names[-1] == "lr=0.002, advantage=rank"


def test_the_verdict_is_the_paired_test_of_what_is_in_the_files(study, capsys):
    code, text = prints(compare.main, capsys)("sweep", "--json", "found.json")
    assert code == 0
    assert text.startswith("advantage=zscore is better than advantage=rank by ")
    found = numbers("found.json")
    scores = {arm["name"]: arm["scores"] for arm in found["arms"]}
    differences = np.array(scores["advantage=zscore"]) - np.array(scores["advantage=rank"])
    wanted = paired_t(differences.tolist())
    (pair,) = found["pairs"]
    assert pair["test"]["single"]["value"] == pytest.approx(wanted.value)
    assert (pair["test"]["low"], pair["test"]["high"]) == pytest.approx((wanted.low, wanted.high))
    assert pair["flips"] == pytest.approx(2 / 64)
    assert pair["general"]["low"] <= pair["test"]["low"] + 1e-9
    means = [read_outcome(study / f"rank-{seed}").last.correct.mean() for seed in range(6)]
    assert scores["advantage=rank"] == pytest.approx(means)


def test_what_an_hour_buys_rests_on_what_was_measured(tmp_path, monkeypatch, capsys):
    """Eight completions of ten tokens in 0.4 s are 5 ms a token; 40 problems' samples of ten tokens 2 s."""
    monkeypatch.chdir(tmp_path)
    study = Path("sweep")
    for seed in range(6):
        make_run(study / f"rank-{seed}", seed=seed)
        make_run(study / f"zscore-{seed}", advantage="zscore", seed=seed, chances=0.501)
    run = read_outcome(study / "rank-0")
    assert run.seconds_of_sample == pytest.approx(0.4 / 80 * 40 * 10)
    code, text = prints(compare.main, capsys)("sweep", "--json", "found.json")
    assert (code, "What an hour more of computing" in text) == (3, True)
    found = numbers("found.json")
    bought = {p["what"]: p["amount"] for p in found["next_hour"]}
    samples = 3600 // (2 * 6 * 2)
    problems = samples * 40 // run.last.correct.shape[1]
    assert bought == {
        "nothing": 0,
        "seeds of both arms": 30,
        "held-out problems": problems,
        "samples of each problem": samples,
    }
    split, test = found["pairs"][0]["split"], found["pairs"][0]["test"]["single"]
    errors = {p["what"]: p["standard_error"] for p in found["next_hour"]}
    assert errors["nothing"] == pytest.approx(test["sd"] / math.sqrt(6))
    now, then = (VarianceSplit(**split).of_mean(seeds, 40, split["samples"]) for seeds in (6, 36))
    assert errors["seeds of both arms"] == pytest.approx(errors["nothing"] * math.sqrt(then / now))
    for folder in study.iterdir():
        (folder / "metrics.jsonl").write_text("")
    assert "an hour more" not in prints(compare.main, capsys)("sweep")[1]


def test_where_all_is_decided_no_hour_is_offered_and_the_better_arm_comes_first(study, capsys):
    """The table's sign is the headline's: what is better minus what is worse; against a baseline each arm minus it."""
    _, text = prints(compare.main, capsys)("sweep", "--json", "found.json")
    assert ("an hour more" in text, numbers("found.json")["next_hour"]) == (False, [])
    for file in study.glob("zscore-*"):
        shutil.rmtree(file)
        make_run(file, advantage="zscore", seed=int(file.name[-1]), chances=0.2)
    for baseline in ((), ("--baseline", "advantage=rank")):
        _, text = prints(compare.main, capsys)("sweep", *baseline)
        points, low, high = re.search(
            r"rank is better than advantage=zscore by (\S+) points \[(\S+), (\S+)\]", text
        ).groups()
        name = (
            "| advantage=zscore minus advantage=rank | -" if baseline else "| advantage=rank minus advantage=zscore | +"
        )
        assert name in text
        row = text.split(name)[2].split("|")[0]  # the second table's
        value, *ends = (abs(float(number)) for number in re.findall(r"[\d.]+", row))
        assert value == pytest.approx(float(points), abs=0.051)
        assert sorted(ends) == pytest.approx([float(low), float(high)], abs=0.051)
        assert "all pairs together" not in text


def test_the_area_is_over_tokens_and_ends_where_all_have_been(tmp_path):
    run = read_outcome(make_run(tmp_path / "a", chances=1.0))
    assert run.tokens.tolist() == [0, 160, 320]
    shares = [evaluation.shares.mean() for evaluation in run.evaluations]
    whole = (160 * (shares[0] + shares[1]) / 2 + 160 * (shares[1] + shares[2]) / 2) / 320
    assert run.scores("area").mean() == pytest.approx(whole)
    half = (shares[0] + shares[1]) / 2
    assert run.scores("area", 160).mean() == pytest.approx(half)
    middle = shares[1] + (shares[2] - shares[1]) / 2
    wanted = (160 * half + 80 * (shares[1] + middle) / 2) / 240
    assert run.scores("area", 240).mean() == pytest.approx(wanted)
    longer = (320 * whole + 80 * shares[2]) / 400  # its last score is held
    assert run.scores("area", 400).mean() == pytest.approx(longer)
    with pytest.raises(OutcomeError, match="no area"):
        run.scores("area", 0)


def test_undecided_says_what_it_takes_and_equal_arms_are_called_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in range(4):
        make_run(Path(f"s/rank-{seed}"), seed=seed)
        make_run(Path(f"s/zscore-{seed}"), advantage="zscore", seed=seed, chances=0.501)
    code, text = prints(compare.main, capsys)("s", "--json", "u.json")
    assert code == 3
    assert "is undecided: " in text.splitlines()[0]
    (pair,) = numbers("u.json")["pairs"]
    low, high = (seeds_needed(0.01, sd) for sd in sd_interval(pair["test"]["single"]["sd"], 4))
    assert f"would take between {low} and {high} more seeds to show a difference of 1 point" in text
    code, text = prints(compare.main, capsys)("s", "--margin", "30")
    assert code == 0
    assert text.startswith("advantage=rank and advantage=zscore are equivalent within 30 points: ")


def test_scores_that_tie_on_every_seed_decide_nothing_unless_the_completions_do(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    halves = np.tile([1.0, 0.0], 20)
    for seed in (0, 1):
        make_run(Path(f"s/rank-{seed}"), seed=seed, chances=halves)
        make_run(Path(f"s/zscore-{seed}"), advantage="zscore", seed=seed, chances=1 - halves)
        code, text = prints(compare.main, capsys)("s")
        assert (code, "are equivalent within" in text) == (3, False)
    assert "every seed differs by 0.0 points: no test is possible" in text
    for seed in (0, 1):
        make_run(Path(f"t/rank-{seed}"), seed=seed, chances=halves)
        make_run(Path(f"t/zscore-{seed}"), advantage="zscore", seed=seed, chances=halves)
    code, text = prints(compare.main, capsys)("t")
    assert (code, text.splitlines()[0]) == (0, "advantage=rank and advantage=zscore are identical on every seed.")
    assert "Variance of a seed's difference" not in text


def test_the_interval_of_equivalence_lies_within_the_margin(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in range(6):
        make_run(Path(f"s/rank-{seed}"), seed=seed)
        make_run(Path(f"s/zscore-{seed}"), advantage="zscore", seed=seed)
    _, text = prints(compare.main, capsys)("s", "--json", "found.json")
    (pair,) = numbers("found.json")["pairs"]
    edge = 100 * max(map(abs, pair["test"]["inner"]))
    assert edge < 100 * max(abs(pair["test"]["low"]), abs(pair["test"]["high"]))
    code, text = prints(compare.main, capsys)("s", "--margin", str(edge + 0.01))
    low, high = (f"{100 * end:+.1f}" for end in pair["test"]["inner"])
    assert code == 0
    assert f"[{low}, {high}] (90%)." in text.splitlines()[0]
    assert prints(compare.main, capsys)("s", "--margin", str(edge - 0.01))[0] == 3


def test_a_run_that_failed_early_holds_its_last_score_and_leaves_the_others_area_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in range(6):
        make_run(Path(f"s/rank-{seed}"), seed=seed, chances=0.9)
        make_run(Path(f"s/zscore-{seed}"), advantage="zscore", seed=seed, chances=0.2)
    _code, text = prints(compare.main, capsys)("s", "--metric", "area")
    assert "advantage=rank is better" in text
    failed = Path("s/zscore-5")
    max((failed / "heldout").iterdir()).unlink()
    change(failed, state="failed")
    run, whole = read_outcome(failed), read_outcome(Path("s/zscore-4"))
    assert run.tokens[-1] < whole.tokens[-1]
    end = float(whole.tokens[-1])
    shares = [evaluation.shares.mean() for evaluation in run.evaluations]
    held = (run.scores("area").mean() * run.tokens[-1] + shares[-1] * (end - run.tokens[-1])) / end
    assert run.scores("area", end).mean() == pytest.approx(held)
    _, text = prints(compare.main, capsys)("s", "--metric", "area", "--json", "found.json")
    assert "advantage=rank is better" in text
    (found,) = [arm for arm in numbers("found.json")["arms"] if "rank" in arm["name"]]
    assert found["scores"][0] == pytest.approx(read_outcome(Path("s/rank-0")).scores("area", end).mean())


def test_failed_runs_count_as_what_they_scored(study, capsys):
    import shutil

    shutil.rmtree(study / "rank-3")
    make_run(study / "rank-3", seed=3, chances=0.0, state="failed")
    _, text = prints(compare.main, capsys)("sweep")
    assert "rank-3: failed, counted with its last evaluation, after 4 iterations" in text
    assert " 0.0 " in text


def test_what_is_seen_is_a_range_since_the_standard_deviation_is_an_estimate(study, capsys):
    _, text = prints(compare.main, capsys)("sweep", "--json", "found.json")
    sd = numbers("found.json")["pairs"][0]["test"]["single"]["sd"]
    at, low, high = (100 * smallest_visible(spread, 6) for spread in (sd, *sd_interval(sd, 6)))
    assert f"A true difference of {at:.2f} points ({low:.2f} to {high:.2f}, " in text


@pytest.mark.slow
def test_one_run_with_fewer_samples_leaves_coverage_and_problems_solved_comparable(tmp_path, monkeypatch, capsys):
    """All are taken of as many samples as the run with the fewest has, and it is said."""
    monkeypatch.chdir(tmp_path)
    for seed in range(6):
        make_run(Path(f"s/rank-{seed}"), seed=seed, chances=0.04, problems=400, samples=16)
        few = {"samples": 4, "state": "failed"} if seed == 5 else {"samples": 16}
        make_run(Path(f"s/zscore-{seed}"), advantage="zscore", seed=seed, chances=0.04, problems=400, **few)
    _, text = prints(compare.main, capsys)("s", "--json", "found.json")
    (pair,) = numbers("found.json")["pairs"]
    assert abs(pair["solved"] - pair["lost"]) < 10
    assert pair["split"] is None
    assert "| difference | greedy | pass@4 |" in text
    assert "The runs have 4 to 16 samples of a problem: coverage and problems solved by one alone are of the" in text
    assert text.count("zscore-5: failed, counted with its last evaluation") == 1


def test_a_seed_that_is_left_out_is_said_to_be_counted_nowhere(study, capsys):
    make_run(study / "rank-9", seed=9, state="failed")
    _, text = prints(compare.main, capsys)("sweep")
    assert "left out, since another arm lacks them: seeds [9]" in text
    assert "rank-9: failed, counted" not in text


@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [
        (lambda s: make_run(s / "more", seed=9, state="running"), "more: it is interrupted. Let it come to its end"),
        (lambda s: make_run(s / "more", seed=9, package="b"), "have other versions of grouprl"),
        (lambda s: make_run(s / "more", seed=9, threads=8), "have other threads"),
        (lambda s: make_run(s / "more", seed=9, weights="four bits"), "have other weights before training"),
        (lambda s: (s / "rank-0/heldout/iteration-00004.parquet").write_bytes(b"x"), "it cannot be read"),
        (lambda s: (s / "rank-0/config.yaml").unlink(), "no run is here"),
        (lambda s: [f.unlink() for f in (s / "rank-0/heldout").iterdir()], "has kept no held-out results"),
        (lambda s: make_run(s / "twice", seed=0), "the same options and the same seed"),
        (lambda s: make_run(s / "others", seed=9, problems=30), "different held-out problems"),
    ],
)
def test_what_cannot_be_compared_is_said(study, capsys, spoil, wanted):
    spoil(study)
    code, text = prints(compare.main, capsys)("sweep")
    assert (code, wanted in text) == (1, True), text
    assert "Traceback" not in text


def test_one_arm_and_no_shared_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        make_run(Path(f"s/rank-{seed}"), seed=seed)
    assert "differ in nothing but their seeds" in prints(compare.main, capsys)("s")[1]
    make_run(Path("s/zscore-5"), advantage="zscore", seed=5)
    assert "no seed in common" in prints(compare.main, capsys)("s")[1]
    make_run(Path("s/zscore-1"), advantage="zscore", seed=1)
    code, text = prints(compare.main, capsys)("s")
    assert code == 3
    assert "one seed decides nothing" in text
    assert "left out, since another arm lacks them: seeds [0]" in text
    assert math.isnan(paired_t([0.1]).p_value)


def test_a_run_of_few_tokens_does_not_cut_what_others_are_measured_over(tmp_path):
    def runs(name, gain, factor=1.0):
        made = {}
        for seed in range(4):
            run = read_outcome(make_run(tmp_path / f"{name}{seed}", seed=seed, chances=HARD + gain))
            made[seed] = replace(run, tokens=run.tokens * (factor if seed == 0 else 1.0))
        return made

    two = {"a": runs("a", 0.0), "b": runs("b", 0.1)}
    (alone,) = compare_arms(two, metric="area").pairs
    beside = compare_arms(two | {"c": runs("c", 0.2, factor=0.01)}, metric="area").pairs[0]
    assert beside.test.single == alone.test.single


def test_a_run_that_is_there_twice_is_no_seed_more(tmp_path):
    one = make_run(tmp_path / "one")
    shutil.copytree(one, tmp_path / "two")
    two = change(tmp_path / "two", run="two", seed=1)
    other = {seed: read_outcome(make_run(tmp_path / f"z{seed}", advantage="zscore", seed=seed)) for seed in (0, 1)}
    with pytest.raises(OutcomeError, match="one and two did the same at every step: they are one run, twice"):
        compare_arms({"a": {0: read_outcome(one), 1: read_outcome(two)}, "b": other})
    unknown = {seed: replace(read_outcome(run), digests={}) for seed, run in ((0, one), (1, two))}
    found = compare_arms({"a": unknown, "b": other})
    assert "note: a: seeds 0 and 1 are alike on every sample of every problem" in " ".join(found.notes)


@pytest.mark.parametrize(("seeds", "ending"), [(5, "undecided"), (6, "better"), (10, "better")])
def test_a_difference_that_is_the_same_on_every_seed_is_told_by_signs(tmp_path, seeds, ending):
    arms = {
        name: {
            seed: read_outcome(make_run(tmp_path / f"{name}{seed}", seed=seed, chances=chance)) for seed in range(seeds)
        }
        for name, chance in (("none", 0.0), ("all", 1.1))
    }
    arms["all"] = {seed: replace(run, evaluations=run.evaluations[-1:]) for seed, run in arms["all"].items()}
    (pair,) = compare_arms(arms).pairs
    assert (pair.ending, pair.test.single.sd) == (ending, 0.0)
    if ending == "better":
        assert f"all is better than none by 100.0 points on each of {seeds} seeds (sign flips, p " in pair.verdict


def test_a_difference_of_nothing_has_no_sign():
    assert [signed(x) for x in (0.0123, -0.0004, 0.0004, 0.0, -0.0)] == ["+1.2", "0.0", "0.0", "0.0", "0.0"]
    assert signed(-0.0004, 2) == "-0.04"
