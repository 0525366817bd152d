"""The sandbox that runs a policy's code: what goes on in it, what does not get out, what it says of a machine."""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
from helpers.paths import ROOT

from grouprl.sandbox import process, trial
from grouprl.sandbox.attacks import ATTACKS, DETACHED, WRITING
from grouprl.sandbox.sandbox import Sandbox

WITHOUT = {
    "Landlock": ("confine.py", "lambda: landlock.restrict(self.folder, self.places, view.DEVICES)", "lambda: None"),
    "seccomp": ("confine.py", "lambda: seccomp.install(os.uname().machine)", "lambda: None"),
}
CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7, "SYS_ADMIN": 21, "SYS_RESOURCE": 24}


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        ("1 + 1", "ok", "2"),
        ("x = 3\nprint('a')\nx * 2", "ok", "a\n6"),
        ("x = 3", "ok", ""),
        ("None", "ok", ""),
        ("print(1)", "ok", "1"),
        ("1 / 0", "error", "ZeroDivisionError: division by zero"),
        ("def f(:", "error", "SyntaxError: invalid syntax"),
        ("print('a')\nraise ValueError('b')", "error", "a\nValueError: b"),
        ("from sympy import *\nx = symbols('x')\nsolve(x**2 - 2)", "ok", "[-sqrt(2), sqrt(2)]"),
        ("import numpy\nnumpy.arange(4).sum()", "ok", "6"),
        ("open('a', 'w').write('kept')\nopen('a').read()", "ok", "kept"),
        ("print('é中')", "ok", "é中"),
        ("'\ud800'", "ok", "?"),
        ("import sys\nsys.exit(3)", "error", ""),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "error", ""),
        ("", "ok", ""),
    ],
)
def test_a_block(python, code, status, text):
    output = replace(python, timeout_s=10.0).run(code)
    assert (output.status, output.text.strip()) == (status, text)


@pytest.mark.parametrize(
    "code",
    [
        "import tempfile\nwith tempfile.NamedTemporaryFile('w+') as f, tempfile.TemporaryDirectory(): print(f.write('ok'))",
        "import os, shutil\nos.makedirs('a/b'); open('a/c', 'w').write('ok'); shutil.copytree('a', 'd'); shutil.copy2('d/c', 'e')\n"
        "shutil.move('d', 'f'); shutil.rmtree('f'); print(len(open('e').read()))",
        "from pathlib import Path\np = Path('p'); p.write_text('ok'); p.chmod(0o600); p.touch(); print(len(p.rename('q').read_text()))",
        "import tarfile, zipfile\nopen('a', 'w').write('ok')\nwith zipfile.ZipFile('z', 'w') as z: z.write('a')\n"
        "zipfile.ZipFile('z').extractall('b')\nwith tarfile.open('t', 'w:gz') as t: t.add('b')\n"
        "tarfile.open('t').extractall('c'); print(len(open('c/b/a').read()))",
        "import sqlite3\nc = sqlite3.connect('db'); c.execute('create table t (x)'); c.execute('insert into t values (2)')\n"
        "c.commit(); print(*c.execute('select x from t').fetchone())",
        "import asyncio\nasync def two(): await asyncio.sleep(0.01); return 2\nprint(asyncio.run(two()))",
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as e: print(*e.map(abs, [-2]))",
        "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'print(2)'], capture_output=True, text=True).stdout)",
        "import multiprocessing as m\np = m.get_context('fork').Process(target=print, args=(2,)); p.start(); p.join()",
        "import numpy\nnumpy.save('a.npy', numpy.ones((500, 500)) @ numpy.ones((500, 500))); print(int(numpy.load('a.npy')[0, 0] / 250))",
        "import matplotlib; matplotlib.use('Agg')\nimport matplotlib.pyplot as p\np.plot([1]); p.savefig('a.png'); print(2)",
        "import pandas\npandas.DataFrame({'a': [1, 1]}).to_csv('a.csv'); print(pandas.read_csv('a.csv').a.sum())",
        "import sympy; print(sympy.Matrix([[2]]).det())",
        "import zoneinfo; print(len(str(zoneinfo.ZoneInfo('UTC'))) - 1)",
        "import platform, os\nos.path.expanduser('~') == os.getcwd() and platform.machine() and 2",
    ],
)
def test_ordinary_programs_go_on(python, code):
    output = replace(python, timeout_s=20.0).run(code)
    if "ModuleNotFoundError" in output.text:
        pytest.skip(output.text.strip())
    assert (output.status, output.text.strip()) == ("ok", "2"), output.text


def test_blocks_are_apart_and_in_order(python):
    codes = [f"import os, time\ntime.sleep({0.2 - 0.05 * n})\nprint({n}, sorted(os.listdir()))" for n in range(4)]
    assert [o.text.strip() for o in python.map(codes)] == [f"{n} ['block.py']" for n in range(4)]


