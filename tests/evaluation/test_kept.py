"""Kept evaluations: whose numbers are printed, and what becomes of blocks that were changed."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from helpers.runs import prints
from safetensors.torch import load_file, save_file

from grouprl.cli import benchmark, evaluate
from grouprl.cli.jobs.locks import alone
from grouprl.evaluation.kept import KeptBlocks
from grouprl.evaluation.results import read_results
from grouprl.files import read_parquet, write_parquet
from grouprl.policy.load import load_policy

ASKED = ("benchmark=tiny", "limit=12", "block=4", "max_new_tokens=112")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run ``evaluate.py`` in an empty folder; gives exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    return prints(evaluate.main, capsys)


@pytest.fixture
def model(run):
    """A folder with the embedded policy, to be changed."""
    load_policy("tiny").save(Path("m/policy"))
    return Path("m/policy")


def damage(folder):
    """Weights with which nothing is right."""
    file = folder / "model.safetensors"
    state = {name: torch.zeros_like(value) for name, value in load_file(file).items()}
    save_file(state, file, metadata={"format": "pt"})


def measured(text):
    """Accuracy and folder of an evaluation, as they were printed."""
    folder = text.rpartition("results ")[2].split()[0]
    return read_results(Path(folder))["measured"]["tiny/cot"]["accuracy"]["value"], folder


@pytest.mark.slow
def test_other_weights_at_the_same_path_are_measured_anew(run, model):
    code, text = run(f"policy={model}", *ASKED)
    assert code == 0, text
    first, folder = measured(text)
    assert first > 0.4
    damage(model)
    code, text = run(f"policy={model}", *ASKED)
    assert code == 0, text
    second, other = measured(text)
    assert (second, other == folder) == (0.0, False)
    machine = read_results(Path(other))["machine"]
    assert machine["threads"] == torch.get_num_threads()
    assert (machine["precision"], machine["deterministic"]) == ("float32", True)


@pytest.mark.slow
def test_another_configuration_of_the_same_weights_is_measured_anew(run, model):
    first, folder = measured(run(f"policy={model}", *ASKED)[1])
    file = model / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "rms_norm_eps": 0.5}))
    second, other = measured(run(f"policy={model}", *ASKED)[1])
    assert other != folder
    assert second != first


def test_files_of_the_users_are_not_overwritten(run):
    Path("notes").mkdir()
    Path("notes/results.md").write_text("my own")
    code, text = run("policy=tiny", *ASKED, "out=notes")
    assert (code, "out=notes: it holds other files (results.md)" in text) == (2, True), text
    assert [file.name for file in Path("notes").iterdir()] == ["results.md"]


def test_limits_of_the_sandbox_are_settings(run):
    asked = ("policy=tiny_tools", "benchmark=tiny", "mode=tir", "limit=2", "max_new_tokens=48", "out=kept")
    assert run(*asked)[0] == 0
    assert run(*asked, "tools.sandbox.workers=1")[0] == 0
    code, text = run(*asked, "tools.sandbox.max_output=3")
    assert (code, "other settings: tools" in text) == (2, True), text


def test_equal_policies_under_two_names_share_nothing_they_should_not(run, model):
    shutil.copytree("m", "n")
    damage(Path("n/policy"))
    accuracies = [measured(run(f"policy={name}/policy", *ASKED)[1])[0] for name in ("m", "n", "m")]
    assert accuracies[0] == accuracies[2] > accuracies[1] == 0.0


@pytest.mark.parametrize("changed", ["weights", "tokenizer"])
def test_a_folder_of_another_policys_results_is_refused_whatever_is_accepted(run, model, changed):
    """Blocks of two policies are no evaluation of either."""
    assert run(f"policy={model}", *ASKED, "out=kept")[0] == 0
    before = {file: file.read_bytes() for file in Path("kept").rglob("*") if file.is_file()}
    if changed == "weights":
        damage(model)
    else:
        file = model / "tokenizer_config.json"
        config = json.loads(file.read_text())
        template = model / "chat_template.jinja"
        text = template.read_text() if template.is_file() else config["chat_template"]
        template.write_text(text + "{# today #}")
    for asked in (ASKED, (*ASKED, f"accept_changed=[{changed}]")):
        code, text = run(f"policy={model}", *asked, "out=kept")
        assert code == 2
        assert f"out=kept: it holds an evaluation of another policy ({changed} differ). Choose another out=" in text
        assert "accept_changed" not in text
    assert before == {file: file.read_bytes() for file in Path("kept").rglob("*") if file.is_file()}


def test_a_package_that_changed_is_accepted_by_name_and_that_is_written_down(run, monkeypatch):
    assert run("policy=tiny", *ASKED, "out=kept")[0] == 0
    before = read_results(Path("kept"))["inputs"]["grouprl"]
    monkeypatch.setattr(benchmark, "package_digest", lambda: "another")
    code, text = run("policy=tiny", *ASKED, "out=kept")
    assert (code, "out=kept: grouprl changed since." in text, "accept_changed=[grouprl]" in text) == (2, True, True)
    Path("kept/samples/tiny/cot/block-000008.parquet").unlink()
    assert run("policy=tiny", *ASKED, "out=kept", "accept_changed=[grouprl]")[0] == 0
    entry = {"before": {"grouprl": before}, "blocks": [f"block-{start:06d}.parquet" for start in (0, 4, 8)]}
    assert run("policy=tiny", *ASKED, "out=kept")[0] == 0  # and stays written down
    assert read_results(Path("kept"))["measured"]["tiny/cot"]["accepted_changes"] == [entry]


def test_results_that_were_removed_are_made_again_of_the_blocks(run):
    """As the message about damaged ones says."""
    assert run("policy=tiny", *ASKED, "out=kept")[0] == 0
    blocks = {file: file.stat().st_mtime_ns for file in Path("kept").rglob("block-*.parquet")}
    (Path("kept") / "results.json").write_text("{")
    assert "Remove it, and evaluate with the same command again" in run("policy=tiny", *ASKED, "out=kept")[1]
    (Path("kept") / "results.json").unlink()
    assert run("policy=tiny", *ASKED, "out=kept")[0] == 0
    assert {file: file.stat().st_mtime_ns for file in Path("kept").rglob("block-*.parquet")} == blocks


def test_another_number_of_threads_is_named_and_written_down(run):
    assert run("policy=tiny", *ASKED, "out=kept", "threads=1")[0] == 0
    try:
        _, text = run("policy=tiny", *ASKED, "out=kept", "threads=2", "deterministic=false")
    finally:
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
    assert "note: threads is 2, and was 1 for what is kept in kept" in text
    assert read_results(Path("kept"))["machines_before"][0]["threads"] == 1


@pytest.mark.parametrize("wrong", ["threads=0", "temperature=inf", "shots=-1", "seed=99999999999"])
def test_options_out_of_range(run, wrong):
    code, text = run("policy=tiny", *ASKED, "out=kept", wrong)
    assert (code, "Traceback" in text) == (2, False)
    assert f"evaluate.py: {wrong}" in text


def test_two_evaluations_do_not_write_to_one_folder(run):
    with alone(Path("kept"), "out"):
        code, text = run("policy=tiny", *ASKED, "out=kept")
    assert (code, "evaluate.py: kept: another process is working in this folder" in text) == (2, True), text
    assert run("policy=tiny", *ASKED, "out=kept")[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_evaluation_that_is_stopped_goes_on_after_its_last_block(run, monkeypatch, number):
    write = KeptBlocks.write
    started = []
    before = signal.signal(number, signal.default_int_handler)  # under nohup SIGHUP is ignored

    def write_and_stop(self, start, rows):
        write(self, start, rows)
        started.append(start)
        if start == 4:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(KeptBlocks, "write", write_and_stop)
    try:
        code, text = run("policy=tiny", *ASKED, "out=kept")
    finally:
        signal.signal(number, before)
    assert (code, started) == (128 + number, [0, 4]), text
    assert "evaluate.py: stopped. The same command goes on after the last block" in text
    assert "Traceback" not in text
    assert run("policy=tiny", *ASKED, "out=kept")[0] == 0
    assert started == [0, 4, 8]


def test_other_problems_under_the_same_name(run, tmp_path):
    asked = ("policy=tiny", "benchmark=minerva", "max_new_tokens=48", "shots=0", "extraction=lenient")

    def write(folder, answers):
        Path(folder).mkdir(exist_ok=True)
        rows = [{"problem": f"What is $4 + {n}$?", "answer": answer} for n, answer in enumerate(answers)]
        Path(folder, "minerva_math.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def results(folder):
        code, text = run(*asked, f"data_dir={folder}")
        assert code == 0, text
        out = Path(text.rpartition("results ")[2].split()[0])
        accuracy = read_results(out)["measured"]["minerva/cot"]["accuracy"]["value"]
        return accuracy, [row["answer"] for row in read_parquet(out / "minerva-cot.parquet")]

    write("a", ["1000000"] * 3)
    nothing, answers = results("a")
    write("b", [answer or "none" for answer in answers])
    assert results("b")[0] > nothing == 0.0
    write("a", answers)
    code, text = run(*asked, "data_dir=a")
    assert (code, "minerva_math.jsonl changed since" in text) == (2, True), text
    assert "accept_changed=[minerva_math.jsonl]" in text


def flipped(rows):
    return [{**row, "correct": not row["correct"]} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda file: write_parquet(file, flipped(read_parquet(file))), "changed since it was written"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "changed since it was written"),
        (lambda file: write_parquet(file, read_parquet(file)[:-1]), "changed since it was written"),
        (lambda file: file.write_bytes(file.with_name("block-000000.parquet").read_bytes()), "changed since"),
    ],
    ids=["edited", "cut off", "a row less", "another block"],
)
def test_a_block_that_was_changed_is_refused(run, change, wanted):
    assert run("policy=tiny", *ASKED, "out=kept")[0] == 0
    file = Path("kept/samples/tiny/cot/block-000004.parquet")
    right = file.read_bytes()
    change(file)
    code, text = run("policy=tiny", *ASKED, "out=kept")
    assert (code, str(file) in text, wanted in text) == (2, True, True), text
    # What the text says to do brings the same block again.
    file.unlink()
    assert run("policy=tiny", *ASKED, "out=kept")[0] == 0
    assert file.read_bytes() == right


def test_blocks_of_other_problems_or_prompts_are_refused_though_their_digest_is_right(run):
    """The digest is of the block; what it holds is compared with what is asked now."""
    from grouprl.evaluation.kept import BLOCKS_FILE, _digest

    assert run("policy=tiny", *ASKED, "out=kept")[0] == 0
    folder = Path("kept/samples/tiny/cot")
    file = folder / "block-000004.parquet"
    rows = read_parquet(file)
    for key, value in (
        ("problem", "What is 1 + 1?"),
        ("gold", "-1"),
        ("prompt", "Today is another day."),
        ("index", 99),
    ):
        write_parquet(file, [{**rows[0], key: value}, *rows[1:]])
        digests = json.loads((folder / BLOCKS_FILE).read_text())
        (folder / BLOCKS_FILE).write_text(json.dumps({**digests, file.name: _digest(file)}))
        code, text = run("policy=tiny", *ASKED, "out=kept")
        assert (code, f"{file}: problem 4 or its prompt is another than was measured" in text) == (2, True), text
