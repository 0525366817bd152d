"""Rows of files that are broken, hostile or of another kind: each is named by file and line, or dropped where so asked."""

import csv
import json
import re

import pyarrow
import pyarrow.parquet
import pytest

from grouprl.data.problems import jsonl_problems
from grouprl.data.rows import LONGEST_ANSWER, LONGEST_PROBLEM, check_first_row, gold_answer, problem_text
from grouprl.files import LONGEST_LINE, json_object, read_jsonl

GOOD = [json.dumps({"problem": f"{n} + 1?", "answer": n + 1, "level": 1 + n % 3}).encode() for n in range(10)]


def write(path, *lines):
    path.write_bytes(b"\n".join([*GOOD, *lines]) + b"\n")
    return str(path)


def row(problem='"1?"', answer='"1"', more=""):
    return f'{{"problem": {problem}, "answer": {answer}{more}}}'.encode()


BAD_ROWS = {
    "nested 10,000 deep": (row(more=', "tree": ' + "[" * 10_000 + "]" * 10_000), "nested more than 100 deep"),
    "objects nested 10,000 deep": (
        row(more=', "a": ' + '{"a": ' * 10_000 + "1" + "}" * 10_000),
        "nested more than 100",
    ),
    "never closed": (row(problem="[" * 50_000), "nested more than 100 deep"),
    "a key twice": (row(more=', "answer": "2"'), "the key 'answer' is there twice"),
    "a key twice within": (row(more=', "of": {"a": 1, "a": 1}'), "the key 'a' is there twice"),
    "half a pair": (row(problem=r'"\ud800 + 1?"'), r"\ud800 is half of a surrogate pair"),
    "half a pair in the answer": (row(answer=r'"\udfff"'), r"\udfff is half of a surrogate pair"),
    "not UTF-8": (b'{"problem": "\xe9?", "answer": "1"}', "'utf-8' codec can't decode byte 0xe9"),
    "a number beyond all": (row(answer="1e999"), "the answer is the number inf"),
    "below all": (row(answer="-1e999"), "the answer is the number -inf"),
    "Infinity": (row(answer="Infinity"), "the answer is the number inf"),
    "NaN": (row(answer="NaN"), "the answer is the number nan"),
    "too many digits": (row(answer="1" * 5000), "Exceeds the limit"),
    "an answer that is a list": (row(answer='["1"]'), "the answer is a list"),
    "an answer that is an object": (row(answer='{"value": 1}'), "the answer is a dict"),
    "an answer that is true": (row(answer="true"), "the answer is a bool"),
    "a problem that is a list": (row(problem='["1?"]'), "the problem is a list, and not one of messages"),
    "messages without text": (row(problem='[{"role": "user", "content": ["1?"]}]'), "not one of messages with a role"),
    "a chat that asks nothing": (
        row(problem='[{"role": "system", "content": "Be brief."}, {"role": "user", "content": " "}]'),
        "no problem",
    ),
    "a chat with an answer": (
        row(problem='[{"role": "user", "content": "1?"}, {"role": "assistant", "content": "2"}]'),
        "the problem is a chat of user, assistant, and not one user's question",
    ),
    "a problem that is an object": (row(problem='{"text": "1?"}'), "the problem is a dict, and no text"),
    "a problem that is a number": (row(problem="7"), "the problem is a int"),
    "a problem without end": (row(problem=f'"{"1 + " * 300_000}"'), "the problem has 1199999 characters"),
    "an answer without end": (row(answer=f'"{"9" * 10_001}"'), "the answer has 10001 characters"),
    "a column less": (b'{"problem": "1?"}', "a column is missing"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_is_named_by_its_line_and_dropped_where_so_asked(tmp_path, caplog, kind):
    line, said = BAD_ROWS[kind]
    path = write(tmp_path / "rows.jsonl", line, row(problem='"the last?"'))
    with pytest.raises(ValueError, match="1 bad row:") as refused:
        jsonl_problems(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "line 11: " in str(refused.value)
    assert said in str(refused.value)
    splits = jsonl_problems(path, bad_rows="drop", heldout_size=1)
    assert len(splits.train) + len(splits.heldout) == 11
    assert any(problem.problem == "the last?" for problem in [*splits.train, *splits.heldout])
    assert "line 11: " in caplog.text


def test_a_line_of_fifty_megabytes_is_passed_over_unread(tmp_path, monkeypatch):
    """It is neither parsed nor kept: what is read at once is bounded."""
    path = write(tmp_path / "rows.jsonl", row(problem='"' + "x" * 50_000_000 + '"'), row(problem='"the last?"'))
    sizes = []
    monkeypatch.setattr("grouprl.files.json_object", lambda content, **_: sizes.append(len(content)) or {"a": 1})
    faults = []
    assert [number for number, _ in read_jsonl(path, lambda *fault: faults.append(fault))] == [*range(1, 11), 12]
    assert faults == [(11, "not a JSON object in UTF-8 (longer than 16 MiB)")]
    assert max(sizes) < 100
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 11: .*longer than 16 MiB"):
        list(read_jsonl(path))
    assert LONGEST_LINE == 16 * 2**20


def test_marks_and_line_ends_of_other_systems_are_read(tmp_path):
    path = tmp_path / "windows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(GOOD) + b"\r\n\r\n")
    plain = jsonl_problems(write(tmp_path / "plain.jsonl"))
    assert jsonl_problems(str(path)) == plain
    assert plain.train[0].answer in "123456789 10"
    (tmp_path / "list.json").write_bytes(b"\xef\xbb\xbf[" + b",".join(GOOD) + b"]")
    assert jsonl_problems(str(tmp_path / "list.json")) == plain
    path.write_bytes("\n".join(line.decode() for line in GOOD).encode("utf-16"))
    with pytest.raises(ValueError, match="line 1: not a JSON object in UTF-8"):
        jsonl_problems(str(path))


def test_characters_beyond_the_first_plane_are_text(tmp_path):
    path = write(tmp_path / "rows.jsonl", row(problem=r'"\ud83d\ude00 + 1?"'))
    splits = jsonl_problems(path)
    assert any("😀" in problem.problem for problem in [*splits.train, *splits.heldout])


def test_brackets_in_texts_are_no_nesting():
    text = "[" * 500 + '\\"' + "{" * 500
    assert json_object(f'{{"a": "{text}"}}'.encode())["a"] == text.replace("\\", "")
    assert json_object(b'{"a": ' + b"[" * 99 + b"]" * 99 + b"}")
    flat = json_object(b'{"a": [' + b",".join([b"[1]"] * 1000) + b"]}")
    assert len(flat["a"]) == 1000


@pytest.mark.parametrize(
    ("level", "said"),
    [
        ("1e999", "the level is the number inf"),
        ("NaN", "the level is the number nan"),
        ("[1]", "the level is a list"),
        ("true", "the level is a bool"),
    ],
)
def test_a_level_that_is_no_level_is_a_bad_row(tmp_path, caplog, level, said):
    path = write(tmp_path / "rows.jsonl", row(more=f', "level": {level}'), row(problem='"2?"', more=', "level": 2.0'))
    with pytest.raises(ValueError, match=f"line 11: {said}"):
        jsonl_problems(path, levels=[2])
    splits = jsonl_problems(path, levels=[2], bad_rows="drop", heldout_size=0)
    assert {problem.problem for problem in splits.train} == {"1 + 1?", "4 + 1?", "7 + 1?", "2?"}
    assert f"line 11: {said}" in caplog.text


def test_one_type_may_be_given_by_itself(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(row(more=f', "type": "{kind}"') for kind in ("Algebra", "Number")))
    (problem,) = jsonl_problems(str(tmp_path / "rows.jsonl"), types="Algebra", heldout_size=0).train
    assert problem.problem == "1?"


def test_a_row_without_a_level_is_a_bad_row_and_a_file_without_is_refused(tmp_path):
    path = write(tmp_path / "rows.jsonl", row())
    with pytest.raises(ValueError, match="line 11: no column 'level', which the rows before have"):
        jsonl_problems(path, levels=[1])
    assert len(jsonl_problems(path, levels=[1], bad_rows="drop", heldout_size=0).train) == 4
    with pytest.raises(ValueError, match=r"data\.types: .*line 1, has no column 'type'"):
        jsonl_problems(path, types=["Algebra"], bad_rows="drop")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.jsonl", b"", "holds no rows"),
        ("blank.jsonl", b"\n \n\r\n", "holds no rows"),
        ("array.jsonl", b'[{"problem": "1?", "answer": "1"}]', "line 1: not a JSON object in UTF-8 (it is a list)"),
        ("rows.jsonl.gz", b"\x1f\x8b", ".gz files are not read. Give a JSONL, JSON, CSV, TSV or Parquet file"),
        ("rows.xlsx", b"PK", ".xlsx files are not read"),
        ("a folder", None, "this is a folder. Give the path of a JSONL, JSON, CSV, TSV or Parquet file; data=hub"),
        ("rows.parquet", b"PAR1", "not a Parquet file that can be read"),
        ("empty.parquet", b"", "not a Parquet file that can be read"),
        ("empty.csv", b"", "holds no rows"),
        ("head.csv", b"problem,answer\n", "holds no rows"),
        ("other.csv", b"question,answer\n1?,1\n", "has no such column. It has: question, answer"),
        ("twice.csv", b"answer,answer\n1?,1\n", "its header names a column twice"),
        ("short.csv", b"problem,answer\n1?,1\n2?\n", "line 3: 1 cells under a header of 2"),
        ("long.csv", b"problem,answer\n1?,1,2\n", "line 2: 3 cells under a header of 2"),
        ("latin.csv", b"problem,answer\n\xe9?,1\n", "not CSV in UTF-8"),
        ("quote.csv", b'problem,answer\n"1?,1\n', "not CSV in UTF-8 (unexpected end of data)"),
        ("no answer.csv", b"problem,answer\n1?,\n", "line 2: no answer"),
        ("rows.json", b'[{"problem": "1?"}, 7]', "rows.json, line 1, has no such column"),
        ("numbers.json", b"[7]", "line 1: not a JSON object but 7"),
        ("broken.json", b'[{"problem": "1?"', "not a list of JSON objects in UTF-8"),
        ("one.json", b'{"rows": []}', "has no such column. It has: rows"),
    ],
)
def test_files_that_hold_no_rows_are_one_line(tmp_path, name, content, said):
    path = tmp_path / name
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        jsonl_problems(str(path))
    assert str(path) in str(refused.value)


CELLS = [{"problem": f"{n} + 1?", "answer": str(n + 1), "level": 1 + n % 3} for n in range(10)]


def _as_csv(path, delimiter=","):
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        rows = csv.DictWriter(file, list(CELLS[0]), delimiter=delimiter)
        rows.writeheader()
        rows.writerows(CELLS)


FORMATS = {
    "rows.jsonl": lambda path: path.write_text("".join(json.dumps(one) + "\n" for one in CELLS)),
    "list.json": lambda path: path.write_text(json.dumps(CELLS, indent=1)),
    "lines.json": lambda path: path.write_text("".join(json.dumps(one) + "\n" for one in CELLS)),
    "rows.csv": _as_csv,
    "ROWS.CSV": _as_csv,
    "rows.tsv": lambda path: _as_csv(path, "\t"),
    "rows.parquet": lambda path: pyarrow.parquet.write_table(pyarrow.Table.from_pylist(CELLS), path),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_gives_the_same_problems_whatever_its_format(tmp_path, name):
    FORMATS[name](tmp_path / name)
    check_first_row("data.path", str(tmp_path / name), None, "refuse")
    found = jsonl_problems(str(tmp_path / name), levels=[1, 2], heldout_size=0)
    assert [(p.problem, p.answer) for p in found.train] == [
        (one["problem"], one["answer"]) for one in CELLS if one["level"] < 3
    ]


def test_cells_of_a_table_may_hold_line_ends_commas_and_messages(tmp_path):
    (tmp_path / "rows.csv").write_text('answer,problem\r\n"1,000","How many,\n""exactly""?"\r\n2,1 + 1?\r\n')
    many, two = jsonl_problems(str(tmp_path / "rows.csv"), heldout_size=0).train
    assert (many.problem, many.answer, two.answer) == ('How many,\n"exactly"?', "1,000", "2")
    chats = [{"prompt": [{"role": "user", "content": "1 + 1?"}], "reward_model": {"ground_truth": "2"}}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(chats), tmp_path / "verl.parquet")
    columns = {"problem": "prompt", "answer": "reward_model.ground_truth"}
    (problem,) = jsonl_problems(str(tmp_path / "verl.parquet"), columns=columns, heldout_size=0).train
    assert (problem.problem, problem.answer) == ("1 + 1?", "2")


def test_numbers_of_a_parquet_file_that_are_none_are_bad_rows(tmp_path):
    cells = [{"problem": "1?", "answer": 1.0}, {"problem": "2?", "answer": float("nan")}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(cells), tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match=r"line 2: the answer is the number nan"):
        jsonl_problems(str(tmp_path / "rows.parquet"))


def test_numbers_of_a_table_that_are_none_are_bad_rows(tmp_path):
    """As programs write them; a text that holds the word is one."""
    (tmp_path / "rows.csv").write_text("problem,answer\nWhat is NaN?,1\n2?,NaN\n")
    with pytest.raises(ValueError, match=r"line 3: the answer is the number nan"):
        jsonl_problems(str(tmp_path / "rows.csv"))


def test_a_file_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(GOOD[:2]) + b"\n")
    check_first_row("data.path", "~/rows.jsonl", None, "refuse")
    splits = jsonl_problems("~/rows.jsonl", heldout_size=1)
    assert len(splits.train) + len(splits.heldout) == 2


def test_a_file_that_may_not_be_read_is_said(tmp_path, monkeypatch):
    (tmp_path / "rows.jsonl").write_bytes(GOOD[0])
    monkeypatch.setattr("os.access", lambda file, how: False)  # who tests as root may read all
    with pytest.raises(ValueError, match=r"you may not read this file \(chmod u\+r\)"):
        jsonl_problems(str(tmp_path / "rows.jsonl"))


def test_the_first_row_is_looked_at_before_anything_is_loaded(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(BAD_ROWS["nested 10,000 deep"][0] + b"\n" + GOOD[0])
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 1: .*nested more than 100 deep"):
        check_first_row("data.path", str(path), None, "refuse")
    check_first_row("data.path", str(path), None, "drop")


@pytest.mark.parametrize(
    ("value", "answer_format", "wanted"),
    [
        (" 7 ", "plain", "7"),
        (7, "plain", "7"),
        (0.5, "plain", "0.5"),
        (3.0, "plain", "3.0"),
        (None, "plain", ""),
        (2, "index", "C"),
        (2.0, "index", "C"),
        ("1", "index", "B"),
        ([0, 3], "index", "AD"),
        (["1", 2.5], "list", "1, 2.5"),
        ("so #### 4", "hashes", "4"),
        (4, "hashes", ""),
        (r"\boxed{4}" + "x" * LONGEST_ANSWER, "boxed", "4"),
    ],
)
def test_gold_answers(value, answer_format, wanted):
    assert gold_answer(value, answer_format) == wanted


@pytest.mark.parametrize(
    ("value", "answer_format", "said"),
    [
        (-1, "index", "'-1', and not the number of a choice"),
        (10, "index", "'10', and not the number of a choice"),
        (1.5, "index", "not the number of a choice"),
        ("A", "index", "'A', and not the number of a choice"),
        (None, "index", "not the number of a choice"),
        (True, "index", "not the number of a choice"),
        ([1, [2]], "index", "not the number of a choice"),
        ([1, ["2"]], "list", "the answer is a list"),
        ([float("inf")], "list", "the answer is the number inf"),
        (b"1", "plain", "the answer is a bytes"),
    ],
)
def test_gold_answers_that_are_none(value, answer_format, said):
    with pytest.raises(ValueError, match=said):
        gold_answer(value, answer_format)


def test_messages_and_cells_of_objects_are_read(tmp_path):
    """As data sets for other trainers have them."""
    ask = {"role": "user", "content": " 3 + 4? "}
    rows = [
        {"prompt": [ask], "reward_model": {"ground_truth": "7", "style": "rule"}, "a.b": "7", "of": {"level": 2}},
        {"prompt": [{"role": "system", "content": "Be short."}, {**ask, "content": "3 + 5?"}]}
        | {"reward_model": {"ground_truth": 8}, "a.b": "8", "of": {"level": 3}},
    ]
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"problem": "prompt", "answer": "reward_model.ground_truth"}
    found = jsonl_problems(str(path), columns=columns, heldout_size=0).train
    assert [(p.problem, p.answer) for p in found] == [("3 + 4?", "7"), ("Be short.\n\n3 + 5?", "8")]
    assert jsonl_problems(str(path), columns={**columns, "answer": "a.b"}, heldout_size=0).train == found
    by_level = {**columns, "level": "of.level"}
    assert jsonl_problems(str(path), columns=by_level, levels=[3], heldout_size=0).train == found[1:]
    check_first_row("data.path", str(path), columns, "refuse")
    with pytest.raises(ValueError, match=r"truth.*It has: prompt, reward_model.ground_truth, reward_model.style, a.b"):
        check_first_row("data.path", str(path), {**columns, "answer": "reward_model.truth"}, "refuse")
    with pytest.raises(ValueError, match="2 bad rows: line 1: the answer is a dict"):
        jsonl_problems(str(path), columns={**columns, "answer": "reward_model"})


def test_a_problem_is_text():
    assert problem_text(None) == ""
    assert problem_text(" x" + "y" * (LONGEST_PROBLEM - 1)) == "x" + "y" * (LONGEST_PROBLEM - 1)
    with pytest.raises(ValueError, match="the problem is a float, and no text"):
        problem_text(float("nan"))
