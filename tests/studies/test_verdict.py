"""Verdicts from run folders that are made here: who is better on which base, and what is refused."""

import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import prints
from helpers.studies import HARD, change, finish, make_run

from grouprl.cli import compare, verify
from grouprl.statistics.seeds import paired_t
from grouprl.statistics.sequential import nominal_level
from grouprl.studies.beginning import begin
from grouprl.studies.outcomes import read_outcome
from grouprl.studies.plan import OutcomeError, plan_of
from grouprl.studies.verdict import judge
from grouprl.training.records import read_result, write_result

SEEDS = [str(seed) for seed in range(6)]


def test_a_verdict_for_each_base_and_a_count_over_them(study, capsys):
    study({"tiny": 0.15, "tiny_b": 0.2, "tiny_c": 0.0})
    code, text = prints(compare.main, capsys)("s", "--json", "v.json")
    lines = text.splitlines()
    assert lines[0].startswith("policy=tiny: advantage=zscore is better than advantage=rank by ")
    assert lines[1].startswith("policy=tiny_b: advantage=zscore is better than advantage=rank by ")
    assert lines[2].startswith("policy=tiny_c: advantage=zscore against advantage=rank is undecided: ")
    assert lines[3] == "advantage=rank and advantage=zscore: advantage=zscore better on 2, undecided on 1 of 3 bases."
    assert code == 3
    found = json.loads(Path("v.json").read_text())
    assert found["decided"] is False
    assert [base["pairs"][0]["ending"] for base in found["bases"].values()] == ["better", "better", "undecided"]


def test_of_many_pairs_those_that_are_decided_come_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arms = {"rank": 0.0, "zscore": 0.01, "centered": 0.02, "rloo": 0.25}
    plan = begin(plan_of({"advantage": list(arms), "seed": SEEDS}, []), Path("s"))
    assert plan.question == "which advantage is best: rank, zscore, centered or rloo?"
    for (name, more), seed in itertools.product(arms.items(), range(6)):
        make_run(Path(f"s/{name}-{seed}"), advantage=name, seed=seed, chances=HARD + more)
    code, text = prints(compare.main, capsys)("s", "--report")
    lines = text.splitlines()
    assert all(line.startswith("advantage=rloo is better than ") for line in lines[:3])
    assert all(" is undecided: " in line for line in lines[3:6])
    assert (code, lines[6][:35]) == (3, "Of 6 pairs: 3 better, 3 undecided. ")
    ends = {arm: float(score) for score, arm in re.findall(r"([\d.]+) \(advantage=(\w+)\)", lines[6])}
    assert ends.keys() == arms.keys()
    assert list(ends.values()) == sorted(ends.values(), reverse=True)
    assert f'<p class="summary">{lines[6]}</p>' in Path("s/report.html").read_text()
    change(Path("s/rank-0"), state="running")
    code, text = prints(compare.main, capsys)("s")
    assert (code, "Of 6 pairs" in text) == (3, False)  # nothing is counted before the end


def test_a_pair_that_could_not_be_compared_leaves_a_study_undecided(study, capsys):
    """An arm whose runs all failed before their first evaluation, on one base: the other base's verdict is not all."""
    study({"tiny": 0.2, "tiny_b": 0.2})
    for seed in range(6):
        run = Path(f"s/tiny_b-zscore-{seed}")
        for file in (run / "heldout").iterdir():
            file.unlink()
        change(run, state="failed")
    code, text = prints(compare.main, capsys)("s", "--json", "v.json")
    assert code == 3
    assert text.startswith("policy=tiny: advantage=zscore is better")
    assert "policy=tiny_b: advantage=rank and advantage=zscore: not compared, they have no seed with a result." in text
    assert json.loads(Path("v.json").read_text())["decided"] is False
    code, text = prints(compare.main, capsys)("s", "--baseline", "advantage=zscore")
    assert (code, "policy=tiny_b: advantage=zscore and advantage=rank: not compared" in text) == (3, True)


