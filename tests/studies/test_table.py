"""Tables of runs: where runs are found, and what is said of files that cannot be read."""

import sys

import pytest

from grouprl.cli.study import main
from grouprl.files import FileError
from grouprl.studies.table import collect, read_csv, table_of, write_csv
from grouprl.training.records import SUPERSEDED, write_result


def run(folder, state="finished", **more):
    write_result(folder, {"run": folder.name, "state": state, "seconds": 60.0, **more})


@pytest.fixture
def sweep(tmp_path):
    interval = {f"heldout/pass@1/after{end}": value for end, value in (("", 0.5), ("/low", 0.4), ("/high", 0.6))}
    run(tmp_path / "sweep" / "a", metrics=interval)
    run(tmp_path / "sweep" / "deep" / "b", "running")
    run(tmp_path / "sweep" / SUPERSEDED / "c")
    (tmp_path / "sweep" / "round").symlink_to(tmp_path / "sweep")
    return tmp_path / "sweep"


def study(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["study", *map(str, arguments)])
    try:
        main()
    except SystemExit as left:
        return left.code, capsys.readouterr().err
    return 0, capsys.readouterr().out


def test_runs_are_found_where_they_lie(sweep):
    assert [(result["run"], result["state"]) for result in collect(sweep)] == [("a", "finished"), ("b", "interrupted")]
    assert "| `a` | finished    | -             | 50.0 [40.0, 60.0] |" in table_of(collect(sweep))


def test_an_estimate_without_its_interval_is_left_out(tmp_path):
    run(tmp_path / "a", metrics={"heldout/pass@1/after": 0.5, "ppo/clip_fraction/high": 0.01})
    assert "| `a` | finished | -             | -            | -             | -            | 1.00 " in table_of(
        collect(tmp_path)
    )


@pytest.mark.parametrize(
    "text",
    ["[]", '{"run": "a"', '{"run": "a", "state": "running", "metrics": {"x": "y"}}', '{"run": "a", "state": "finished", "metrics": []}'],
)  # fmt: skip
def test_a_damaged_result_is_named(sweep, monkeypatch, capsys, text):
    (sweep / "deep" / "b" / "result.json").write_text(text)
    code, shown = study(monkeypatch, capsys, sweep)
    assert code == 2
    assert "deep/b/result.json" in shown
    assert "Put back what was written there" in shown
    assert "Traceback" not in shown


def test_a_csv_file_gives_the_table_again(sweep, tmp_path, monkeypatch, capsys):
    file = tmp_path / "results.csv"
    write_csv(collect(sweep), file)
    assert table_of(read_csv(file)) == table_of(collect(sweep))
    assert study(monkeypatch, capsys, file)[0] == 0
    whole = file.read_bytes()
    for content in (b"", b"a,b\n1,2\n", whole[:-9], whole.replace(b"60.0", b"an hour"), b"run\n\xff\n", whole + b"x\n"):
        file.write_bytes(content)
        if content:
            with pytest.raises(FileError, match=r"results.csv: not a table of runs"):
                read_csv(file)
        code, shown = study(monkeypatch, capsys, file)
        assert code == 2
        assert "results.csv" in shown
