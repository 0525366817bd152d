import json

import pytest

from grouprl.data.problems import hub_problems, jsonl_problems
from grouprl.data.rows import Problem


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def test_jsonl_rows_columns_and_split(problems_file):
    splits = jsonl_problems(str(problems_file))
    assert len(splits.train) == 32
    assert len(splits.heldout) == 8
    assert not {p.problem for p in splits.train} & {p.problem for p in splits.heldout}
    assert splits == jsonl_problems(str(problems_file))
    assert splits != jsonl_problems(str(problems_file), seed=1)
    assert len(jsonl_problems(str(problems_file), limit=5).train) == 5


def test_answer_formats_and_column_names(tmp_path):
    rows = [{"q": "a?", "sol": "so #### 1,234"}] * 5
    path = write(tmp_path / "a.jsonl", rows)
    splits = jsonl_problems(path, columns={"problem": "q", "answer": "sol"}, answer_format="hashes")
    assert splits.train[0] == Problem("a?", "1,234")
    boxed = write(tmp_path / "b.jsonl", [{"problem": "a?", "answer": r"so \boxed{\frac{1}{2}}."}])
    assert jsonl_problems(boxed, answer_format="boxed").train[0].answer == r"\frac{1}{2}"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no rows"),
        (["{broken"], "line 1: not a JSON object"),
        (["[1, 2]"], "line 1: not a JSON object in UTF-8 .it is a list"),
        ([{"problem": "a", "gold": "1"}], r"data.columns.answer=answer: .*no such column. It has: problem, gold"),
        ([{"problem": "a", "answer": "1"}, {"problem": "b", "answer": ""}], "line 2: no answer"),
        ([{"problem": "a", "answer": None}], "line 1: no answer"),
        ([{"problem": " ", "answer": "1"}], "line 1: no problem"),
    ],
)
def test_bad_rows_are_named(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        jsonl_problems(write(tmp_path / "bad.jsonl", rows))


def test_invalid_utf8_is_named(tmp_path):
    (tmp_path / "bad.jsonl").write_bytes(b'{"problem": "\xff", "answer": "1"}\n')
    with pytest.raises(ValueError, match=r"line 1: not a JSON object in UTF-8"):
        jsonl_problems(str(tmp_path / "bad.jsonl"))


def test_a_missing_file_is_named():
    with pytest.raises(ValueError, match=r"data.path=nowhere.jsonl: there is no such file"):
        jsonl_problems("nowhere.jsonl")


def test_a_dataset_folder_is_loaded_as_from_the_hub(tmp_path):
    for split, rows in {"train": 10, "test": 4}.items():
        write(tmp_path / f"{split}.jsonl", [{"question": f"{split} {i}?", "answer": f"#### {i}"} for i in range(rows)])
    columns = {"problem": "question", "answer": "answer"}
    splits = hub_problems(str(tmp_path), heldout_split="test", columns=columns, answer_format="hashes")
    assert len(splits.train) == 10
    assert splits.heldout[3] == Problem("test 3?", "3")
    with pytest.raises(ValueError, match=r"data.columns.problem=problem"):
        hub_problems(str(tmp_path))


def test_real_files_are_read(real_data):
    splits = jsonl_problems(str(real_data / "gsm8k_train.jsonl"), limit=100)
    assert len(splits.train) == 100
    assert len(splits.heldout) == 200


def rows_to_file(path, rows):
    path.write_bytes(b"".join(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n" for row in rows))
    return str(path)


MIXED = [
    {"problem": "1 + 1?", "answer": "2"},
    b"\xff\xfe broken\n",
    {"problem": "1 + 2?", "answer": ""},
    {"problem": "", "answer": "4"},
    {"problem": "1 + 1?", "answer": "2"},
    {"problem": "1 + 1?", "answer": "3"},
    {"problem": "1 + 3?"},
    *({"problem": f"{n} + 1?", "answer": str(n + 1)} for n in range(10, 20)),
]


def test_bad_rows_are_reported_by_line_and_dropped_when_asked(tmp_path, caplog):
    path = rows_to_file(tmp_path / "mixed.jsonl", MIXED)
    with pytest.raises(ValueError, match=r"5 bad rows(.|\n)*line 2: not a JSON object(.|\n)*line 3: no answer"):
        jsonl_problems(path)
    splits = jsonl_problems(path, bad_rows="drop", heldout_size=1)
    assert len(splits.train) + len(splits.heldout) == 11
    shown = caplog.text
    assert "5 bad rows dropped" in shown
    assert "1 duplicate row dropped" in shown
    assert "line 5: the problem of line 1" in shown
    kept = jsonl_problems(path, bad_rows="drop", duplicates="keep", heldout_size=1)
    assert len(kept.train) + len(kept.heldout) == 12
    with pytest.raises(ValueError, match="1 duplicate row:"):
        jsonl_problems(path, bad_rows="drop", duplicates="refuse")


def test_an_empty_file_and_one_without_a_good_row(tmp_path):
    with pytest.raises(ValueError, match="holds no rows"):
        jsonl_problems(rows_to_file(tmp_path / "empty.jsonl", []))
    with pytest.raises(ValueError, match="holds no usable rows"):
        jsonl_problems(rows_to_file(tmp_path / "bad.jsonl", [{"problem": "", "answer": ""}]), bad_rows="drop")


def test_held_out_problems_are_not_trained_on(tmp_path):
    path = rows_to_file(tmp_path / "a.jsonl", MIXED[-10:])
    with pytest.raises(ValueError, match="10 held-out problems are among the training problems"):
        jsonl_problems(path, heldout_path=path)


@pytest.mark.parametrize(
    ("name", "split", "wanted"),
    [
        ("openai/gsm8k", "train", ()),
        ("openai/gsm8k", "train+test[:5]", ("gsm8k",)),
        ("OpenAI/GSM8K", "all", ("gsm8k",)),
        ("huggingfaceh4/math-500", "test", ("math500", "math")),
    ],
)
def test_test_sets_are_known_however_they_are_spelt(name, split, wanted):
    from grouprl.evaluation.benchmarks import contaminated_by

    assert contaminated_by(name, split) == wanted


def test_a_repeated_problem_is_on_one_side_of_the_split(tmp_path):
    path = rows_to_file(tmp_path / "a.jsonl", MIXED[-10:] * 3)
    splits = jsonl_problems(path, duplicates="keep", heldout_size=2)
    assert (len(splits.train), len(splits.heldout)) == (24, 6)
    assert not {row.problem for row in splits.train} & {row.problem for row in splits.heldout}


def test_a_held_out_set_that_becomes_smaller_is_said(tmp_path, caplog):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"problem": f"p{n}", "answer": "1"}) + "\n" for n in range(20)))
    assert len(jsonl_problems(str(file), heldout_size=4).heldout) == 4
    assert not caplog.text
    assert len(jsonl_problems(str(file), heldout_size=50).heldout) == 4
    assert "data.heldout_size=50: 4 of 20 problems are held out, a fifth" in caplog.text
