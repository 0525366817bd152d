"""From a command line to a verdict: runs by a launcher, looks, going on, and the exit code."""

import json
from pathlib import Path

import pytest
from helpers.runs import same, weights

from grouprl.files import read_parquet
from grouprl.studies.plan import PLAN_FILE
from grouprl.training.records import read_metrics, read_result
from grouprl.training.shared import sealed

pytestmark = pytest.mark.slow
ARMS = ["-m", "lr=1e-3,3e-3", "max_new_tokens=100", "threads=1"]


def runs(study):
    return {
        folder.name: folder for folder in sorted(Path("runs", study).iterdir()) if (folder / "result.json").is_file()
    }


def test_a_study_ends_in_its_verdict_and_is_found_again(train, capfd):
    code = train(*ARMS, "seed=0,1", "study=a", "margin=90")
    text = capfd.readouterr().out
    assert code in (0, 3)
    assert text.startswith("Study: which lr is better: 0.001 or 0.003?\n2 arms, 2 seeds: 4 runs.")
    assert "study: 3 of 4 runs done, less than a minute left" in text
    verdict = Path("runs/a/verdict.md").read_text()
    (line,) = [line for line in verdict.splitlines() if line.startswith("lr=0.00") and " - " not in line]
    assert line in text
    assert json.loads(Path("runs/a/verdict.json").read_text())["verdicts"] == [line]
    before = {name: (folder / "result.json").stat().st_mtime_ns for name, folder in runs("a").items()}
    assert train(*ARMS, "seed=0,1", "study=a", "margin=90") == code
    again = capfd.readouterr().out
    assert again.count("finished before, skipped") == 4
    assert line in again
    assert {name: (folder / "result.json").stat().st_mtime_ns for name, folder in runs("a").items()} == before
    plan = json.loads(Path("runs/a", PLAN_FILE).read_text())
    assert (plan["margin"], plan["changes"], plan["conditions"]["package"]) == (
        90.0,
        [],
        read_result(runs("a").popitem()[1])["identity"]["package"],
    )
    assert train(*ARMS, "seed=0,1", "study=a", "lr=1e-4,2e-4", "margin=90") == 2
    assert "runs/a holds another study" in capfd.readouterr().err


def test_runs_beside_each_other_are_the_same_runs(train, capfd):
    assert train(*ARMS, "seed=0,1", "study=in_turn") in (0, 3)
    capfd.readouterr()
    code = train(*ARMS, "seed=0,1", "study=beside", "jobs=2")
    text = capfd.readouterr().out
    assert code == 3  # what the other study's runs were is known
    assert "exploratory: written after 4 of its runs had ended (in_turn/" in text
    assert "Next: the same on other seeds, whose plan is there before its runs" in text
    first, second = runs("in_turn"), runs("beside")
    assert list(first) == list(second)
    for name in first:
        assert read_result(second[name])["state"] == "finished"
        ours, theirs = weights(first[name]), weights(second[name])
        assert all(bool((ours[key] == theirs[key]).all()) for key in ours), name


def test_a_study_stops_at_the_look_that_decides_it(train, capfd):
    """Arms that are equal to the bit, and solve something, are identical after two seeds: the third is not run."""
    same = ["-m", "eps_high=0.2,0.3", "max_new_tokens=100", "threads=1", "steps=1", "minibatches=1"]
    assert train(*same, "until=decided", "looks=[2,3]", "study=u") == 2
    assert "eps_high=0.2 and eps_high=0.3 are the same: with one optimizer step" in capfd.readouterr().err
    assert not Path("runs/u").exists()
    code = train(*same, "until=decided", "looks=[2,3]", "study=u", "on_noop=warn")
    text = capfd.readouterr().out
    assert code == 0, text
    assert "note: eps_high=0.2 and eps_high=0.3 are the same: with one optimizer step" in text
    assert "after 2 seeds: eps_high=0.2 and eps_high=0.3 are identical on every seed." in text
    assert len(runs("u")) == 4
    assert "4 of 6 runs done" in text


def test_runs_that_fail_in_training_count_as_what_they_scored_before(train, capfd):
    Path("own.py").write_text(
        "class Reward:\n"
        "    def __init__(self, how): self.how = how\n"
        "    def __call__(self, completions, prompts):\n"
        "        if self.how == 'fails' and 'I do not know.' not in completions[0]: raise ValueError('no')\n"
        "        return [[float(len(text)) for text in row] for row in completions]\n"
    )
    own = ["reward=custom", "reward._target_=own.Reward", "+reward.how=good,fails"]
    assert train("-m", *own, "seed=0,1", "study=f") in (0, 3)
    text = capfd.readouterr().out
    assert text.count(" failed: ") == 2
    assert text.count("failed, counted with its last evaluation, after 0 iterations") == 2


