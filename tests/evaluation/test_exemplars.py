"""Files of exemplars and of benchmark problems that are not what they should be: one line that names file and line."""

import json
import re
from dataclasses import replace

import pytest

from grouprl.data.exemplars import read_exemplars
from grouprl.evaluation.benchmarks import load_benchmark
from grouprl.evaluation.exemplars import exemplars_for

GOOD = {"problem": "1 + 1?", "solution": "1 + 1 = 2.", "answer": 2}


def write(path, *rows):
    path.write_bytes(b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows))
    return str(path)


def test_exemplars_of_ones_own(tmp_path):
    benchmark = load_benchmark("gsm8k")
    path = write(tmp_path / "mine.jsonl", GOOD, GOOD | {"choices": ["1", 2], "solution": None})
    first, second = exemplars_for(benchmark, path)
    assert (first.problem, first.solution, first.answer, first.choices) == ("1 + 1?", "1 + 1 = 2.", "2", ())
    assert (second.solution, second.choices) == ("", ("1", "2"))
    assert len(exemplars_for(benchmark, write(tmp_path / "many.jsonl", *[GOOD] * 20))) == benchmark.shots


def test_a_problem_in_messages_is_its_text(tmp_path):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]
    file = tmp_path / "gsm8k_test.jsonl"
    file.write_text(json.dumps({"problem": chat, "solution": "It is 2.", "answer": "2"}) + "\n")
    (shot,) = read_exemplars(str(file))
    (problem,) = load_benchmark("gsm8k").problems(data_dir=str(tmp_path))
    assert shot.problem == problem.problem == "Be brief.\n\n1 + 1?"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([1], "not a JSON object in UTF-8 (it is a list)"),
        (b'{"problem": ', "not a JSON object in UTF-8"),
        (b'{"problem": "\xff"}', "not a JSON object in UTF-8"),
        (b'{"problem": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested more than 100 deep"),
        ({"solution": "x", "answer": "1"}, "not an exemplar (no problem)"),
        ({"problem": "1?", "solution": "x"}, "not an exemplar (no answer)"),
        (GOOD | {"problem": ["1?"]}, "not an exemplar (the problem is a list, and not one of messages"),
        (GOOD | {"answer": {"value": 1}}, "not an exemplar (the answer is a dict"),
        (GOOD | {"answer": float("nan")}, "not an exemplar (the answer is the number nan)"),
        (GOOD | {"solution": [1]}, "not an exemplar (the solution is a list"),
        (GOOD | {"choices": "ABCD"}, "not an exemplar (the choices are a str, and no list)"),
        (GOOD | {"choices": [["A"]]}, "not an exemplar (the choices is a list"),
    ],
)
def test_a_row_that_is_no_exemplar_is_named(tmp_path, row, said):
    path = write(tmp_path / "mine.jsonl", GOOD, row)
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        exemplars_for(load_benchmark("gsm8k"), path)
    assert str(refused.value).startswith(f"{path}, line 2: ")
    assert "\n" not in str(refused.value)


def test_a_file_without_exemplars_is_refused(tmp_path):
    benchmark = load_benchmark("gsm8k")
    with pytest.raises(ValueError, match=r"exemplars=.*empty\.jsonl: the file holds no exemplar"):
        exemplars_for(benchmark, write(tmp_path / "empty.jsonl"))
    with pytest.raises(ValueError, match=r"exemplars=.*none\.jsonl: there is no such file"):
        exemplars_for(benchmark, str(tmp_path / "none.jsonl"))
    with pytest.raises(ValueError, match=r"exemplars=.*: this is a folder"):
        exemplars_for(benchmark, str(tmp_path))


def test_a_training_file_with_a_broken_row_is_named(tmp_path):
    benchmark = replace(load_benchmark("gsm8k"), shots_file="train.jsonl")
    long = GOOD | {"solution": "One and one are two, as everybody knows who counts."}
    write(tmp_path / "train.jsonl", *[long] * benchmark.shots, long | {"problem": 3})
    line = benchmark.shots + 1
    with pytest.raises(ValueError, match=rf"train\.jsonl, line {line}: not an exemplar \(the problem is a int"):
        exemplars_for(benchmark, data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"problem": ["1?"], "answer": "1"}, "the problem is a list, and not one of messages"),
        ({"problem": None, "answer": "1"}, "no problem"),
        ({"problem": "1?", "answer": [1]}, "the answer is a list"),
        ({"problem": "1?", "answer": float("inf")}, "the answer is the number inf"),
        ({"problem": "x" * 1_000_001, "answer": "1"}, "the problem has 1000001 characters"),
    ],
)
def test_a_problem_of_a_benchmark_that_cannot_be_used_is_named(tmp_path, row, said):
    benchmark = replace(load_benchmark("gsm8k"), file="test.jsonl")
    write(tmp_path / "test.jsonl", {"problem": "1 + 1?", "answer": 2}, row)
    with pytest.raises(ValueError, match=rf"benchmark=gsm8k: .*test\.jsonl, row 2: {said}"):
        benchmark.problems(str(tmp_path))
    assert benchmark.problems(str(tmp_path), limit=1)[0].answer == "2"


def test_choices_of_a_benchmark_are_a_list(tmp_path):
    benchmark = replace(load_benchmark("mmlu_stem"), file="test.jsonl")
    write(tmp_path / "test.jsonl", {"problem": "1?", "answer": "A", "choices": 7})
    with pytest.raises(ValueError, match=r"row 1: the choices are a int, and no list"):
        benchmark.problems(str(tmp_path))
