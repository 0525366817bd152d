"""Benchmarks from end to end: registry, prompts, evaluation, resuming it, comparing two, the recipe's tables."""

import hashlib
import json
from dataclasses import replace

import pytest
from helpers.paths import ROOT

from grouprl.answers.grading import GRADER_VERSION, grade_all
from grouprl.cli import compare, evaluate, tables
from grouprl.data.rows import LETTERS
from grouprl.evaluation import results
from grouprl.evaluation.benchmarks import benchmarks_of, contaminated_by, load_benchmark
from grouprl.evaluation.exemplars import exemplars_for
from grouprl.evaluation.published import FEW_SHOT, FEW_SHOT_ROWS, TOOL_ROWS, TOOL_TABLE
from grouprl.evaluation.results import read_results
from grouprl.evaluation.runner import Evaluation
from grouprl.files import read_parquet
from grouprl.policy.load import load_policy

NAMES = sorted(path.stem for path in (ROOT / "conf" / "benchmark").glob("*.yaml"))
REAL = [name for name in NAMES if not name.startswith("tiny")]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run ``evaluate.py`` in an empty folder; gives exit code and what was printed."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = 0
        try:
            evaluate.main(list(arguments))
        except SystemExit as error:
            code = error.code
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


@pytest.fixture
def files(tmp_path):
    """A folder of benchmark files of this test's own, in the schema of the real ones."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name in REAL:
        benchmark = load_benchmark(name)
        rows = []
        for n in range(3):
            row = {"problem": f"[{name}] What is {n} + 1?", "answer": str(n + 1)}
            if benchmark.kind == "choice":
                row |= {"choices": [str(n), str(n + 1), "7", "8"], "answer": "B"}
            rows.append(json.dumps(row))
        (folder / benchmark.file).write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.parametrize("name", REAL)
def test_the_registry(name):
    benchmark = load_benchmark(name)
    assert benchmark.name == name
    assert name in contaminated_by(benchmark.dataset, benchmark.split)
    assert benchmark.licence
    assert benchmark.style == ("few_shot" if name in benchmarks_of("cot") else "chat")
    shots = exemplars_for(benchmark, data_dir=".")  # where there is no training file: the package's own
    assert len(shots) == benchmark.shots
    for shot in shots:
        assert shot.answer
        assert (shot.answer in LETTERS) == (benchmark.kind == "choice")
        assert len(shot.choices) == (4 if benchmark.kind == "choice" else 0)


def test_the_groups_are_the_recipes_tables():
    assert tuple(benchmarks_of("cot")) == FEW_SHOT
    assert tuple(benchmarks_of("[tir]")) == TOOL_TABLE
    assert set(benchmarks_of(["all"])) == set(REAL)
    shots = {name: load_benchmark(name).shots for name in FEW_SHOT}
    assert shots == {"gsm8k": 8, "math": 4, "mmlu_stem": 4, "cmath": 6, "gaokao_cloze": 5, "gaokao_qa": 4}


@pytest.mark.parametrize("name", REAL)
def test_the_real_files(real_data, name):
    benchmark = load_benchmark(name)
    if not (real_data / benchmark.file).is_file():
        pytest.skip(f"{benchmark.file} is not among the files")
    problems = benchmark.problems(str(real_data))
    assert abs(len(problems) - benchmark.size) <= 1
    assert all(problem.problem for problem in problems)
    if benchmark.kind == "choice":
        assert all(set(problem.answer) <= set(LETTERS) and problem.choices for problem in problems)


def test_hub_rows_become_problems(tmp_path, monkeypatch):
    """The same loader on a local folder in the hub's format, with the columns of the real sets."""
    rows = {
        "gsm8k": {"question": "1 + 1?", "answer": "It is <<1+1=2>>2.\n#### 2"},
        "math": {"problem": "1 + 1?", "solution": r"So $\boxed{2}$."},
        "mmlu_stem": {"question": "1 + 1?", "choices": ["1", "2", "3", "4"], "answer": 1},
        "gaokao_qa": {"query": "1 + 1?", "choices": ["1", "2", "3", "4"], "gold": [1]},
        "olympiadbench": {"question": "x?", "final_answer": ["1", "2"]},
    }
    wanted = {"gsm8k": "2", "math": "2", "mmlu_stem": "B", "gaokao_qa": "B", "olympiadbench": "1, 2"}
    for name, row in rows.items():
        benchmark = load_benchmark(name)
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{benchmark.split}.jsonl").write_text(json.dumps(row) + "\n")
        local = type(benchmark)(**{**vars(benchmark), "dataset": str(folder), "configs": None})
        (problem,) = local.problems()
        assert problem.answer == wanted[name]
        (folder / f"{benchmark.split}.jsonl").write_text(json.dumps({"other": 1}) + "\n")
        with pytest.raises(ValueError, match=rf"benchmark={name}.*no column.*other"):
            local.problems()


