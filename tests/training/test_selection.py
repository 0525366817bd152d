"""Training problems that are test problems, filters of data, and problems a policy solves sometimes."""

import json

import pytest

from grouprl.data.problems import jsonl_problems
from grouprl.evaluation.benchmarks import load_benchmark
from grouprl.training.records import read_result

SMALL = ["steps=1", "prompts_per_step=2", "group_size=4", "minibatches=1", "ppo_epochs=1", "max_new_tokens=24"]
SMALL += ["eval_every=0", "warmup_steps=0", "data.heldout_size=2"]


def problem(n):
    return f"Mia has {n} red apples and buys {n + 7} green apples at the old market. How many apples does she have?"


@pytest.fixture
def folders(tmp_path):
    """Training rows 0 to 19, of which 3 and 4 are test problems of GSM8K in a folder of benchmark files."""
    test = tmp_path / "benchmarks"
    test.mkdir()
    rows = [{"problem": f"  {problem(n)} ", "answer": str(2 * n + 7)} for n in (103, 104, 200)]
    (test / "gsm8k_test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    numbers = [*range(3), 103, 104, *range(5, 20)]
    rows = [{"problem": f"What is {n} + 1?" if n < 100 else problem(n), "answer": "1"} for n in numbers]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["data=jsonl", "data.path=train.jsonl", "overlap.data_dir=benchmarks", "overlap.benchmarks=[gsm8k]", *SMALL]


def test_overlap_is_refused_with_the_list(train, folders, capsys):
    assert train(*folders, small=False) == 2
    text = capsys.readouterr().err
    assert "gsm8k: 2 of its 3 problems" in text
    assert "Mia has 103 red apples" in text
    assert "overlap.action=drop" in text
    assert "overlap.allow=[gsm8k]" in text


def test_overlap_that_is_allowed_is_written_down(train, folders, tmp_path):
    assert train(*folders, "overlap.allow=[gsm8k]", small=False) == 0
    (run,) = (tmp_path / "runs").iterdir()
    found = read_result(run)["contamination"]["gsm8k"]
    assert found["indices"] == [0, 1]
    assert (found["test"], found["test_overlapping"], found["exact"]) == (3, 2, 2)


def test_overlap_can_be_left_out(train, folders, tmp_path, caplog):
    assert train(*folders, "overlap.action=drop", small=False) == 0
    assert "2 training problems overlap with gsm8k: left out" in caplog.text
    (run,) = (tmp_path / "runs").iterdir()
    assert read_result(run)["contamination"]["gsm8k"]["indices"] == []


def test_training_on_math500_is_caught(train, real_data, capsys):
    """The case that must be caught: MATH-500's rows under another name, where MATH-500 is reported."""
    options = ["data=jsonl", f"data.path={real_data / 'math500.jsonl'}", f"overlap.data_dir={real_data}"]
    assert train(*options, "overlap.benchmarks=[math500,aime24]", *SMALL, "prompt.overlong=drop", small=False) == 2
    text = capsys.readouterr().err
    assert "math500: " in text
    assert "aime24" not in text
    assert load_benchmark("math500").size == 500


@pytest.mark.parametrize(
    ("filters", "answers"),
    [
        ({}, ["0", "1", "2", "3", "4", "5"]),
        ({"levels": [2, 3]}, ["2", "3", "4", "5"]),
        ({"types": ["Algebra"]}, ["0", "2", "4"]),
        ({"levels": [1], "types": ["Geometry"]}, ["1"]),
    ],
)
def test_levels_and_types(tmp_path, filters, answers):
    file = tmp_path / "rows.jsonl"
    rows = [
        {"problem": f"p{n}", "answer": str(n), "level": f"Level {n // 2 + 1}", "type": ("Algebra", "Geometry")[n % 2]}
        for n in range(6)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = jsonl_problems(str(file), heldout_size=0, **filters)
    assert [row.answer for row in splits.train] == answers
    with pytest.raises(ValueError, match=r"no row of them \(levels there are: 1, 2, 3\)"):
        jsonl_problems(str(file), levels=[9])
    with pytest.raises(ValueError, match="no column 'kind'"):
        jsonl_problems(str(file), types=["Algebra"], columns={"type": "kind"})
