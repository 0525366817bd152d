"""Stored samples are graded anew without sampling, other readings show the grader's faults, and what a benchmark says."""

import json
from pathlib import Path

import pytest

from grouprl.answers.grading import GRADER_VERSION
from grouprl.cli import compare, evaluate
from grouprl.evaluation import audit, regrade
from grouprl.evaluation.benchmarks import Benchmark
from grouprl.evaluation.comparison import ComparisonError
from grouprl.evaluation.comparison import compare as compared
from grouprl.evaluation.rows import Grading, grade_rows
from grouprl.files import FileError, read_parquet, write_json, write_parquet

ASKED = ["policy=tiny", "benchmark=tiny", "limit=12", "max_new_tokens=80"]


@pytest.fixture
def evaluation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluate.main([*ASKED, "out=a"])
    return Path("a")


def as_of(folder, version, flip):
    """The evaluation as another version of the grader left it, which took some right answers for wrong."""
    results = json.loads((folder / "results.json").read_text())
    (key,) = results["measured"]
    rows = read_parquet(folder / "tiny-cot.parquet")
    right = [place for place, row in enumerate(rows) if row["correct"]][:flip]
    for place in right:
        rows[place] |= {"correct": False, "status": "wrong"}
    write_parquet(folder / "tiny-cot.parquet", rows)
    results["measured"][key]["settings"]["grader"] = version
    results["measured"][key]["accuracy"]["value"] = sum(row["correct"] for row in rows) / len(rows)
    write_json(folder / "results.json", results)
    return len(right)


def test_an_evaluation_is_graded_anew_and_goes_on(evaluation, capsys):
    before = json.loads((evaluation / "results.json").read_text())["measured"]["tiny/cot"]
    table = (evaluation / "results.md").read_text()
    assert as_of(evaluation, "0", flip=2) == 2
    (line,) = regrade.regrade(evaluation)
    now = json.loads((evaluation / "results.json").read_text())["measured"]["tiny/cot"]
    assert line.startswith("tiny/cot: 2 of 12 verdicts changed, ")
    assert now["accuracy"] == before["accuracy"]
    assert now["settings"]["grader"] == GRADER_VERSION
    assert [part["grader"] for part in now[regrade.BEFORE]] == ["0"]
    assert (evaluation / "results.md").read_text() == table
    capsys.readouterr()
    evaluate.main([*ASKED, "out=a"])  # the blocks are of this version, and none is sampled again
    again = json.loads((evaluation / "results.json").read_text())["measured"]["tiny/cot"]
    assert again["accuracy"] == before["accuracy"]


def test_two_versions_are_not_compared_and_the_remedy_is_named(evaluation, capsys):
    evaluate.main([*ASKED, "out=b"])
    as_of(evaluation, "0", flip=1)
    with pytest.raises(ComparisonError, match=r"regrade a b$"):
        compared(evaluation, Path("b"))
    regrade.regrade(evaluation)
    (pair,) = compared(evaluation, Path("b"))
    assert pair.first == pair.second
    with pytest.raises(SystemExit):
        compare.main(["a", "c"])


def test_what_is_no_evaluation_is_named(tmp_path):
    with pytest.raises(FileError, match="no evaluation is here"):
        regrade.regrade(tmp_path)


def row(answer, gold, correct, **more):
    return {
        **{"index": 0, "sample": 0, "completion": answer, "gold": gold, "answer": answer, "correct": correct},
        **{"status": "correct" if correct else "wrong", "rule": "number", **more},
    }


def test_other_readings_say_where_they_differ():
    rows = [row(r"\boxed{5}. #### 6", "6", True), row(r"\boxed{7}", "7", True), row("8", "8", True, status="overlong")]
    first, *_ = audit.audit(rows, Grading(extraction="lenient"))
    assert (first["name"], first["read"], first["differ"]) == ("boxed extraction", 2, 1)
    assert first["examples"][0]["gold"] == "6"
    assert "1 of 2 verdicts would be others (50.0%)" in audit.lines_of([first])[0]


def test_an_evaluation_is_audited_by_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluate.main([*ASKED, "out=a", "audit=true"])
    (found, *_) = json.loads(Path("a/results.json").read_text())["measured"]["tiny/cot"]["audit"]
    assert (found["name"], found["read"]) == ("boxed extraction", 12)
    assert "read by others" in Path("a/results.md").read_text()


@pytest.mark.parametrize(
    ("columns", "text", "correct"),
    [
        ({"answer": "4.2", "unit": "%", "error": "1e-1"}, r"\boxed{4.25}", True),
        ({"answer": "4.2", "unit": "%", "error": "1e-1"}, r"\boxed{4.4}", False),
        ({"answer": "4.2"}, r"\boxed{4.25}", False),
        ({"answer": "45", "unit": "minute"}, r"\boxed{45 \text{ minutes}}", True),
        ({"answer": "45", "unit": "minute"}, r"\boxed{45}", True),
        ({"answer": "45", "unit": "minute"}, r"\boxed{45 \text{ hours}}", False),
        ({"answer": "$166$", "unit": "$cm^2$"}, r"\boxed{166\text{ cm}^2}", True),
        ({"answer": "$166$", "unit": "$cm^2$"}, r"\boxed{166\text{ cm}^3}", False),
        ({"answer": "5", "accepted": ["6", "7"]}, r"\boxed{7}", True),
        ({"answer": "5", "accepted": ["6", "7"]}, r"\boxed{8}", False),
    ],
)
def test_what_a_benchmark_says_of_an_answer_counts(tmp_path, columns, text, correct):
    (tmp_path / "set.jsonl").write_text(json.dumps({"problem": "How much?", **columns}) + "\n")
    benchmark = Benchmark("set", "Set", "MIT", 1, file="set.jsonl")
    (problem,) = benchmark.problems(str(tmp_path))
    (verdict,) = Grading.of(benchmark, "boxed").verdicts([text], [problem])
    assert verdict.correct is correct
    kept = {"tolerance": problem.tolerance, "accepted": list(problem.accepted)}
    (again,) = grade_rows([row(text, problem.answer, False, **kept)], Grading.of(benchmark, "boxed"))
    assert again["correct"] is correct
    if "accepted" in columns and correct:
        assert verdict.rule == "text, accepted answer 3"


def test_an_error_that_is_no_number_is_named(tmp_path):
    (tmp_path / "set.jsonl").write_text(json.dumps({"problem": "p", "answer": "1", "error": "small"}) + "\n")
    with pytest.raises(ValueError, match="row 1: its error 'small' is no number"):
        Benchmark("set", "Set", "MIT", 1, file="set.jsonl").problems(str(tmp_path))


def test_the_one_tolerance_of_olympiadbench_is_read(real_data):
    problems = Benchmark("o", "O", "MIT", 674, file="olympiadbench.jsonl").problems(str(real_data))
    assert [(p.answer, round(p.tolerance, 4)) for p in problems if p.tolerance] == [("4.2%", 0.0238)]
    assert len(problems) >= 674