def test_every_benchmark_in_both_modes(run, files, tmp_path):
    code, text = run(
        "policy=tiny", "benchmark=all", "mode=[cot,tir]", "limit=2", f"data_dir={files}", "max_new_tokens=12", "out=out"
    )
    assert code == 0, text
    results = read_results(tmp_path / "out")
    assert set(results["measured"]) == {f"{name}/{mode}" for name in REAL for mode in ("cot", "tir")}
    for summary in results["measured"].values():
        assert summary["questions"] == 2
        assert summary["settings"]["grader"] == GRADER_VERSION
        assert summary["contamination"]["verdict"] == "not checked"
        assert 0 <= summary["accuracy"]["low"] <= summary["accuracy"]["value"] <= summary["accuracy"]["high"] <= 1
    saved = (tmp_path / "out" / "results.json").read_text()
    assert str(tmp_path) not in saved
    assert "| CMATH | tir |" in text


def test_a_random_model_of_the_qwen2_architecture(run, files, model_folder, tmp_path):
    code, text = run(
        f"policy={model_folder()}", "benchmark=[gsm8k,gaokao_qa]", "mode=[cot,tir]", f"data_dir={files}",
        "max_new_tokens=8", "out=out", "limit=2",
    )  # fmt: skip
    assert code == 0, text
    measured = read_results(tmp_path / "out")["measured"]
    assert len(measured) == 4
    assert measured["gsm8k/cot"]["shots"][1] >= 1
    (first, *_) = read_parquet(tmp_path / "out" / "gsm8k-cot.parquet")
    assert first["prompt"].count("Question: ") == first["shots"] + 1


def test_tools_help_where_heads_do_not(run, tmp_path):
    """On hard arithmetic the policy that was taught to use Python is right with it, and mostly wrong without."""
    code, text = run(
        "policy=tiny_tools", "benchmark=tiny_hard", "mode=[cot,tir]", "limit=40", "max_new_tokens=120", "out=a"
    )
    assert code == 0, text
    measured = read_results(tmp_path / "a")["measured"]
    cot, tir = (measured[f"tiny_hard/{mode}"] for mode in ("cot", "tir"))
    assert tir["accuracy"]["low"] > cot["accuracy"]["high"]
    assert tir["tool_rounds"] > 0.9 > cot["tool_rounds"]


def test_samples_that_were_not_graded_in_time_are_graded_again(run, tmp_path, monkeypatch):
    """A verdict of the moment is not kept in the files of an evaluation."""
    arguments = ("policy=tiny", "benchmark=tiny", "limit=8", "max_new_tokens=80")
    late = {"correct": False, "status": "timeout", "rule": "killed after its time"}
    assert run(*arguments, "out=a")[0] == 0
    with monkeypatch.context() as slow:
        slow.setattr(
            "grouprl.evaluation.rows.grade_all",
            lambda *a, **b: [replace(verdict, **late) for verdict in grade_all(*a, **b)],
        )
        assert run(*arguments, "out=b")[0] == 0
    assert read_results(tmp_path / "b")["measured"]["tiny/cot"]["timeout"] == 8
    assert run(*arguments, "out=b")[0] == 0
    wanted, found = (read_results(tmp_path / out)["measured"]["tiny/cot"] for out in ("a", "b"))
    assert wanted["accuracy"]["value"] > 0 == wanted["timeout"]
    assert found == wanted
    assert read_parquet(tmp_path / "a" / "tiny-cot.parquet") == read_parquet(tmp_path / "b" / "tiny-cot.parquet")


def test_an_answer_that_could_not_be_compared_has_no_vote(monkeypatch):
    """It is not compared with each of the others, each time up to the limit."""
    asked = []

    def compared(first, second):
        asked.append({first, second})
        return ("correct" if first == second else "wrong"), "text"

    monkeypatch.setattr(results, "compare_answers", compared)
    shared = {"index": 0, "gold": "1", "correct": False, "truncated": False, "tokens": 1, "tool_rounds": 0, "shots": 0}
    late = [shared | {"answer": f"late {n}", "status": "timeout"} for n in range(3)]
    right = shared | {"answer": "1", "status": "correct", "correct": True}
    group = [*late, right, shared | {"answer": "2", "status": "wrong"}, right]
    summary = results.summarize([row | {"index": index} for index in (0, 1) for row in group])
    assert summary["maj@6"]["value"] == 1
    assert summary["timeout"] == 6
    assert asked == [{"1"}, {"1", "2"}, {"1"}] * 2