def test_a_block_sees_the_same_every_time(python):
    """Folder, user, process ids, names, orders: nothing that another block, another time or a neighbour changes."""
    code = (
        "import os, sys, tempfile\n"
        "print(os.getcwd(), os.getresuid(), os.getpid(), os.getppid(), os.uname().nodename, sorted(os.environ.items()))\n"
        "print(set('abcdefgh'), sys.argv, sys.path, sorted(sys.modules), tempfile.gettempdir(), os.stat('.').st_uid)"
    )
    outputs = replace(python, timeout_s=10.0).map([code] * 3)
    assert {output.status for output in outputs} == {"ok"}
    assert len({output.text for output in outputs}) == 1
    assert str(ROOT) not in outputs[0].text.replace(sys.prefix, "")
    assert "grouprl" not in outputs[0].text.replace(sys.prefix, "")


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks(python, name):
    """Each attack of `grouprl.sandbox.attacks` is really tried, and none gets through."""
    (outcome,) = trial.outcomes(replace(python, timeout_s=1.0), {name: ATTACKS[name]})
    assert outcome.stopped, outcome.how


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("10 GB of memory", "MemoryError"),
        ("memory of many processes", "7"),
        ("a million files", "OSError: [Errno 28] No space left on device: '4094'"),
        ("many files of 16 MB", "OSError: [Errno 28] No space left on device"),
        ("a file of 1 GB", "OSError: [Errno 27] File too large"),
        ("a unix socket", "PermissionError: [Errno 1] Operation not permitted"),
        ("endless output", "killed after 64 KiB"),
        ("endless sleep", "killed after its time"),
        ("killing its parent", "still there"),
        ("memory in corners of huge pages", "small pages"),
    ],
)
def test_how_attacks_are_stopped(python, name, how):
    (outcome,) = trial.outcomes(python, {name: ATTACKS[name]})
    assert outcome.how == how


@pytest.mark.parametrize(
    "attack",
    [
        "print('BREACH')",
        "open({secret}, 'a').write('x')",
        "import os; os.chmod({secret}, 0o600)",
        "import os; os.utime({folder}, (1, 1))",
        "open({breach}, 'w')",
        "import os, time\nif os.fork() == 0: os.close(1); os.setsid(); time.sleep(1000)",
    ],
)
def test_an_attack_that_gets_through_is_seen(monkeypatch, attack):
    """With a runner that confines nothing, every kind of harm that the trial looks for is found."""

    def run(self, code):
        output = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
        return trial.ToolOutput(output, "ok", 0.0)

    monkeypatch.setattr(Sandbox, "run", run)
    (outcome,) = trial.outcomes(Sandbox(), {"none": attack})
    assert not outcome.stopped


@pytest.mark.parametrize("missing", WITHOUT)
def test_one_line_of_defence_alone_keeps_files_as_they_are(python, changed_jail, missing):
    changed_jail(*WITHOUT[missing])
    needs_seccomp = {"calls newer than the filter", "the attributes of a file"}  # of a file in the block's own folder
    attacks = {name: code for name, code in WRITING.items() if missing != "seccomp" or name not in needs_seccomp}
    assert {o.name: o.how for o in trial.outcomes(python, attacks) if not o.stopped} == {}


STARTS = "import os, sys\nfrom grouprl.sandbox.sandbox import Sandbox, SandboxError\nfrom grouprl.sandbox.trial import descendants\n"


def run_python(code, **options):
    return subprocess.run(
        [sys.executable, "-c", STARTS + code], check=False, capture_output=True, text=True, timeout=120, **options
    )


def test_what_a_block_started_is_gone_when_its_caller_is_killed(python):
    code = f"Sandbox(timeout_s=60.0).run({DETACHED + '    time.sleep(1000)' + chr(10) + 'time.sleep(1000)'!r})"
    with nothing_left() as started:
        caller = subprocess.Popen([sys.executable, "-c", STARTS + code])
        wait_until(lambda: len(started()) >= 5)  # caller, keeper, init, block, its grandchild
        caller.kill()
        caller.wait()
        wait_until(lambda: not started())
        assert not started()


@contextmanager
def nothing_left():
    """Gives what descends from this process since now, and ends it where a test has failed."""
    with trial.adopted_orphans():
        before = trial.descendants()
        try:
            yield lambda: trial.descendants() - before
        finally:
            trial.end(trial.descendants() - before)


def wait_until(happened):
    for _ in range(400):
        if happened():
            return
        time.sleep(0.05)