def test_repetitions_differ_in_their_draws_alone(train, capfd):
    """An A/A study: the same problems in the same order, the same first evaluation, and other completions."""
    assert train("-m", "repeat=a,b", "seed=0,1", "study=aa", "max_new_tokens=100", "threads=1") in (0, 3)
    by_arm = {}
    for folder in runs("aa").values():
        result = read_result(folder)
        by_arm[next(o for o in result["overrides"] if o.startswith("repeat=")), result["seed"]] = folder
    assert sorted(by_arm) == [(f"repeat={name}", seed) for name in "ab" for seed in (0, 1)]
    first, second = by_arm["repeat=a", 0], by_arm["repeat=b", 0]
    before = [(folder / "heldout/iteration-00000.parquet").read_bytes() for folder in (first, second)]
    assert before[0] == before[1]
    rows = [next(row for row in read_metrics(folder) if "reward" in row) for folder in (first, second)]
    assert read_result(first)["loaded"] == read_result(second)["loaded"]  # weights, problems, prompts
    assert rows[0]["completion/length"] != rows[1]["completion/length"]


def test_every_arm_tries_the_same_values_before_and_takes_its_best(train, capfd):
    options = ["-m", "advantage=rank,zscore", "lr=1e-3", "seed=0,1", "max_new_tokens=40", "threads=1", "steps=1"]
    tune = ["tune=lr", "tune_grid=[0.5,1,2]", "tune_seeds=[7]", "study=t"]
    code = train(*options, *tune)
    text = capfd.readouterr().out
    assert code in (0, 3), text
    assert "2 arms, 2 seeds: 10 runs." in text
    plan = json.loads(Path("runs/t", PLAN_FILE).read_text())
    assert plan["tuning"] == {"option": "lr", "values": ["0.0005", "0.001", "0.002"], "seeds": [7]}
    (best,) = plan["tuned"].values()
    found = {name: read_result(folder) for name, folder in runs("t").items()}
    assert len(found) == 10
    for arm in ("rank", "zscore"):
        tried = {
            o: result["metrics"]["heldout/pass@1/after"]
            for result in found.values()
            for o in result["overrides"]
            if result["seed"] == 7 and f"advantage={arm}" in result["overrides"] and o.startswith("lr=")
        }
        assert {float(value.partition("=")[2]) for value in tried} == {0.0005, 0.001, 0.002}
        chosen = best[f"advantage={arm}"]
        assert tried[f"lr={chosen}"] == max(tried.values())
        own = [result for result in found.values() if f"advantage={arm}" in result["overrides"] and result["seed"] < 7]
        assert [f"lr={chosen}" in result["overrides"] for result in own] == [True, True]
    verdict = Path("runs/t/verdict.md").read_text()
    assert "Tuned before the study: lr, the same values for every arm, seeds 7." in verdict
    assert ("not tuned: the best lr of" in verdict) == any(value != "0.001" for value in best.values())
    assert train(*options, *tune) == code
    assert capfd.readouterr().out.count("finished before, skipped") == 10
    assert train(*options, *tune, "tune_grid=[0.5,1,4]") == 2
    assert "its study tunes lr=0.0005,0.001,0.002" in capfd.readouterr().err


def test_the_evaluation_before_training_is_made_once_for_all_arms_of_a_seed(train, monkeypatch):
    options = ["max_new_tokens=40", "threads=1", "steps=1", "seed=0", "eval_every=0"]
    assert train("-m", "lr=1e-3,2e-3", *options, "study=h") in (0, 3)
    (file,) = Path("runs/h").glob("start-*.json")
    first, second = runs("h").values()
    before = "heldout/iteration-00000.parquet"
    assert read_parquet(first / before) == read_parquet(second / before)
    assert train("lr=1e-3", *options, "hydra.run.dir=alone") == 0
    assert read_parquet(Path("alone", before)) == read_parquet(first / before)
    assert same(weights("alone"), weights(first))
    ours, theirs = (read_result(run)["digests"] for run in (Path("alone"), first))
    assert {name: ours[name] for name in ours if theirs[name] != ours[name]}.keys() == {
        "options or conditions",
        "summary of metrics",
    }
    # What is there is taken, and not what was edited; other samples are other work.
    content = json.loads(file.read_text())
    content["results"][0]["greedy_correct"] = not content["results"][0]["greedy_correct"]
    for study, there in {"edited": content, "other": sealed(content["key"], content["results"])}.items():
        place = Path("runs", study, file.name)
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(there))
        assert train("-m", "lr=1e-3", *options, f"study={study}") == 0
        (run,) = runs(study).values()
        same_start = read_parquet(run / before) == read_parquet(first / before)
        assert same_start == (study == "edited")
    assert train("-m", "lr=1e-3", *options, "eval_samples=3", "study=more") == 0
    assert [f.name for f in Path("runs/more").glob("start-*.json")] != [file.name]