def test_samples_and_their_statistics(run, tmp_path):
    code, text = run(
        "policy=tiny", "benchmark=tiny", "samples=4", "limit=20", "max_new_tokens=80", "temperature=1.0", "out=a"
    )
    assert code == 0, text
    summary = read_results(tmp_path / "a")["measured"]["tiny/cot"]
    rows = read_parquet(tmp_path / "a" / "tiny-cot.parquet")
    assert len(rows) == 80
    right = [sum(row["correct"] for row in rows if row["index"] == index) for index in range(20)]
    assert summary["avg@4"]["value"] == pytest.approx(sum(right) / 80)
    assert summary["pass@4"]["value"] == pytest.approx(sum(count > 0 for count in right) / 20)
    assert summary["avg@4"]["value"] <= summary["maj@4"]["value"] + 0.25 <= summary["pass@4"]["value"] + 0.25


def test_an_interrupted_evaluation_goes_on(run, tmp_path, monkeypatch):
    arguments = ("policy=tiny", "benchmark=tiny", "limit=24", "block=8", "max_new_tokens=64", "out=a")
    whole = ("policy=tiny", "benchmark=tiny", "limit=24", "block=8", "max_new_tokens=64", "out=b")
    assert run(*whole)[0] == 0
    measure, calls = Evaluation._measure, []

    def interrupted(self, problems, prompts, start):
        calls.append(start)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(self, problems, prompts, start)

    monkeypatch.setattr(Evaluation, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(*arguments)
    assert run(*arguments)[0] == 0
    assert calls == [0, 8, 16, 16]
    first, second = (read_parquet(tmp_path / out / "tiny-cot.parquet") for out in "ab")
    assert first == second
    code, text = run(*arguments[:2], "limit=24", "block=8", "max_new_tokens=32", "out=a")
    assert (code, "other settings" in text) == (2, True)


@pytest.mark.slow
def test_two_evaluations_are_paired(run, tmp_path, capsys):
    for policy, out in (("tiny", "a"), ("tiny_tools", "b")):
        run(f"policy={policy}", "benchmark=[tiny,tiny_hard]", "mode=tir", "limit=16", "max_new_tokens=96", f"out={out}")
    compare.main(["a", "b", "--json", "pairs.json"])
    text = capsys.readouterr().out
    assert text.count("B is better") == 2
    found = json.loads((tmp_path / "pairs.json").read_text())
    assert (found["kind"], found["decided"]) == ("evaluations", True)
    assert found["verdicts"] == ["tiny/tir: B is better", "tiny_hard/tir: B is better"]
    pairs = found["benchmarks"]
    assert [pair["key"] for pair in pairs] == ["tiny/tir", "tiny_hard/tir"]
    with pytest.raises(SystemExit) as left:
        compare.main(["a", "a"])
    assert left.value.code == 3
    assert capsys.readouterr().out.count("not distinguishable") == 2
    run("policy=tiny", "benchmark=tiny", "mode=tir", "limit=8", "max_new_tokens=96", "out=c")
    for other in ("c", "nothing"):
        with pytest.raises(SystemExit) as left:
            compare.main(["a", other])
        assert left.value.code == 1


def test_contamination_is_reported_beside_the_score(run, tmp_path):
    folder = tmp_path / "run"
    (folder / "policy").mkdir(parents=True)
    load_policy("tiny").save(folder / "policy")
    found = {"tiny": {"indices": [0, 1, 2], "test_overlapping": 3}}
    (folder / "result.json").write_text(json.dumps({"run": "run", "state": "finished", "contamination": found}))
    code, text = run("policy=run", "benchmark=[tiny,tiny_hard]", "limit=8", "max_new_tokens=64", "out=a")
    assert code == 0, text
    measured = read_results(tmp_path / "a")["measured"]
    verdict = measured["tiny/cot"]["contamination"]
    assert verdict["verdict"] == "trained on 3 of its problems"
    assert verdict["without_overlap"]["questions"] == 5
    assert measured["tiny_hard/cot"]["contamination"]["verdict"] == "not checked"


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["policy=tiny"], ["benchmark=[gsm8k,math500]", "prompt="]),
        (["benchmark=gsmk8"], ["benchmark=gsmk8", "Did you mean benchmark=gsm8k?"]),
        (["benchmark=tiny", "mode=cott"], ["mode=cott", "cot, tir"]),
        (["benchmark=tiny", "samples=1"], ["samples"]),
        (["benchmark=gsm8k", "data_dir=nowhere"], ["data_dir=nowhere", "no such folder"]),
        (["benchmark=gsm8k", "data_dir=."], ["data_dir=.", "gsm8k_test.jsonl"]),
        (["benchmark=tiny", "extraction=any"], ["extraction=any", "lenient, boxed"]),
        (["benchmark=tiny", "limit=0"], ["limit"]),
        (["prompt=x", "policy=nope"], ["policy=nope", "no such folder", "OWNER/NAME"]),
        (["benchmark=tiny", "prompt=x"], ["one of the two"]),
        (["prompt=x", "source=hub"], ["source=hub", "policy=smollm2 alone"]),
        (["prompt=x", "policy=smollm2", "source=hubb"], ["source=hubb", "auto, hub, package"]),
        (["benchmark=tiny", "temprature=1"], ["Did you mean 'temperature'?"]),
    ],
)
def test_wrong_command_lines(run, arguments, wanted):
    code, text = run(*arguments)
    assert code == 2
    assert all(part in text for part in wanted), text
    assert "Traceback" not in text


