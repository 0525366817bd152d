import json

import pytest

from grouprl.data import Problem, hub_problems, jsonl_problems


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
    splits = jsonl_problems(path, columns={"problem": "q", "answer": "sol"}, answer_format="hashes", heldout_path=path)
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
