"""The arms of a sweep: whatever ends one, that is written down and said, and the next one runs."""

import fcntl
import json
import os
import re
import signal
from pathlib import Path

import pytest
from helpers.runs import run_forked

from grouprl.cli.jobs import apart
from grouprl.cli.jobs import sweep as sweep_module
from grouprl.cli.jobs.locks import alone
from grouprl.studies.verification import edited
from grouprl.training import signals
from grouprl.training.records import LOCK_FILE, RESULT_FILE, read_result, settle, write_result

TINY = ["steps=1", "max_new_tokens=8", "data.heldout_size=0", "prompts_per_step=2", "minibatches=1", "ppo_epochs=1"]
OWN = """
import ctypes, os, signal, sys, threading, torch
class End:
    def __init__(self, how, at=1):
        self.how, self.at = how, at
        if at == 0:
            self.end()
    def __call__(self, completions, prompts):
        with open("threads.txt", "a") as file:
            print(threading.active_count(), len(os.listdir("/proc/self/task")), os.getpid(), file=file)
        self.end()
        return [[float(len(text)) for text in row] for row in completions]
    def end(self):
        if self.how == "exit": sys.exit(0)
        if self.how == "interrupt": raise KeyboardInterrupt
        if self.how == "generator": raise GeneratorExit
        if self.how == "os_exit": os._exit(0)
        if self.how == "as_signalled": os._exit(143)
        if self.how == "segfault": ctypes.string_at(0)
        if self.how == "kill": os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "replace": os.execv("/bin/true", ["true"])
"""
TOLD = {
    "exit": "SystemExit(0) was raised in own.py, line ",
    "interrupt": "KeyboardInterrupt() was raised in own.py, line ",
    "generator": "GeneratorExit() was raised in own.py, line ",
    "os_exit": "its process ended before the run did (exit status 0)",
    "as_signalled": "its process ended before the run did (exit status 143)",
    "segfault": "its process ended before the run did (signal 11, SIGSEGV)",
    "kill": "its process ended before the run did (signal 9, SIGKILL: killed by the system for want of memory",
    "replace": "its process ended before the run did (exit status 0)",
}


@pytest.fixture
def sweep(train, capfd):
    """Run a sweep whose reward ends its process in some ways: exit code, what was shown, results by way."""
    Path("own.py").write_text(OWN)

    def run(*ways, at, last="good"):
        own = ["reward=custom", "reward._target_=own.End", f"+reward.how={','.join([*ways, last])}", f"+reward.at={at}"]
        code = train(*TINY, "-m", *own, "hydra.sweep.subdir=${reward.how}")
        shown = capfd.readouterr()
        return code, shown, {folder.name: read_result(folder) for folder in Path("runs/sweep").iterdir()}

    return run


def check_ends(outcome, ways):
    code, shown, results = outcome
    assert code == 1
    for way in ways:
        assert results[way]["state"] == "failed"
        assert results[way]["error"].startswith(TOLD[way])
        assert f"| `{way}` " in shown.out
        assert f"{way} failed: {TOLD[way]}" in shown.out
        assert f"{way}: {TOLD[way]}" in shown.err  # when it ended
        assert edited(Path("runs/sweep") / way, results[way]) == []  # it counts as what it scored
    assert results["good"]["state"] == "finished"
    assert "Traceback" not in shown.err


@pytest.mark.slow
def test_an_arm_that_ends_while_it_is_set_up(sweep):
    ways = ["interrupt", "kill"]
    check_ends(sweep(*ways, at=0), ways)


@pytest.mark.slow
def test_an_arm_that_ends_while_it_trains(sweep):
    check_ends(sweep(*TOLD, at=1), list(TOLD))


