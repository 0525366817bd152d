"""Commands by their names, and what is taken, noted or refused of options that are no mistake everywhere."""

import sys

import pytest

import grouprl
from grouprl import __main__ as program
from grouprl.cli import evaluate, train
from grouprl.cli.config.messages import UsageError
from grouprl.cli.config.preflight import check_command, check_job


def test_a_warm_up_by_default_that_is_as_long_as_the_run_is_said(capsys):
    check_command("train", ["steps=5"], multirun=False)
    assert "note: with steps=5 and warmup_steps=5 the learning rate never reaches lr" in capsys.readouterr().err
    for enough in (["steps=6"], ["steps=5", "warmup_steps=0"]):
        check_command("train", enough, multirun=False)
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("value", ["[]", "null"])
def test_the_overlap_with_no_benchmark_may_be_asked_for(value):
    assert not check_job("train", [f"overlap.benchmarks={value}"]).overlap.benchmarks


def test_null_is_no_text_of_an_evaluation():
    (config,) = evaluate._compose(["prompt=null", "system=null", "answer=null"], multirun=False)
    assert (config.prompt, config.system, config.answer) == ("null", None, None)


def test_nodes_that_a_launcher_started_are_taken(monkeypatch):
    for name in ("MASTER_ADDR", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match=r"trainer\.num_nodes=2: nothing here says where the other nodes are"):
        check_job("train", ["+trainer.num_nodes=2"])
    monkeypatch.setenv("MASTER_ADDR", "10.0.0.1")
    check_job("train", ["+trainer.num_nodes=2"])


@pytest.mark.parametrize("main", [train.main, evaluate.main])
def test_the_version_is_this_packages(main, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"grouprl {grouprl.__version__}\n")


def test_the_package_does_its_commands_by_name(monkeypatch, capsys):
    for words, code, said in (
        (["train", "--version"], 0, f"grouprl {grouprl.__version__}"),
        (["tarin"], 2, "tarin: there is no such command. python -m grouprl train|evaluate|compare|verify"),
        ([], 2, "python -m grouprl train|evaluate|compare|verify"),
        (["--help"], 0, "python -m grouprl train|evaluate|compare|verify"),
    ):
        monkeypatch.setattr(sys, "argv", ["grouprl", *words])
        with pytest.raises(SystemExit) as ended:
            program.main()
        shown = capsys.readouterr()
        assert (ended.value.code, said in shown.out + shown.err) == (code, True), shown
