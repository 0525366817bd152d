"""Files: written in one step and never through a link; what is damaged is named with its remedy in one line."""

import json
import os
import re
import stat

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from grouprl.files import (
    FileError,
    append,
    check_shape,
    read_json,
    read_jsonl,
    read_parquet,
    read_yaml,
    refuse_links,
    replacing,
    replacing_files,
    write_json,
    write_named,
    write_parquet,
    write_text,
)


@pytest.fixture
def outside(tmp_path):
    """A file that is not the run's, and a folder for the run."""
    (tmp_path / "run").mkdir()
    file = tmp_path / "thesis.txt"
    file.write_text("precious\n")
    return file


WRITERS = {
    "text": lambda file: write_text(file, "new\n"),
    "json": lambda file: write_json(file, {"a": 1}),
    "parquet": lambda file: write_parquet(file, [{"a": 1}]),
    "append": lambda file: append(file, "new\n"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_nothing_is_written_through_a_link(outside, tmp_path, write, link):
    file = tmp_path / "run" / "file"
    link(outside, file)
    write(file)
    assert outside.read_text() == "precious\n"
    assert not file.is_symlink()
    assert file.stat().st_nlink == 1
    assert file.read_bytes() != b"precious\n"


def test_what_is_appended_to_keeps_what_it_held(tmp_path):
    file = tmp_path / "rows.jsonl"
    for text in ("one\n", "two\n"):
        append(file, text)
    os.link(file, tmp_path / "backup")
    append(file, "three\n")
    assert file.read_text() == "one\ntwo\nthree\n"
    assert (tmp_path / "backup").read_text() == "one\ntwo\n"


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    with pytest.raises(RuntimeError), replacing(file) as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert file.read_text() == "old"


def test_the_name_beside_a_file_cannot_be_known_before(tmp_path):
    names = set()
    for _ in range(2):
        with replacing(tmp_path / "file") as temporary:
            names.add(temporary.name)
            temporary.write_text("")
    assert len(names) == 2


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_files_of_a_folder_take_their_places(outside, tmp_path, link):
    folder = tmp_path / "run" / "policy"
    folder.mkdir()
    link(outside, folder / "config.json")
    (folder / "notes.txt").write_text("mine")
    with replacing_files(folder) as place:
        (place / "config.json").write_text("{}")
        (place / "config.json").chmod(0o600)
        (place / "templates").mkdir()
        (place / "templates" / "chat.jinja").write_text("x")
    assert outside.read_text() == "precious\n"
    assert (folder / "config.json").read_text() == "{}"
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "templates" / "chat.jinja").read_text() == "x"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((folder / "config.json").stat().st_mode) == 0o666 & ~umask
    assert [path.name for path in folder.parent.iterdir()] == ["policy"]


@pytest.mark.parametrize("place", ["policy", "policy/templates"])
def test_a_folder_that_is_a_link_is_not_written_into(tmp_path, place):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = tmp_path / "run" / "policy"
    (tmp_path / "run" / place).parent.mkdir(parents=True)
    (tmp_path / "run" / place).symlink_to(elsewhere)
    with pytest.raises(FileError, match=f"{place}: it is a link"), replacing_files(folder) as beside:
        (beside / "templates").mkdir()
        (beside / "templates" / "file").write_text("x")
    assert list(elsewhere.iterdir()) == []


def test_links_out_of_a_folder_are_refused(outside, tmp_path):
    run = tmp_path / "run"
    (run / "deep").mkdir()
    (run / "file").write_text("")
    (run / "deep" / "inside").symlink_to(run / "file")  # as some loggers make them
    refuse_links(run)
    (tmp_path / "here").symlink_to(run)
    refuse_links(tmp_path / "here")  # how the folder itself is reached is the user's
    for target in (outside, tmp_path, tmp_path / "not there", "../../thesis.txt"):
        link = run / "deep" / "link"
        link.symlink_to(target)
        with pytest.raises(FileError, match=r"run/deep/link: it is a link that leads out of the folder"):
            refuse_links(run)
        link.unlink()
    os.mkfifo(run / "metrics.jsonl")
    with pytest.raises(FileError, match=r"metrics.jsonl: it is neither a file nor a folder"):
        refuse_links(run)


def test_a_file_that_the_user_names_may_be_a_link_or_a_device(outside, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(outside)
    write_named(link, "mine\n")
    assert link.is_symlink()
    assert outside.read_text() == "mine\n"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_named(pipe, "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


SHAPE = {"state": str, "count?": int, "value?": (int, float)}
DAMAGED = {
    b"": "damaged, as it is no JSON in UTF-8",
    b'{"state": "fin': "damaged, as it is no JSON in UTF-8",
    b'{"state": "\xff"}': "damaged, as it is no JSON in UTF-8",
    b"[" * 100_000: "damaged, as it is no JSON in UTF-8",
    b"[]": "it holds a list and not an object",
    b"null": "it holds nothing and not an object",
    b"3": "it holds a whole number and not an object",
    b"{}": "it has no state",
    b'{"state": 3}': "its state is a whole number, not a text",
    b'{"state": "a", "count": true}': "its count is true or false, not a whole number",
    b'{"state": "a", "value": "1"}': "its value is a text, not a whole number or a number",
}


@pytest.mark.parametrize("content", DAMAGED, ids=[text.decode(errors="replace")[:30] for text in DAMAGED])
def test_a_damaged_json_file_is_named_in_one_line(tmp_path, content):
    file = tmp_path / "result.json"
    file.write_bytes(content)
    with pytest.raises(FileError) as raised:
        read_json(file, SHAPE, remedy="Remove it")
    text = str(raised.value)
    assert text.startswith(f"{file}: {DAMAGED[content]}")
    assert text.endswith("Remove it.")
    assert "\n" not in text


def test_a_whole_file_and_none(tmp_path):
    file = tmp_path / "result.json"
    assert read_json(file, SHAPE) is None
    assert read_json(file / "below", SHAPE) is None
    write_json(file, {"state": "a", "value": 1})
    assert read_json(file, SHAPE) == {"state": "a", "value": 1}
    file.unlink()
    file.mkdir()
    with pytest.raises(FileError, match="cannot be read"):
        read_json(file)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"- a\n- b\n", "it holds a list"),
        (b"", "it holds nothing"),
        (b"hello", "it holds a text"),
        (b"a: [1", "damaged, as it is no YAML"),
        (b"a: \xff", "damaged, as it is no YAML"),
        (b"a: !!python/object/apply:os.system [ls]", "damaged, as it is no YAML"),
        (b"data: 3", "its data is a whole number, not an object"),
    ],
)
def test_a_damaged_yaml_file_is_named_in_one_line(tmp_path, content, fault):
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(FileError, match=re.escape(f"{file}: {fault}")) as raised:
        read_yaml(file, {"data?": dict})
    assert "\n" not in str(raised.value)