@pytest.mark.slow
def test_arms_share_no_process_and_leave_no_thread(train, capfd):
    Path("own.py").write_text(OWN)
    own = ["reward=custom", "reward._target_=own.End", "+reward.how=good"]
    assert train(*TINY, "-m", *own, "seed=0,1,2,3") == 0
    counts = [tuple(map(int, line.split())) for line in Path("threads.txt").read_text().splitlines()]
    assert len({process for *_, process in counts}) == 4
    python, system, _ = zip(*counts, strict=True)
    assert python[3] <= python[1]
    assert system[3] <= system[1] + 1  # the answer pool is being started beside
    assert capfd.readouterr().out.count("| finished |") == 4


@pytest.mark.slow
def test_a_thread_that_a_component_left_does_not_hold_the_sweep(train, monkeypatch):
    Path("own.py").write_text(
        "import threading\n"
        "def never_ends():\n    threading.Event().wait()\n"
        "class Reward:\n"
        "    def __call__(self, completions, prompts):\n"
        "        threading.Thread(target=never_ends).start()\n"
        "        return [[float(len(text)) for text in row] for row in completions]\n"
    )
    monkeypatch.setattr(apart, "LINGERS_S", 0.1)
    assert train(*TINY, "-m", "reward=custom", "reward._target_=own.Reward", "seed=0,1") == 0


@pytest.mark.slow
def test_a_component_that_leaves_the_program_leaves_a_failed_run(train, capfd):
    """Without a sweep, too: not 'running', and not the exit code that the component chose."""
    Path("own.py").write_text(OWN)
    own = ["reward=custom", "reward._target_=own.End", "hydra.run.dir=run"]
    for way in ("exit", "interrupt"):
        assert train(*TINY, *own, f"+reward.how={way}", f"hydra.run.dir={way}") == 1
        assert read_result(Path(way))["state"] == "failed"
        shown = capfd.readouterr().err
        assert f"{way}: {TOLD[way]}" in shown
        assert f"After mending it: python train.py resume={way}" in shown


SIGNALS = {
    # Training does not listen yet while the policy is loaded; the first samples are the evaluation's before it.
    "term-loading": {"where": "loading", "call": 1, "signal": int(signal.SIGTERM)},
    "hup-sampling": {"where": "sampling", "call": 1, "signal": int(signal.SIGHUP)},
    "sweep-int-loading": {"where": "loading", "call": 1, "signal": int(signal.SIGINT), "whole_sweep": True},
    "sweep-hup-training": {"where": "training", "call": 1, "signal": int(signal.SIGHUP), "whole_sweep": True},
    "arms-term-loading": {"where": "loading", "call": 1, "signal": int(signal.SIGTERM)},
}


@pytest.fixture(scope="module")
def signalled(tmp_path_factory):
    """Runs and sweeps that are sent signals: exit codes by name, states as they stand in their files, and the log."""
    folder = tmp_path_factory.mktemp("signalled")
    jobs = []
    for name, kill in SIGNALS.items():
        many = (
            ["-m", "seed=0,1", f"study={name}"]
            if name.startswith(("sweep", "arms"))
            else [f"hydra.run.dir=runs/{name}"]
        )
        jobs.append({"arguments": [*TINY, "data.heldout_size=2", *many], "kill": kill})
    codes = {name: outcome["status"] for name, outcome in zip(SIGNALS, run_forked(folder, jobs), strict=True)}
    files = sorted(folder.rglob(RESULT_FILE))
    return codes, {name: states_in(files, name) for name in SIGNALS}, (folder / "log.txt").read_text()


def states_in(files, name):
    return [json.loads(file.read_text())["state"] for file in files if name in file.parts]


@pytest.mark.slow
def test_a_signal_at_any_time_leaves_no_run_running(signalled):
    codes, states, log = signalled
    for name in ("term-loading", "hup-sampling"):
        assert codes[name] == 128 + SIGNALS[name]["signal"]
        assert states[name] == ["interrupted"]
        assert f"python train.py resume=runs/{name}" in log
    # To a sweep: it ends its arm and all that follow.
    for name in ("sweep-int-loading", "sweep-hup-training"):
        assert codes[name] == 128 + SIGNALS[name]["signal"]
        assert states[name] == ["interrupted", "not run"]
        assert f"To go on, give the same command: python train.py {' '.join(TINY)} data.heldout_size=2 -m" in log
    # To an arm alone: the next one runs.
    assert codes["arms-term-loading"] == 1
    assert states["arms-term-loading"] == ["interrupted", "interrupted"]  # each was sent one
    assert "Traceback" not in log


