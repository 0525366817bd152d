"""Files of lm-eval and TRL, as they write them: the comparison is that of the same marks in a long table."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import prints

from grouprl.cli import compare
from grouprl.files import write_parquet

QUESTIONS, SEEDS = 30, 5


@pytest.fixture
def marks(tmp_path, monkeypatch):
    """Right or wrong, [arms, seeds, questions], and the same as a long table."""
    monkeypatch.chdir(tmp_path)
    found = np.random.default_rng(0).random((2, SEEDS, QUESTIONS)) < np.array([0.4, 0.8])[:, None, None]
    rows = ["arm,seed,problem,sample,correct"]
    rows += [f"{arm},{s},{q},0,{int(found['ab'.index(arm), s, q])}" for arm in "ab" for s in range(SEEDS)
             for q in range(QUESTIONS)]  # fmt: skip
    Path("table.csv").write_text("\n".join(rows))
    return found


def lm_eval(file, marks, filters=("flexible-extract",), metrics=("exact_match",)):
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        {"doc_id": q, "doc": {"question": f"q{q}"}, "target": "1", "arguments": {}, "resps": [["1"]], "filter": name}
        | {"metrics": list(metrics)} | {metric: float(mark) for metric in metrics}
        for name in filters
        for q, mark in enumerate(marks)
    ]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def trl(folder, marks, reward="accuracy_reward"):
    folder.mkdir(parents=True, exist_ok=True)
    for step in range(2):
        part = range(step * QUESTIONS // 2, (step + 1) * QUESTIONS // 2)
        rows = [
            {"step": step, "prompt": f"q{q}", "completion": "1", reward: float(marks[q]), "advantage": 0.5}
            for q in part
        ]
        write_parquet(folder / f"completions_{step:05d}.parquet", rows)
    return str(folder)


WRITERS = {
    "lm-eval": lambda name, marks: lm_eval(Path(name) / "samples_gsm8k_2026-01-01T00.jsonl", marks),
    "TRL": lambda name, marks: trl(Path(name) / "completions", marks),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_they_say_what_the_same_marks_in_a_table_say(marks, capsys, kind):
    files = {
        arm: [WRITERS[kind](f"{arm}{s}", row) for s, row in enumerate(of)] for arm, of in zip("ab", marks, strict=True)
    }
    call = prints(compare.main, capsys)
    code, text = call("--arm", "a", *files["a"], "--arm", "b", *files["b"])
    of_table = call("table.csv")
    assert (code, text.splitlines()[0]) == (of_table[0], of_table[1].splitlines()[0])
    numbers = [line for line in text.splitlines() if line.startswith("|")]
    assert numbers == [line for line in of_table[1].splitlines() if line.startswith("|")]
    assert text.startswith("b is better than a by ")
    assert ("training completions, all steps together" in text) == (kind == "TRL")


def test_other_documents_under_one_number_are_not_paired(marks, capsys):
    """Another version of a task, or other targets, have other hashes."""
    files = []
    for arm, of in zip("ab", marks, strict=True):
        file = Path(lm_eval(Path(f"{arm}/samples_x_1.jsonl"), of[0]))
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            row |= {"doc_hash": f"{arm if row['doc_id'] == 3 else 'same'}-{row['doc_id']:08d}", "target_hash": "t"}
            row.pop("metrics")
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        files.append(str(file))
    call = prints(compare.main, capsys)
    code, text = call("--arm", "a", files[0], "--arm", "b", files[1], "--correct", "exact_match")
    assert (code, "differ in problem" in text, "x/3" in text) == (1, True, True), text
    code, text = call("--arm", "a", files[0], "--arm", "b", files[0], "--correct", "exact_match")
    assert (code, "one seed decides nothing" in text) == (3, True), text


def test_the_order_in_which_a_trainer_saw_its_prompts_does_not_matter(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for arm, order in (("a", range(20)), ("b", range(19, -1, -1))):
        for seed in range(3):
            rows = [{"step": n, "prompt": f"q{q}", "completion": "1", "right": float(q < 5 + seed + 9 * (arm == "b"))}
                    for n, q in enumerate(order)]  # fmt: skip
            Path(f"{arm}{seed}").mkdir()
            write_parquet(Path(f"{arm}{seed}/completions_00000.parquet"), rows)
    files = {arm: [f"{arm}{seed}" for seed in range(3)] for arm in "ab"}
    _, text = prints(compare.main, capsys)("--arm", "a", *files["a"], "--arm", "b", *files["b"])
    assert "every seed differs by +45.0 points" in text


def test_two_runs_of_a_task_are_not_taken_for_one(marks, capsys):
    files = [lm_eval(Path(f"a/samples_gsm8k_{time}.jsonl"), marks[0, 0]) for time in ("2026-01-01", "2026-01-02")]
    code, text = prints(compare.main, capsys)("--arm", "a", "a", "--arm", "b", *files[:1])
    assert (code, "several files of samples_gsm8k" in text) == (1, True), text


def test_what_they_leave_open_is_asked(marks, capsys):
    call = prints(compare.main, capsys)
    two = [
        lm_eval(Path(f"{arm}/samples_x_1.jsonl"), of[0], ("strict", "flexible"), ("exact_match", "f1"))
        for arm, of in zip("ab", marks, strict=True)
    ]
    arms = ["--arm", "a", two[0], "--arm", "b", two[1]]
    assert "Say which one is 0 or 1: --correct." in call(*arms, "--filter", "strict")[1]
    assert "Choose one: --filter." in call(*arms, "--correct", "f1")[1]
    assert "no filter other; there are flexible, strict" in call(*arms, "--correct", "f1", "--filter", "other")[1]
    assert "no bleu; there are exact_match, f1" in call(*arms, "--filter", "strict", "--correct", "bleu")[1]
    code, text = call(*arms, "--filter", "strict", "--correct", "f1")
    assert (code, "one seed decides nothing" in text) == (3, True)


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"doc_id": 1}, "not a row of lm-eval's samples"),
        ({"doc_id": 1, "resps": [], "metrics": ["m"], "m": 0.5}, "m=0.5 is neither 0 nor 1"),
        ({"doc_id": 1, "resps": [], "metrics": ["m"]}, "m=None is neither 0 nor 1"),
        ({"doc_id": 1, "resps": [], "metrics": ["m"], "m": [1]}, "m=[1] is neither 0 nor 1"),
        ({"doc_id": 1, "resps": [], "metrics": [["m"]]}, "is no list of names"),
        ({"doc_id": 1, "resps": [], "metrics": "m", "m": 1}, "is no list of names"),
    ],
)
def test_what_is_no_file_of_theirs_is_named(tmp_path, monkeypatch, capsys, row, wanted):
    monkeypatch.chdir(tmp_path)
    Path("s.jsonl").write_text(json.dumps(row) + "\n")
    Path("empty").mkdir()
    call = prints(compare.main, capsys)
    code, text = call("--arm", "a", "s.jsonl", "--arm", "b", "s.jsonl")
    assert (code, wanted in text) == (1, True), text
    code, text = call("--arm", "a", "s.jsonl", "--arm", "b", "s.jsonl", "--export=x.csv")
    assert (code, text) == (1, "compare.py: --export is of a study: python compare.py STUDY.\n")
    assert call("--correct", "m", "s.jsonl")[0] == 2
    assert "gone: there is no such file" in call("--arm", "a", "gone", "--arm", "b", "s.jsonl")[1]
    assert "no file of lm-eval" in call("--arm", "a", "empty", "--arm", "b", "s.jsonl")[1]
    assert "a name of its own" in call("--arm", "a", "s.jsonl", "--arm", "a", "s.jsonl")[1]
    assert call("--arm", "a")[0] == 1
    assert call()[0] == 2
    assert call("x", "--arm", "a", "s.jsonl")[0] == 2


def test_a_document_that_is_there_twice_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    row = json.dumps({"doc_id": 1, "resps": [], "metrics": ["m"], "m": 1})
    Path("s.jsonl").write_text(f"{row}\n{row}\n")
    code, text = prints(compare.main, capsys)("--arm", "a", "s.jsonl", "--arm", "b", "s.jsonl")
    assert (code, "line 2: document 1 is there twice" in text) == (1, True), text


def test_training_that_ended_within_a_pass_is_compared_by_as_many_samples_of_each_prompt(tmp_path, monkeypatch, capsys):
    """20 prompts and 32 completions: 12 of them were seen twice, others in each run."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for arm in "ab":
        for seed in range(6):
            order = [*generator.permutation(20), *generator.permutation(20)[:12]]
            right = generator.random(32) < (0.3 if arm == "a" else 0.9)
            rows = [{"step": n, "prompt": f"q{q}", "completion": "1", "right": float(right[n])}
                    for n, q in enumerate(order)]  # fmt: skip
            Path(f"{arm}{seed}").mkdir()
            write_parquet(Path(f"{arm}{seed}/completions_00000.parquet"), rows)
    files = {arm: [f"{arm}{seed}" for seed in range(6)] for arm in "ab"}
    _, text = prints(compare.main, capsys)("--arm", "a", *files["a"], "--arm", "b", *files["b"])
    assert text.startswith("b is better than a by ")
    assert "over 20 problems with 1 sample each" in text
