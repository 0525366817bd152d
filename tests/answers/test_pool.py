"""The pool of processes that compare answers: no verdict of a moment is kept, and no process that failed is missed."""

import errno
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from grouprl.answers import compare, grading, worker
from grouprl.answers import pool as subject
from grouprl.answers.grading import grade, grade_all
from grouprl.answers.pool import Pool
from grouprl.batch import Prompts
from grouprl.rewards.parts import MathReward

SAME = {"prediction": "x+1", "gold": "1+x", "tolerance": 0.0}
OTHER = {"prediction": "x+2", "gold": "1+x", "tolerance": 0.0}


@pytest.fixture
def pool():
    with closing(Pool(workers=2, timeout_s=5.0)) as made:
        yield made


def stop(pool):
    """Stop the idle processes of a pool; their numbers."""
    pids = [idle.process.pid for idle in pool._idle]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    return pids


def test_a_comparison_that_hangs_twice_is_counted_apart_and_not_remembered(monkeypatch):
    """Workers that are stopped as soon as they are ready: a timeout, which the next grading of the same text forgets."""
    with closing(Pool(workers=1, timeout_s=0.3)) as pool:
        monkeypatch.setattr(grading, "shared_pool", lambda: pool)
        wait = subject._Worker.wait_until_ready
        with monkeypatch.context() as stopping:

            def stopped(worker):
                wait(worker)
                os.kill(worker.process.pid, signal.SIGSTOP)

            stopping.setattr(subject._Worker, "wait_until_ready", stopped)
            verdict = grade(r"\boxed{z+1}", "1+z")
            assert (verdict.correct, verdict.status) == (False, "timeout")
        assert grade(r"\boxed{z+1}", "1+z").correct


def test_workers_that_all_stood_still_are_replaced(pool, monkeypatch):
    """The second try is with a process of its own: the others may stand still, too."""
    monkeypatch.setattr(grading, "shared_pool", lambda: pool)
    pool.start()
    pool.timeout_s = 1.0
    pids = stop(pool)
    assert len(pids) == 2
    assert grade(r"\boxed{w+1}", "1+w").correct
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert grade(r"\boxed{w+1}", "1+w").correct
    assert not grade(r"\boxed{w+2}", "1+w").correct


def test_a_worker_that_died_is_replaced(pool):
    pool.start(1)
    os.kill(pool._idle[0].process.pid, signal.SIGKILL)
    assert pool.ask(SAME)["status"] == "correct"


@pytest.mark.parametrize("status", subject.OF_THE_MOMENT)
def test_a_verdict_of_the_moment_is_asked_for_once_more_of_another_process(pool, monkeypatch, status):
    """Of every kind; twice, it is a timeout, and the next grading asks again."""
    monkeypatch.setattr(grading, "shared_pool", lambda: pool)
    ask, asked, failing = subject._Worker.ask, [], [1]

    def fails(worker, request, timeout_s):
        asked.append(worker.process.pid)
        if len(asked) <= failing[0]:
            return {"status": status, "rule": "of the moment"}
        return ask(worker, request, timeout_s)

    monkeypatch.setattr(subject._Worker, "ask", fails)
    answer = rf"\boxed{{v_{len(status)}+1}}"  # not asked before
    assert grade(answer, f"1+v_{len(status)}").correct
    assert len(set(asked)) == len(asked) == 2
    asked.clear()
    failing[0] = 2
    verdict = grade(answer.replace("v", "u"), f"1+u_{len(status)}")
    assert (verdict.status, verdict.rule) == ("timeout", "of the moment")
    assert grade(answer.replace("v", "u"), f"1+u_{len(status)}").correct


def test_a_worker_without_memory_says_so_and_is_killed(pool, monkeypatch):
    def greedy(*_):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(compare, "same", greedy)
        reply = worker._compared(SAME)
    assert reply == {"status": "memory", "rule": "out of memory"}
    with pool._worker() as one:
        one.wait_until_ready()
        monkeypatch.setattr(one.process, "exchange", lambda *_: reply)
        assert one.ask(SAME, 2.0) == reply
        assert not one.process.is_alive