def test_the_recipes_tables(capsys, run, files):
    tables.main([])
    text = capsys.readouterr().out
    for row in FEW_SHOT_ROWS:
        cells = ["-" if value is None else f"{value:g} {row.source}" for value in row.values]
        assert f"| {row.model} | {' | '.join(cells)} |" in text
    assert text.count("not measured") == len(FEW_SHOT) + 2 * len(TOOL_TABLE)
    assert len(TOOL_ROWS) == 6
    run("policy=tiny", "benchmark=[math,gsm8k]", "mode=[cot]", f"data_dir={files}", "max_new_tokens=8", "out=a")
    tables.main(["a"])
    text = capsys.readouterr().out
    assert text.count("not measured") == len(FEW_SHOT) + 2 * len(TOOL_TABLE) - 3
    assert "of 3 m" in text


def test_a_sweep_of_policies(run, tmp_path):
    code, text = run("-m", "policy=tiny,tiny_tools", "benchmark=tiny,tiny_hard", "limit=4", "max_new_tokens=64")
    assert code == 0, text
    assert len(list((tmp_path / "evaluations").iterdir())) == 2
    assert all(len(read_results(folder)["measured"]) == 2 for folder in (tmp_path / "evaluations").iterdir())


def test_a_runs_policy_is_asked_as_it_was_trained(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("prompt: {style: plain, system: Think.}\n")
    assert "system: Think." in run("policy=run", "prompt=x", "--cfg", "job")[1]
    code, text = run("policy=run", "prompt=x", "system=Guess.", "--cfg", "job")
    assert code == 0
    assert "system: Guess." in text
    assert "style: plain" in text


def test_exemplars_come_from_the_training_split_by_a_fixed_rule(tmp_path):
    benchmark = load_benchmark("gsm8k")
    worked = "There are <<1+1=2>>2 of them, as one and one more give two in all."
    rows = [{"problem": f"p{n}", "solution": worked, "answer": "2"} for n in range(30)]
    rows += [{"problem": "long", "solution": "x" * 700, "answer": "1"}, {"problem": "bare", "answer": "1"}]
    (tmp_path / "gsm8k_train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shots = exemplars_for(benchmark, data_dir=str(tmp_path))
    assert len(shots) == 8
    assert shots == sorted(shots, key=lambda shot: hashlib.sha256(shot.problem.encode()).hexdigest())
    assert shots[0].solution == "There are 2 of them, as one and one more give two in all."
    assert not {"long", "bare"} & {shot.problem for shot in shots}
    folder = tmp_path / "hub"
    folder.mkdir()
    hub = [{"question": row["problem"], "answer": f"{worked}\n#### 2"} for row in rows[:30]]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in hub))
    local = type(benchmark)(**{**vars(benchmark), "dataset": str(folder), "configs": None})
    assert exemplars_for(local) == shots
    (tmp_path / "mine.jsonl").write_text(json.dumps({"problem": "q", "solution": "s", "answer": "1"}) + "\n")
    assert [shot.problem for shot in exemplars_for(benchmark, str(tmp_path / "mine.jsonl"))] == ["q"]


def test_exemplars_of_the_real_training_file(real_data):
    shots = exemplars_for(load_benchmark("gsm8k"), data_dir=str(real_data))
    test = {problem.problem for problem in load_benchmark("gsm8k").problems(str(real_data))}
    assert len(shots) == 8
    assert not test & {shot.problem for shot in shots}
    assert all(shot.answer in shot.solution and "<<" not in shot.solution for shot in shots)


def test_a_limit_takes_the_first_problems(files):
    problems = load_benchmark("gsm8k").problems(str(files), limit=2)
    assert [problem.problem for problem in problems] == ["[gsm8k] What is 0 + 1?", "[gsm8k] What is 1 + 1?"]
    assert len(load_benchmark("gsm8k").problems(str(files))) == 3