def test_exit_codes(study, capsys):
    study({"tiny": 0.2})
    assert prints(compare.main, capsys)("s")[0] == 0
    code, text = prints(compare.main, capsys)("nowhere")
    assert (code, text) == (1, "compare.py: nowhere: there is no such folder or file. Give a study (runs/NAME), runs, "
                               "two evaluations, or a table (*.csv).\n")  # fmt: skip
    Path("runs").mkdir()
    Path("s").rename("runs/s")
    assert "Studies here: runs/s." in prints(compare.main, capsys)("nowhere")[1]


def test_a_study_that_looks_twice_has_wider_intervals_and_one_test(study):
    plan = study({"tiny": 0.03}, looks=(4, 6))
    (pair,) = judge(plan, Path("s")).bases["policy=tiny"].pairs
    rank, zscore = judge(plan, Path("s")).bases["policy=tiny"].arms
    wanted = paired_t((zscore.scores - rank.scores).tolist(), nominal_level((4, 6)))
    assert (pair.test.low, pair.test.high) == pytest.approx((wanted.low, wanted.high))
    assert pair.level == nominal_level((4, 6))
    early = judge(plan, Path("s"), seeds_done=4)
    assert early.bases["policy=tiny"].arms[0].seeds == (0, 1, 2, 3)


def test_runs_that_are_not_of_the_plan_are_left_out_and_missing_ones_are_said(study):
    plan = study({"tiny": 0.2})
    make_run(Path("s/other"), advantage="rank", seed=0, chances=0.0, policy="tiny", lr=1.0)
    make_run(Path("s/more"), advantage="rank", seed=9, chances=0.0, policy="tiny")
    shutil.rmtree("s/tiny-zscore-5")
    verdict = judge(plan, Path("s"))
    assert [arm.seeds for arm in verdict.bases["policy=tiny"].arms] == [tuple(range(5))] * 2
    assert "advantage=zscore on policy=tiny: no result of seed 5" in verdict.notes


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"threads": 2}, "have other threads: 1 and 2"),
        ({"package": "b"}, "other versions of grouprl"),
        ({"prompts_per_step": 3}, "no result of seed 5"),
    ],
)
def test_runs_that_differ_in_more_than_their_arms_are_refused(study, change, wanted):
    plan = study({"tiny": 0.2})
    shutil.rmtree("s/tiny-zscore-5")
    make_run(Path("s/tiny-zscore-5"), advantage="zscore", seed=5, chances=HARD, policy="tiny", **change)
    if "prompts_per_step" in change:  # another option: not a run of this study
        assert any(wanted in note for note in judge(plan, Path("s")).notes)
        return
    with pytest.raises(OutcomeError, match=wanted):
        judge(plan, Path("s"))


def test_a_run_of_an_arm_whose_configuration_is_another_is_refused(study):
    plan = study({"tiny": 0.2})
    config = Path("s/tiny-rank-3/config.yaml")
    config.write_text(config.read_text().replace("group_size: 4", "group_size: 8"))
    change(config.parent)
    with pytest.raises(OutcomeError, match="are one arm, and differ in group_size"):
        judge(plan, Path("s"))


@pytest.mark.slow
def test_mixed_machines_are_said(study):
    plan = study({"tiny": 0.2})
    for name in ("rank", "zscore"):
        shutil.rmtree(f"s/tiny-{name}-5")
        make_run(Path(f"s/tiny-{name}-5"), advantage=name, seed=5, chances=HARD, policy="tiny", processor="another")
    (note,) = judge(plan, Path("s")).notes
    assert "several kinds of processor (a processor: seeds 0, 1, 2, 3, 4; another: seeds 5)" in note
    assert "made on different ones" not in note


