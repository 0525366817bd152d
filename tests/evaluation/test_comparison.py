"""What is read of evaluations by those who compare, tabulate and publish them."""

import copy
import json
import re

import pytest

from grouprl.cli.compare import main as compare
from grouprl.cli.tables import main as tables
from grouprl.evaluation.comparison import Comparison, describe, is_decided
from grouprl.evaluation.results import write_results
from grouprl.files import write_parquet
from grouprl.statistics.questions import paired_difference
from grouprl.training.export import main as export
from grouprl.training.records import write_result

SUMMARY = {
    **{"accuracy": {"value": 0.5, "low": 0.1, "high": 0.9}, "questions": 2, "samples": 1, "limited": False},
    **{"settings": {"grader": 1}, "contamination": {"verdict": "not checked"}},
    **{"truncated": 0.0, "mean_tokens": 3.0, "unparsable": 0, "timeout": 0},
}
ROWS = [{"index": n, "problem": f"p{n}", "correct": n % 2} for n in range(2)]


@pytest.fixture
def evaluations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
        write_results(tmp_path / name, {"policy": name, "measured": {"gsm8k/cot": SUMMARY}})
        write_parquet(tmp_path / name / "gsm8k-cot.parquet", ROWS)
    write_result(tmp_path / "run", {"run": "run", "state": "finished"})
    (tmp_path / "run" / "config.yaml").write_text("steps: 1\n")
    (tmp_path / "run" / "policy").mkdir()
    (tmp_path / "run" / "policy" / "config.json").write_text("{}")
    return tmp_path


READERS = {
    "compare": (compare, ["a", "b"]),
    "tables": (tables, ["b"]),
    "export": (export, ["run=run", "out=out", "evaluation=b"]),
}


def refused(main, arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    shown = capsys.readouterr().err
    assert left.value.code == (1 if main is compare else 2)
    assert "Traceback" not in shown
    assert len(shown.splitlines()) == 1, shown
    return shown


def test_whole_evaluations_are_read(evaluations, capsys):
    with pytest.raises(SystemExit) as ended:
        compare(["a", "b"])
    assert ended.value.code == 3  # not told apart
    assert "| gsm8k/cot | 2 | 50.0 | 50.0 |" in capsys.readouterr().out
    tables(["a"])
    assert "50.0" in capsys.readouterr().out


def test_a_benchmark_of_one_question_has_no_p_and_leaves_the_others_theirs():
    def of(key, first, second):
        difference = paired_difference([[x] for x in first], [[x] for x in second])
        return Comparison(key, len(first), 0.0, 0.0, None, difference, difference.p_value)

    clear, single = of("clear", [0.0] * 40, [1.0] * 40), of("single", [0.0], [1.0])
    lines = describe([clear, single], "ab").splitlines()
    assert next(line for line in lines if "clear" in line).endswith("| B is better |")
    assert next(line for line in lines if "single" in line).endswith("| nan | nan | not distinguishable |")
    assert is_decided([clear])
    assert not is_decided([clear, single])


def without(*places):
    broken = copy.deepcopy({"policy": "b", "measured": {"gsm8k/cot": SUMMARY}})
    node = broken
    for place in places[:-1]:
        node = node[place]
    node[places[-1]] = "gone"
    return json.dumps(broken)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "no JSON"),
        ("[]", "a list"),
        ("{}", "it has no policy"),
        ('{"policy": "b"}', "it has no measured"),
        (without("measured"), "measured"),
        (without("measured", "gsm8k/cot"), "gsm8k/cot"),
        (without("measured", "gsm8k/cot", "accuracy"), "accuracy"),
        (without("measured", "gsm8k/cot", "accuracy", "low"), "low"),
        (without("measured", "gsm8k/cot", "settings"), "settings"),
    ],
)
def test_a_damaged_evaluation_is_named(evaluations, capsys, reader, content, fault):
    (evaluations / "b" / "results.json").write_text(content)
    shown = refused(*READERS[reader], capsys)
    assert re.search(rf"b/results.json.*{fault}.*(Remove it|Put back)", shown), shown


@pytest.mark.parametrize("damage", ["gone", "cut", "column"])
def test_a_damaged_table_of_samples_is_named(evaluations, capsys, damage):
    file = evaluations / "b" / "gsm8k-cot.parquet"
    if damage == "gone":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:50])
    else:
        write_parquet(file, [{"index": 0, "problem": "p0"}])
    assert "b/gsm8k-cot.parquet: it" in refused(compare, ["a", "b"], capsys)


@pytest.mark.parametrize(("name", "text"), [("config.yaml", "- 1"), ("config.yaml", "data: 3"), ("result.json", "[]")])
def test_a_damaged_run_is_not_published(evaluations, capsys, name, text):
    (evaluations / "run" / name).write_text(text)
    assert f"run/{name}: it" in refused(export, ["run=run", "out=out"], capsys)
    assert not (evaluations / "out").exists()
    (evaluations / "run" / "result.json").write_text('{"run": "run", "state": "finished"}')
    (evaluations / "run" / "config.yaml").write_text("steps: 1\n")
    (evaluations / "run" / "policy" / "config.json").write_text("[]")
    refused(export, ["run=run", "out=out"], capsys)
    assert not (evaluations / "out").exists()