def no_process(*_, **__):
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.mark.parametrize("kind", ["fork", "exec", "exit", "silence", "noise"])
def test_a_worker_that_does_not_start_costs_its_request_alone(pool, monkeypatch, tmp_path, kind):
    """No place in the pool is lost, however often it fails."""
    program = tmp_path / "python"
    code = {"exit": "exit 7", "silence": "sleep 600", "noise": "echo hello; sleep 600"}.get(kind)
    if code:
        program.write_text(f"#!/bin/sh\n{code}\n")
        program.chmod(0o700)
    with monkeypatch.context() as failing:
        if kind == "fork":
            failing.setattr("subprocess.Popen", no_process)
        else:
            failing.setattr(sys, "executable", str(program))
        failing.setattr(subject, "START_TIMEOUT_S", 0.5)
        for _ in range(pool.workers + 1):
            with pytest.raises(RuntimeError, match="the process that compares answers did not start: "):
                pool.ask(SAME)
        with pytest.raises(RuntimeError, match="did not start"):
            pool.start()
    with ThreadPoolExecutor(2) as threads:
        replies = list(threads.map(pool.ask, [SAME, OTHER, SAME]))
    assert [reply["status"] for reply in replies] == ["correct", "wrong", "correct"]


def test_an_interrupted_question_leaves_no_answer_for_the_next(pool):
    """Whatever comes between: the process that was asked is not asked again."""

    def interrupt(*_):
        raise KeyboardInterrupt

    pool.start(1)
    (pid,) = stop(pool)
    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            pool.ask(SAME)
    finally:
        signal.signal(signal.SIGALRM, old)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    assert pool.ask(OTHER)["status"] == "wrong"


@pytest.fixture
def together(monkeypatch):
    """Workers that answer only once two are asked at the same time."""
    meeting, ask = threading.Barrier(2), subject._Worker.ask

    def meet(worker, request, timeout_s):
        meeting.wait(30)
        return ask(worker, request, timeout_s)

    monkeypatch.setattr(subject._Worker, "ask", meet)


def test_two_answers_are_compared_at_the_same_time(pool, together):
    """Each waits for the other. Four different ones, and repeated ones that are asked once."""
    texts = [rf"\boxed{{p+{n}}}" for n in (1, 2, 1, 3, 4, 4)]
    verdicts = grade_all(texts, ["1+p"] * 6, pool=pool)
    assert [verdict.correct for verdict in verdicts] == [True, False, True, False, False, False]


def test_a_reward_uses_all_workers(pool, together, monkeypatch):
    monkeypatch.setattr(grading, "shared_pool", lambda: pool)
    prompts = Prompts(("p", "q"), ("1+q", "2+q"), ((), ()), (0, 1))
    found = MathReward()([[r"\boxed{q+1}"], [r"\boxed{q+1}"]], prompts)
    assert found.parts["correct"].tolist() == [[1.0], [0.0]]


def test_no_more_processes_than_workers(pool):
    """Also after the pool was closed while one was at work."""
    with pool._worker() as busy:
        pool.close()
        assert busy.process.is_alive
    with pool._worker() as one, pool._worker() as two:
        assert one is busy is not two
        assert not pool._slots.acquire(blocking=False)


def test_starts_do_not_wait_for_each_other_for_ever(pool):
    threads = [threading.Thread(target=pool.start, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert len(pool._idle) == 2


def test_long_answers_are_not_remembered():
    before = grading._compare_cached.cache_info().currsize
    assert grade("x" * 401, "y", extraction="none").rule == "too long"
    assert grade("x" * 50_000, "x" * 50_000, extraction="none").correct
    assert grading._compare_cached.cache_info().currsize == before