def test_a_damaged_parquet_file_is_named_in_one_line(tmp_path):
    file = tmp_path / "rows.parquet"
    with pytest.raises(FileError, match=r"rows.parquet: it cannot be read"):
        read_parquet(file)
    pq.write_table(pa.Table.from_pylist([{"a": 1}]), file)
    assert read_parquet(file, ("a",)) == [{"a": 1}]
    with pytest.raises(FileError, match=r"rows.parquet: it has no column b"):
        read_parquet(file, ("a", "b"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(FileError, match=r"rows.parquet: it cannot be read") as raised:
        read_parquet(file)
    assert "\n" not in str(raised.value)


def test_a_line_that_is_nested_too_deep_is_named(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 1}\n' + '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(ValueError, match=r"rows.jsonl, line 2: not a JSON object"):
        list(read_jsonl(file))
    passed_over = []
    assert list(read_jsonl(file, lambda number, _: passed_over.append(number))) == [(1, {"a": 1})]
    assert passed_over == [2]


def test_the_shape_of_what_is_there_is_said():
    assert check_shape({"a": 1, "b": None}, {"a": int, "b": (str, type(None))}, "x") == {"a": 1, "b": None}
    with pytest.raises(FileError, match="x: its b is a list, not a text or nothing"):
        check_shape({"b": []}, {"b": (str, type(None))}, "x")
    assert json.loads(json.dumps({})) == check_shape({}, {"a?": int}, "x")