def test_equal_runs_are_identical_without_a_test(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = begin(plan_of({"advantage": ["rank", "zscore"], "seed": SEEDS}, []), Path("s"))
    for seed in range(6):
        run = make_run(Path(f"s/rank-{seed}"), seed=seed, chances=HARD)
        shutil.copytree(run, f"s/zscore-{seed}")
        for name in ("result.json", "config.yaml"):
            file = Path(f"s/zscore-{seed}") / name
            file.write_text(
                file.read_text().replace("advantage=rank", "advantage=zscore").replace("a.Rank", "a.ZScore")
            )
        content = json.loads(Path(f"s/zscore-{seed}/result.json").read_text())
        content |= {"run": f"zscore-{seed}", "choices": {"advantage": "zscore"}}
        change(Path(f"s/zscore-{seed}"), **content)
    verdict = judge(plan, Path("s"))
    assert verdict.lines() == ["advantage=rank and advantage=zscore are identical on every seed."]
    assert verdict.decided


def test_controls_say_what_a_gain_is_made_of(tmp_path, monkeypatch, capsys):
    """From before training, or from the group's own vote; none is a difference to random reward."""
    monkeypatch.chdir(tmp_path)
    swept = {"advantage": ["rank", "zscore"], "seed": SEEDS}
    plan = begin(plan_of(swept, ["reward=correct"], controls=("random", "majority")), Path("s"))
    assert plan.controls == {n: ("advantage=rank", f"reward={n}") for n in ("random", "majority")}
    assert plan.runs == 24
    made = {}
    for seed in range(6):
        for advantage in ("rank", "zscore"):
            folder = Path(f"s/{advantage}-{seed}")
            made[advantage, seed] = make_run(folder, advantage=advantage, seed=seed, chances=HARD, own_reward="correct")
        for name, chances in (("random", 0.1), ("majority", 0.3)):
            made[name, seed] = make_run(Path(f"s/{name}-{seed}"), seed=seed, chances=chances, own_reward=name)
    verdict = judge(plan, Path("s"))
    (terms,) = verdict.terms.values()
    assert [term.name for term in terms] == ["null", "elicitation", "reward design", "gain"]
    score = {key: read_outcome(folder) for key, folder in made.items()}
    null = [score["random", n].last.correct.mean() - score["random", n].evaluations[0].correct.mean() for n in range(6)]
    design = [score["rank", n].last.correct.mean() - score["majority", n].last.correct.mean() for n in range(6)]
    assert terms[0].test == paired_t(null)
    assert terms[2].test == paired_t(design)
    assert terms[3].scores[1] - terms[3].scores[0] == pytest.approx(terms[3].test.value)
    assert terms[2].greedy == pytest.approx(
        [np.mean([score[name, n].last.greedy.mean() for n in range(6)]) for name in ("majority", "rank")]
    )
    text = prints(compare.main, capsys)("s")[1]
    assert "What advantage=rank gains in pass@1 is made of elicitation and reward design; " in text
    assert f"| reward design | {100 * np.mean(design):+.1f} [" in text
    shutil.rmtree(made["majority", 5])
    code, text = prints(compare.main, capsys)("s")
    assert code == 3
    assert "majority reward on the one base: no result of seed 5" in text
    assert "Not all planned runs have come to their end" in text
    assert [pair.first for pair in verdict.bases["the one base"].pairs] == ["advantage=rank"]  # controls are no arms


def test_a_study_that_ended_at_a_look_is_judged_at_its_level(study, capsys):
    """The seeds of later looks were never run: the interval is still the wide one, and nothing is missing."""
    plan = study({"tiny": 0.2}, seeds=4)
    plan = replace(plan, seeds=tuple(range(8)), looks=(2, 4, 8))
    plan.write(Path("s"))
    code, text = prints(compare.main, capsys)("s", "--json", "v.json")
    (pair,) = json.loads(Path("v.json").read_text())["bases"]["policy=tiny"]["pairs"]
    assert pair["level"] == nominal_level((2, 4, 8))
    assert pair["test"]["single"]["seeds"] == 4
    assert (code, pair["ending"]) == (0, "better")
    assert "no result of seed" not in text


def test_a_study_under_way_decides_nothing(study, capsys):
    """Whatever its first seeds say: runs that have not ended are not counted, nor are they forgotten."""
    plan = study({"tiny": 0.2, "tiny_b": 0.2})
    result = Path("s/tiny-zscore-5/result.json")
    result.write_text(result.read_text().replace('"finished"', '"interrupted"'))
    code, text = prints(compare.main, capsys)("s")
    assert code == 3
    assert "so far, policy=tiny: advantage=zscore is better" in text
    assert text.startswith("Not all planned runs have come to their end: nothing is decided yet.")
    assert judge(plan, Path("s")).bases["policy=tiny"].arms[0].seeds == tuple(range(5))
    shutil.rmtree(Path("s/tiny_b-zscore-0"))
    for seed in range(1, 6):
        shutil.rmtree(Path(f"s/tiny_b-zscore-{seed}"))
    assert "better on 1 of 2 bases" in prints(compare.main, capsys)("s")[1]


def test_failed_runs_count_as_what_they_scored(study, capsys):
    study({"tiny": 0.2})
    shutil.rmtree(Path("s/tiny-zscore-3/heldout"))  # failed before its first evaluation
    for name in ("tiny-rank-2", "tiny-zscore-3"):
        change(Path(f"s/{name}"), state="failed")
    code, text = prints(compare.main, capsys)("s")
    assert code == 0
    assert "tiny-rank-2: failed, counted with its last evaluation" in text
    assert "advantage=zscore on policy=tiny, seed 3: failed: " in text
    assert "5 paired seeds" in text


@pytest.mark.slow
def test_other_held_out_problems_and_doubles_are_refused(study):
    plan = study({"tiny": 0.2})
    shutil.copytree("s/tiny-rank-0", "s/again")
    with pytest.raises(OutcomeError, match="another folder hold the same run"):
        judge(plan, Path("s"))
    shutil.rmtree("s/again")
    change(Path("s/tiny-rank-0"), loaded={"heldout": "others"})
    with pytest.raises(OutcomeError, match="different held-out problems"):
        judge(plan, Path("s"))


@pytest.mark.slow
def test_equal_means_of_other_completions_are_not_identical(study, capsys):
    """Scores that do not vary over seeds have no test, whether they are the same by chance or not."""
    plan = study({"tiny": 0.0}, seeds=3)
    for seed in range(3):
        for advantage, first in (("rank", 0), ("zscore", 20)):
            chances = np.zeros(40)
            chances[first : first + 20] = 1.0
            shutil.rmtree(f"s/tiny-{advantage}-{seed}")
            folder = Path(f"s/tiny-{advantage}-{seed}")
            make_run(folder, advantage=advantage, seed=seed, chances=chances, policy="tiny")
    (pair,) = judge(plan, Path("s")).bases["policy=tiny"].pairs
    assert pair.ending == "undecided"
    assert "every seed differs by 0.0 points: no test is possible" in pair.verdict
    for seed in range(3):
        shutil.rmtree(f"s/tiny-zscore-{seed}")
        make_run(Path(f"s/tiny-zscore-{seed}"), advantage="zscore", seed=seed, chances=1.0, policy="tiny")
    (pair,) = judge(plan, Path("s")).bases["policy=tiny"].pairs
    assert pair.ending == "undecided"
    assert "every seed differs by +50.0 points: no test is possible" in pair.verdict


def test_runs_of_one_seed_on_several_kinds_of_processor_decide_nothing(tmp_path, monkeypatch, capsys):
    """The difference of the arms may be that of the machines."""
    monkeypatch.chdir(tmp_path)
    for seed in range(6):
        make_run(Path(f"s/rank-{seed}"), seed=seed, chances=HARD, processor="one")
        other = {"processor": "another"} if seed == 5 else {"processor": "one"}
        make_run(Path(f"s/zscore-{seed}"), advantage="zscore", seed=seed, chances=HARD + 0.2, **other)
    begin(plan_of({"advantage": ["rank", "zscore"], "seed": SEEDS}, []), Path("s"))
    code, text = prints(compare.main, capsys)("s")
    assert code == 3
    assert text.startswith("Runs of one seed were made on several kinds of processor")
    assert "Runs of seeds 5 were made on different ones." in text


def test_nothing_solved_and_one_seed_are_no_identity(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = ["arm,seed,problem,sample,correct"]
    lines += [f"{arm},{seed},{problem},0,0" for arm in "ab" for seed in range(3) for problem in range(5)]
    Path("t.csv").write_text("\n".join(lines) + "\n")
    code, text = prints(compare.main, capsys)("t.csv")
    assert (code, "no run of either solved anything" in text) == (3, True)
    Path("t.csv").write_text("\n".join([lines[0], "a,0,p,0,1", "b,0,p,0,1"]) + "\n")
    code, text = prints(compare.main, capsys)("t.csv")
    assert (code, "one seed decides nothing" in text) == (3, True)
    Path("t.csv").write_text("\n".join([lines[0], "a,0,p,0,1,9", "b,0,p,0,1,9"]) + "\n")
    assert "too many cells" in prints(compare.main, capsys)("t.csv")[1]


def test_processors_of_one_name_with_other_instructions_are_two_kinds(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in range(6):
        for advantage, more, instructions in (("rank", 0.0, ["avx2"]), ("zscore", 0.2, ["avx512f", "avx2"])):
            run = make_run(Path(f"s/{advantage}-{seed}"), advantage=advantage, seed=seed, chances=HARD + more)
            machine = read_result(run)["machine"] | {"instructions": instructions}
            change(run, machine=machine)
    begin(plan_of({"advantage": ["rank", "zscore"], "seed": SEEDS}, []), Path("s"))
    code, text = prints(compare.main, capsys)("s")
    assert (code, text.startswith("Runs of one seed were made on several kinds of processor")) == (3, True)
    assert "a processor (avx2): seeds 0, 1" in text


def test_arms_whose_weights_differ_are_not_identical(tmp_path, monkeypatch):
    """Graded alike on every problem, which tells of the problems."""
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        run = make_run(Path(f"s/rank-{seed}"), seed=seed)
        shutil.copytree(run, f"s/zscore-{seed}")
        overrides = ["advantage=zscore", f"seed={seed}"]
        change(Path(f"s/zscore-{seed}"), run=f"zscore-{seed}", overrides=overrides)
    plan = begin(plan_of({"advantage": ["rank", "zscore"], "seed": ["0", "1"]}, []), Path("s"))
    (pair,) = judge(plan, Path("s")).bases["the one base"].pairs
    assert pair.ending == "identical"
    for folder in Path("s").glob("*-*"):
        finish(folder, folder.name.encode())
    (pair,) = judge(plan, Path("s")).bases["the one base"].pairs
    assert (pair.ending, pair.other_weights) == ("undecided", True)
    assert "graded alike on every seed, but their trained weights differ" in pair.verdict


def test_a_lost_seed_does_not_take_a_study_back_to_an_earlier_look(study):
    plan = study({"tiny": 0.15}, seeds=8, looks=(4, 8))
    lost = Path("s/tiny-zscore-2")
    for file in (lost / "heldout").iterdir():
        file.unlink()
    change(lost, state="failed")
    verdict = judge(plan, Path("s"))
    assert verdict.complete
    assert verdict.bases["policy=tiny"].arms[0].seeds == (0, 1, 3, 4, 5, 6, 7)


def test_a_verdict_without_its_plan_or_its_runs_is_not_as_recorded(study, capsys):
    """Nobody knows what was asked, or which runs were left out."""
    call = prints(verify.main, capsys)
    plan_there = study({"tiny": 0.3})
    for run in Path("s").glob("tiny-*"):
        finish(run, run.name.encode())
    judge(plan_there, Path("s")).write(Path("s"))
    code, text = call("s", "n=0")
    assert code == 0, text
    result = read_result(Path("s/tiny-rank-0"))
    write_result(Path("s/tiny-rank-0"), result | {"metrics": {"heldout/pass@1/after": 0.99}})
    code, text = call("s", "n=0")
    assert (code, "tiny-rank-0: its summary of metrics is not what the run wrote" in text) == (1, True), text
    write_result(Path("s/tiny-rank-0"), result)
    plan = Path("s/study.json").read_bytes()
    Path("s/study.json").unlink()
    code, text = call("s", "n=0")
    assert (code, "verdict.md is here, and no study.json that says what was asked" in text) == (1, True), text
    Path("s/study.json").write_bytes(plan)
    shutil.rmtree("s/tiny-rank-1")
    for file in ("verdict.md", "verdict.json"):
        Path("s", file).unlink()
    code, text = call("s", "n=0")
    assert (code, "not all planned runs are in it" in text) == (1, True), text
