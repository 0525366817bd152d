"""Processes that misbehave in every way their pipes allow: the caller has its answer or its exception, and goes on."""

import errno
import os
import resource
import select
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from grouprl.answers import process as subject
from grouprl.answers.grading import grade
from grouprl.answers.pool import Pool
from grouprl.answers.process import JsonProcess

ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
MIB = 2**20


@pytest.fixture
def started():
    """Processes that run Python code; they are killed with the test."""
    made = []

    def start(code):
        made.append(JsonProcess([sys.executable, "-c", code], os.environ))
        return made[-1]

    yield start
    for process in made:
        process.kill()


class Interrupted(Exception):
    """Comes from a signal, as KeyboardInterrupt does."""


@pytest.fixture
def interrupted_after():
    """Raise `Interrupted` in this thread after some seconds."""

    def interrupt(*_):
        raise Interrupted

    old = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


@pytest.mark.parametrize("size", [1, 10 * MIB])
@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import time; time.sleep(600)", id="reads and writes nothing"),
        pytest.param("import re; re.match('(a|a?)+$', 'a' * 64 + 'b')", id="holds the interpreter lock"),
        pytest.param("import time; print('{\"half\": ', end='', flush=True); time.sleep(600)", id="half a line"),
        pytest.param("import os\nwhile True: os.write(1, b' ')", id="writes and never ends a line"),
    ],
)
def test_what_gives_no_answer_ends_at_the_deadline(started, code, size):
    process = started(code)
    with pytest.raises(TimeoutError, match=r"no answer within 0.5 s"):
        process.exchange("x" * size, 0.5)
    assert not process.is_alive


def test_a_flood_without_end_is_not_kept(started, monkeypatch):
    monkeypatch.setattr(subject, "LONGEST_ANSWER", MIB)
    process = started("import os\nwhile True: os.write(1, b' ' * 65536)")
    with pytest.raises(ValueError, match="longer than 1048576 bytes"):
        process.exchange(1, 60)
    assert len(process._received) < 2 * MIB
    assert not process.is_alive


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import os; os._exit(3)", "exit status 3"),
        ("import os; os.kill(os.getpid(), 11)", "killed by signal 11"),
        ("import os, time; os.close(1); time.sleep(600)", "it closed its pipe"),
        ("import os, time; os.close(0); time.sleep(600)", "it closed its pipe"),
        ("import os; print('[1', end='', flush=True); os._exit(4)", "exit status 4"),
    ],
)
def test_a_process_that_ends_says_how(started, monkeypatch, code, how):
    monkeypatch.setattr(subject, "_GRACE_S", 0.5 if how.startswith("it closed") else 30.0)
    process = started(code)
    with pytest.raises(EOFError, match=how):
        process.exchange("x" * MIB, 60)
    assert not process.is_alive


def test_an_answer_that_is_no_json_is_refused(started):
    process = started("print('None', flush=True)\nimport time; time.sleep(600)")
    with pytest.raises(ValueError, match="Expecting value"):
        process.exchange(1, 60)
    assert not process.is_alive


def test_nobody_is_given_the_answer_to_anothers_question(started, interrupted_after):
    """An exchange that was interrupted leaves an answer on its way: its process is not asked again."""
    process = started("import sys, time\nfor line in sys.stdin: time.sleep(1); print(line, end='', flush=True)")
    interrupted_after(0.3)
    with pytest.raises(Interrupted):
        process.exchange("first", 60)
    assert not process.is_alive


def test_what_has_come_is_not_late(started):
    """Where the caller stood still, the answer may be there after the deadline."""
    process = started("import os, time; os.write(1, b'[1]\\n'); time.sleep(600)")
    select.select([process._out], [], [], 60)
    assert process.wait_for_line(0.0) == [1]


def test_a_wait_may_be_without_end(started):
    assert started(ECHO).exchange([1], float("inf")) == [1]


def test_answers_come_back_whatever_their_size_and_however_many_files_are_open(tmp_path, started):
    """More than 1,024 descriptors, of which `select` knows nothing; and none left for a selector of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    files = [(tmp_path / "file").open("w") for _ in range(1100)]
    try:
        process = started(ECHO)
        message = {"texts": ["x" * 1_000_000] * 3}
        assert process.exchange(message, 60) == message
        with closing(Pool(workers=1)) as pool:
            assert grade(r"\boxed{x+1}", "1+x", pool=pool).correct
        resource.setrlimit(resource.RLIMIT_NOFILE, (files[-1].fileno(), hard))
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            (tmp_path / "file").open()
        assert process.exchange(1, 60) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for file in files:
            file.close()


def test_what_a_worker_runs_cannot_reach_its_pipes(started):
    """It reads nothing of the requests, and what it prints is no answer."""
    process = started(
        "import os, subprocess, sys\n"
        "from grouprl.answers.process import own_pipes\n"
        "requests, answers = own_pipes()\n"
        "for line in requests:\n"
        "    print('printed', flush=True); os.system('echo shell'); os.write(1, b'written')\n"
        "    read = sys.stdin.read() + subprocess.run(['cat'], capture_output=True, text=True).stdout\n"
        "    answers.write(b'[%d, %d]\\n' % (len(line), len(read))); answers.flush()\n"
    )
    for text, length in (("a", 4), ("bcd", 6)):
        assert process.exchange(text, 20) == [length, 0]


def test_a_worker_without_a_parent_ends_even_if_it_holds_the_interpreter_lock():
    code = (
        "import re\nfrom grouprl.answers.process import ended_after\n"
        "with ended_after(100): print('watched', flush=True)\n"
        "with ended_after(0.3): re.match('(a|a?)+$', 'a' * 64 + 'b')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=120, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "watched\n")


def test_memory_is_limited_where_the_system_limits_it_more():
    code = (
        "import resource\nfrom grouprl.answers.process import limit_memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\nlimit_memory(2048)\n"
        "assert resource.getrlimit(resource.RLIMIT_AS) == (2**30, 2**30)\nlimit_memory(512)\n"
        "assert resource.getrlimit(resource.RLIMIT_AS) == (2**29, 2**29)\n"
    )
    if sys.platform == "linux":
        subprocess.run([sys.executable, "-c", code], timeout=120, check=True)


def test_sets_of_texts_are_walked_in_one_order_in_every_process():
    code = "import json; input(); print(json.dumps(list({f'w{n}' for n in range(50)})), flush=True)"
    orders = []
    for _ in range(3):
        process = JsonProcess([sys.executable, "-c", code], {"PATH": os.environ["PATH"]})
        orders.append(process.exchange({}, 20))
        process.kill()
    assert orders[0] == orders[1] == orders[2]