@pytest.mark.slow
def test_ctrl_c_between_two_arms_and_twice(train, monkeypatch, capfd):
    progress = sweep_module.progress

    def interrupted(*arguments):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        return progress(*arguments)

    monkeypatch.setattr(sweep_module, "progress", interrupted)
    assert train(*TINY, "-m", "seed=0,1", small=False) == 130
    states = {folder.name: read_result(folder)["state"] for folder in Path("runs/sweep").glob("*seed-*")}
    assert sorted(states.values()) == ["finished", "not run"]
    shown = capfd.readouterr()
    assert "Traceback" not in shown.out + shown.err
    assert f"To go on, give the same command: python train.py {' '.join(TINY)} -m seed=0,1" in shown.out


def running(folder):
    write_result(folder, {"run": folder.name, "state": "running"})
    return folder


def test_a_run_without_a_process_is_interrupted(tmp_path):
    run = running(tmp_path / "run")
    assert read_result(run)["state"] == "interrupted"
    with (run / LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert read_result(run)["state"] == "running"
        settle(run)
        assert json.loads((run / RESULT_FILE).read_text())["state"] == "running"
    settle(run)
    assert json.loads((run / RESULT_FILE).read_text())["state"] == "interrupted"


def test_workers_that_a_launcher_killed_are_written_down(tmp_path, monkeypatch, capsys):
    """Other launchers run arms in processes which they kill at Ctrl-C."""
    monkeypatch.setattr(signals, "received", [int(signal.SIGINT)])
    monkeypatch.setattr("sys.argv", ["train.py"])
    folders = [running(tmp_path / "0"), tmp_path / "1"]
    assert sweep_module._close(folders, 0.0, ["-m", "seed=0,1", "hydra/launcher=joblib"]) == 130
    assert json.loads((folders[0] / RESULT_FILE).read_text())["state"] == "interrupted"
    shown = capsys.readouterr().out
    assert "| `0` | interrupted |" in shown
    assert "| `1` | not run     |" in shown
    assert "give the same command: python train.py -m seed=0,1 hydra/launcher=joblib" in shown


def test_looking_whether_a_run_is_under_way_does_not_hinder_it(tmp_path, train):
    """One that starts waits for one that only looks."""
    import threading

    run = tmp_path / "run"
    run.mkdir()
    (run / LOCK_FILE).touch()
    with (run / LOCK_FILE).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, lambda: fcntl.flock(lock, fcntl.LOCK_UN))
        timer.start()
        with alone(run):
            assert True
        timer.join()


@pytest.mark.slow
def test_an_arm_that_could_not_begin_is_not_given_an_earlier_runs_result(tmp_path, train, capfd):
    """Its folder is held by another process, and what it holds is a finished run of other options."""
    sweep = ["-m", "seed=0,1", "hydra.sweep.dir=runs/sweep", "hydra.sweep.subdir=${seed}"]
    assert train(*TINY, *sweep) == 0
    capfd.readouterr()
    with alone(Path("runs/sweep/1")):
        assert train(*TINY, *sweep, "lr=3e-4") == 1
    shown = capfd.readouterr().out
    assert re.search(r"\| `1` +\| failed +\|", shown), shown
    assert "1 failed: its folder holds another run" in shown


def test_a_signal_that_is_ignored_stays_ignored():
    """As nohup has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.listening():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is signals.raise_stopped
            with pytest.raises(signals.Stopped):
                os.kill(os.getpid(), signal.SIGTERM)
                signal.pause()
            assert signals.exit_code() == 143
            with pytest.raises(signals.Stopped):
                signals.raise_if_received()
        assert signal.getsignal(signal.SIGTERM) is not signals.raise_stopped
    finally:
        signal.signal(signal.SIGHUP, before)
        signals.received.clear()
