"""The sandbox that runs a policy's code, the text protocol, and tool use while sampling and training."""

import os
from dataclasses import replace

import pytest

from grouprl.tools import (
    Sandbox,
    SandboxError,
    ToolOutput,
    attacks,
    output_text,
    pending_code,
    sandbox,
    shorten,
)


@pytest.fixture(scope="module")
def python():
    try:
        Sandbox().check()
    except SandboxError as error:
        pytest.skip(f"no sandbox on this machine: {error}")
    return Sandbox(timeout_s=2.0)


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
        ("", "ok", ""),
    ],
)
def test_a_block(python, code, status, text):
    output = replace(python, timeout_s=10.0).run(code)
    assert (output.status, output.text.strip()) == (status, text)


def test_blocks_are_apart_and_in_order(python):
    codes = [f"import os, time\ntime.sleep({0.2 - 0.05 * n})\nprint({n}, sorted(os.listdir()))" for n in range(4)]
    assert [o.text.strip() for o in python.map(codes)] == [f"{n} ['block.py']" for n in range(4)]


def test_attacks(python):
    """Each attack of `grouprl.tools.attacks` is really tried, and none gets through."""
    found = {outcome.name: outcome for outcome in attacks.outcomes(python)}
    assert found.keys() == attacks.ATTACKS.keys()
    assert {name: outcome.how for name, outcome in found.items() if not outcome.stopped} == {}
    assert max(outcome.seconds for outcome in found.values()) < 2 * python.timeout_s
    assert "MemoryError" in found["10 GB of memory"].how
    assert "Permission" in found["reading a file of the caller"].how
    assert "not permitted" in found["a unix socket"].how


def test_an_attack_that_gets_through_is_seen(python, monkeypatch):
    monkeypatch.setattr(attacks, "ATTACKS", {"none": "print('BREACH')"})
    (outcome,) = attacks.outcomes(python)
    assert not outcome.stopped


def test_a_machine_that_cannot_confine_is_refused(python, monkeypatch, caplog, tmp_path):
    jail = sandbox._JAIL.read_text()
    assert "def block_calls() -> None:" in jail
    broken = tmp_path / "jail.py"
    broken.write_text(jail.replace("    if platform.machine() not in _BLOCKED:", "    if True:"))
    os.chmod(tmp_path, 0o755)
    monkeypatch.setattr(sandbox, "_JAIL", broken)
    with pytest.raises(SandboxError, match=r"no sockets \(seccomp\).*allow_unsandboxed=true"):
        Sandbox().run("1")
    assert Sandbox(allow_unsandboxed=True).run("1").text.strip() == "1"
    assert "runs without: no sockets (seccomp)" in caplog.text


def test_the_protocol():
    text = "First\n```python\nx = 1\n```\nthen\n```python\nprint(2)\n```\n```output"
    assert pending_code(text) == "print(2)"
    assert pending_code("no code ```output") is None
    assert pending_code("```python\n1\n```") is None
    assert output_text(ToolOutput(" 2\n", "ok", 0.1)) == "\n2\n```\n"
    assert shorten("a" * 200 + "b" * 50 + "c" * 200) == "a" * 200 + "..." + "c" * 200
    assert shorten("abc") == "abc"


class Scripted:
    """A policy's stand-in for the tools: the sandbox itself is tested above."""

    def __init__(self):
        self.codes = []

    def map(self, codes):
        self.codes += codes
        return [ToolOutput("42", "ok", 0.0) for _ in codes]