def test_what_a_block_started_is_gone_when_its_run_is_interrupted(python, monkeypatch):
    with nothing_left() as started:

        def interrupted(self, seconds, most):
            wait_until(lambda: len(started()) >= 4)
            raise KeyboardInterrupt

        monkeypatch.setattr(process.BlockProcess, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            python.run(f"{DETACHED}    time.sleep(1000)\ntime.sleep(1000)")
        assert not started()


def test_a_block_leaves_no_file(python, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for code in (ATTACKS["1,500 nested folders"], ATTACKS["a folder that may not be entered"], "while True: pass"):
        python.run(code)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("extra", "status"), [(0, "ok"), (1, "error")])
def test_a_block_that_writes_too_much_has_failed_whatever_came_first(python, extra, status):
    output = replace(python, max_output=1_000).run(f"import sys; _ = sys.stdout.write('x' * {1_000 + extra})")
    assert (output.text, output.status) == ("x" * 1_000, status)


def test_many_open_descriptors(python):
    """Beyond 1,023, which select() cannot hear."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 1_500:
        pytest.skip(f"at most {hard} descriptors on this machine")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1_500), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
    try:
        assert [output.text.strip() for output in python.map(["1 + 1", "print(2)"])] == ["2", "2"]
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


COUNT = "import os, time\nn = 0\nwhile True:\n    try:\n        if os.fork() == 0: time.sleep(9)\n        n += 1\n    except OSError: break\ntime.sleep(1)\nprint(n)"


def test_a_neighbour_takes_none_of_a_blocks_processes(python):
    """Runs of two processes, whose blocks both start as many processes as they may."""
    code = f"print(*[o.text.strip() for o in Sandbox(timeout_s=20.0).map([{COUNT!r}] * 2)])"
    outputs = []
    threads = [threading.Thread(target=lambda: outputs.append(run_python(code).stdout.strip())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == ["7 7", "7 7"]


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_root_without_a_capability(python, capability):
    """Where it can do without, it does; otherwise one line says what is needed."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    block = f"{DETACHED}    time.sleep(1000)\nwhile True: pass"
    code = (
        f"try: print(Sandbox(timeout_s=0.5).run({block!r}).status, len(descendants()))\n"
        "except SandboxError as error: print(error)"
    )
    drop = f"import ctypes; ctypes.CDLL(None).prctl(24, {CAPABILITIES[capability]}, 0, 0, 0)\n"  # PR_CAPBSET_DROP
    again = f"os.execv(sys.executable, [sys.executable, '-c', {STARTS + code!r}])"
    done = run_python(drop + again)
    assert done.stderr == ""
    if capability in ("SETUID", "SETGID", "SYS_ADMIN"):
        (line,) = done.stdout.splitlines()
        assert re.match(
            r"the sandbox cannot be enforced on this machine: .*root the capabilities SYS_ADMIN, SETUID and", line
        )
    else:
        assert done.stdout.strip() == "timeout 0"


def test_what_a_caller_hands_down_does_not_come_to_a_block(python):
    """A mode for new files that nobody else may read, signals that are ignored or held back, a folder that is gone."""
    caller = (
        "import signal, tempfile\nos.umask(0o077)\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "folder = tempfile.mkdtemp(); os.chdir(folder); os.rmdir(folder); os.environ['TMPDIR'] = folder\n"
    )
    block = "import os, signal, decimal\nprint(signal.getsignal(1), signal.pthread_sigmask(0, []), os.umask(0))"
    done = run_python(f"{caller}print(Sandbox(timeout_s=9.0).run({block!r}).text.strip())")
    assert (done.stdout.strip(), done.stderr) == ("0 set() 18", "")


def test_limits_that_are_lower_already_are_kept_and_said(python):
    lower = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({2**20}, {2**20}))\n"
    code = "print(Sandbox(timeout_s=9.0).run(\"f = open('a', 'wb'); f.write(bytes(2**21)); f.flush()\").text.strip())"
    done = run_python(lower + code)
    assert done.stdout.strip() == "OSError: [Errno 27] File too large"
    assert done.stderr.strip().endswith("by limits of this process: file size 1048576 instead of 16777216")
    assert len(done.stderr.splitlines()) == 1


def test_the_documented_attacks_are_those_that_are_tried():
    text = (ROOT / "docs" / "tools.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| (yes|NO) \| (yes|NO) \| `.+` \|$", text, re.MULTILINE)
    assert [name for name, *_ in rows] == list(ATTACKS)
    assert {stopped for _, *both in rows for stopped in both} == {"yes"}


def ordinary_python():
    """An interpreter that another user may run, or None."""
    for name in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        try:
            done = subprocess.run(
                [name, "-c", "import sys; assert sys.version_info >= (3, 10)"], check=False, user=OTHER
            )
        except OSError:
            continue
        if done.returncode == 0:
            return name
    return None


OTHER = 65_533


@pytest.mark.slow
def test_attacks_of_an_ordinary_user(python):
    """The same list as another user than root, with a user namespace that anybody may make."""
    if os.geteuid() != 0 or (interpreter := ordinary_python()) is None:
        pytest.skip("needs root, and an interpreter that another user may run")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copytree(process.SOURCE / "grouprl", f"{folder}/grouprl", ignore=shutil.ignore_patterns("*.safetensors"))
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
        done = subprocess.run(
            [interpreter, "-B", "-m", "grouprl.sandbox"],
            check=False, capture_output=True, text=True, cwd="/", user=OTHER, group=OTHER, extra_groups=[],
            env={"PYTHONPATH": folder, "PATH": os.defpath},
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("| yes |") == len(ATTACKS)
    assert "| NO |" not in done.stdout
