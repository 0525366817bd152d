"""Rewards that hold what their process needs to speak: the call ends in time, and the next is answered as itself."""

import errno
import os
import signal
import sys
import time

import pytest

from grouprl.batch import Prompts
from grouprl.rewards.isolation import IsolatedReward, RewardWorkerError
from grouprl.rewards.scoring import RewardTimeoutError

PROMPTS = Prompts(problems=("p",), answers=("1",), token_ids=((1,),), indices=(0,))
LARGE = "x" * 10_000_000
"""More than a pipe holds."""

REWARDS = r"""
import os, re, subprocess, sys, threading, time

def holds_the_lock(*_):
    re.match(r"(a|a?)+$", "a" * 64 + "b")

def score(completions, prompts):
    do = {
        "hold": holds_the_lock,
        "leave a holder": lambda: threading.Timer(0.2, holds_the_lock).start(),
        "sleep": lambda: time.sleep(600),
        "close": lambda: os.closerange(3, 64),
        "exit": lambda: os._exit(5),
        "talk": talk,
    }.get(completions[0][0][:20].strip("x"))
    if do:
        do()
    return [[float(len(text)) for text in row] for row in completions]

def talk():
    print("[[1.0]]", flush=True)
    os.write(1, b'{"values": [[1.0]], "parts": {}}\n')
    os.system("echo '[[1.0]]'")
    assert sys.stdin.read() == subprocess.run(["cat"], capture_output=True, text=True).stdout == ""
"""


@pytest.fixture
def reward(tmp_path):
    (tmp_path / "own.py").write_text(REWARDS)
    made = IsolatedReward(f"{tmp_path / 'own.py'}:score", timeout_s=2.0, memory_mb=2048)
    yield made
    made.close()


def scored(reward, text):
    return reward([[text]], PROMPTS).values.item()


@pytest.mark.slow
@pytest.mark.parametrize("size", [pytest.param(0, marks=pytest.mark.slow), len(LARGE)])
def test_a_call_that_holds_the_interpreter_lock_ends_in_time(reward, size):
    """The worker's own watching thread never runs; neither does anything that reads its pipe."""
    assert scored(reward, "abc") == 3
    with pytest.raises(RewardTimeoutError, match=r"did not return within 2 s \(reward.timeout_s\)"):
        scored(reward, "hold" + LARGE[:size])
    assert scored(reward, "abcd") == 4


@pytest.mark.slow
def test_a_request_that_nobody_reads_ends_in_time(reward):
    """A thread that an earlier call left holds the lock, so that the next request stays in the pipe."""
    assert scored(reward, "leave a holder") == 14
    until = time.monotonic() + 60
    while time.monotonic() < until:  # the first ones may come before the thread
        try:
            scored(reward, LARGE)
        except RewardTimeoutError:
            break
    else:
        pytest.fail("the thread did not hold the lock")
    assert scored(reward, "abcd") == 4


@pytest.mark.slow
@pytest.mark.parametrize(("what", "how"), [("close", "(exit status 1|it closed its pipe)"), ("exit", "exit status 5")])
def test_a_worker_that_cannot_answer_any_more_is_replaced(reward, what, how):
    with pytest.raises(RewardWorkerError, match=rf"the reward's process ended \({how}\)"):
        scored(reward, what)
    assert scored(reward, "abcd") == 4


def test_what_a_reward_prints_and_reads_is_apart_from_the_protocol(reward):
    assert scored(reward, "talk") == 4
    assert scored(reward, "abcde") == 5


@pytest.mark.slow
def test_an_interrupted_call_leaves_no_rewards_for_the_next(reward):
    def interrupt(*_):
        raise KeyboardInterrupt

    assert scored(reward, "abc") == 3
    os.kill(reward._worker.pid, signal.SIGSTOP)
    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(KeyboardInterrupt):
            scored(reward, "abcdefg")
    finally:
        signal.signal(signal.SIGALRM, old)
    assert scored(reward, "abcd") == 4


def test_a_process_that_does_not_start_is_an_error_of_one_call(reward, monkeypatch):
    def no_process(*_, **__):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as failing:
        failing.setattr("subprocess.Popen", no_process)
        with pytest.raises(RewardWorkerError, match=r"the reward's process did not start: .*temporarily unavailable"):
            scored(reward, "abc")
    with monkeypatch.context() as failing:
        failing.setattr(sys, "executable", "/bin/false")
        with pytest.raises(RewardWorkerError, match=r"the reward's process ended \(exit status 1\)"):
            scored(reward, "abc")
    assert scored(reward, "abc") == 3
