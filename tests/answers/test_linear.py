"""Reading takes time in proportion to a text's length, whatever the text, and no depth of nesting is too much."""

import ast
import contextlib
import importlib
import os
import re
import subprocess
import sys

import pytest
from helpers.paths import ROOT
from helpers.regex_growth import growth

from grouprl.answers.extraction import last_box
from grouprl.answers.grading import grade
from grouprl.answers.reading import structure
from grouprl.answers.reading.latex import MAX_TOKENS, parse
from grouprl.answers.reading.tokens import UnreadableError, tokenize
from grouprl.answers.text import as_number, nfkc, tidy
from grouprl.answers.units import split_unit

SOURCE = ROOT / "src" / "grouprl"
TYPED_BY_USERS = "cli"
"""The package whose patterns read command lines and messages, and nothing a policy wrote."""
SLOW_TO_IMPORT = ("runtime", "training")
"""Packages whose patterns are taken from their source alone."""
LIMIT_S = 120
"""For all long texts together, which take a few seconds where reading is linear and days where it is quadratic."""


@pytest.mark.slow
def test_long_texts_are_read_to_the_end():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), *sys.path])}
    command = [sys.executable, "-m", "helpers.long_texts"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"no end of: {(error.stdout or b'').decode().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout.splitlines()[-1] + done.stderr


def patterns_of(file):
    """Patterns of a module with their flags and whether they are for whole texts alone, by where they are."""
    parts, source = file.relative_to(SOURCE.parent).with_suffix("").parts, file.read_text()
    values = {} if parts[1] in SLOW_TO_IMPORT else vars(importlib.import_module(".".join(parts)))
    found = {}

    def collect(name, value):
        if isinstance(value, re.Pattern):
            uses = set(re.findall(rf"\b{name.partition('[')[0]}\.(\w+)", source))
            found[name] = (value.pattern, value.flags & (re.I | re.M | re.S), uses == {"fullmatch"})
        elif isinstance(value, (tuple, list)):
            for place, item in enumerate(value):
                collect(f"{name}[{place}]", item)

    for name, value in values.items():
        collect(name, value)
    compiled = {pattern for pattern, _, _ in found.values()}
    for node in ast.walk(ast.parse(source)):
        called = isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.") and node.args
        if called and isinstance(node.args[0], ast.Constant) and node.args[0].value not in compiled:
            found[f"line {node.lineno}"] = (node.args[0].value, 0, node.func.attr == "fullmatch")
    return found


def test_no_pattern_reads_a_place_from_many_others():
    files = [path for path in sorted(SOURCE.rglob("*.py")) if re.search(r"^import re$", path.read_text(), re.MULTILINE)]
    read = {
        f"{file.relative_to(SOURCE)} {name}": pattern
        for file in files
        if TYPED_BY_USERS not in file.parts
        for name, pattern in patterns_of(file).items()
    }
    assert len(read) > 60
    assert any(whole for _, _, whole in read.values())
    grown = {name: growth(pattern, flags, whole=whole) for name, (pattern, flags, whole) in read.items()}
    assert {name: why for name, why in grown.items() if why} == {}


@pytest.mark.parametrize(
    ("pattern", "whole", "kind"),
    [
        (r"\s+$", False, "polynomial"),
        (r"(?<!\s)\s+$", False, None),
        (r"\s*,?\s*x", True, "polynomial"),
        (r"\s*(?:,\s*)?x", True, None),
        (r"(?m)^\W*x", False, "polynomial"),
        (r"(?m)^\W*(x)?", False, None),
        (r"\(.+?\)", False, "polynomial"),
        (r"\([^()]+\)", False, None),
        (r"(?:\s*,?\s*[A-J])*x", True, "exponential"),
        (r"(?:a*)*b", False, "exponential"),
        (r"(?:a|ab|b)*c", False, "exponential"),
        (r"x*y*z", False, "polynomial"),
        (r"x*y*", False, None),
        (r"a+b|a", False, "polynomial"),
        (r"ax(?:.*b)?", False, "polynomial"),
        (r"(?i)x+Xy", True, None),
        (r"(?i)x+X+y", True, "polynomial"),
        (r"\d+(?:\.\d+)?", False, None),
    ],
)
def test_patterns_that_grow_are_told_from_those_that_do_not(pattern, whole, kind):
    assert str(growth(pattern, whole=whole)).partition(":")[0] == str(kind)


DEPTH = 10**5


@pytest.mark.parametrize(
    "text",
    [
        "{" * DEPTH, "(" * DEPTH, "{" * DEPTH + "1" + "}" * DEPTH, "(" * DEPTH + "1" + ")" * DEPTH, "[(" * DEPTH,
        r"\frac" * DEPTH, r"\frac{" * DEPTH, r"\sqrt" * DEPTH + "2", r"\sqrt{" * DEPTH + "2" + "}" * DEPTH, r"\left(" * DEPTH,
        "-+" * DEPTH + "1", r"\pm" * DEPTH + "1", "|" * DEPTH, r"\sin" * DEPTH + "x", r"\ln " * DEPTH + "x", "x^" * DEPTH + "2",
        r"\{" * DEPTH, r"\begin{pmatrix}" * DEPTH, "_" * DEPTH, r"\lfloor" * DEPTH,
    ],
)  # fmt: skip
def test_no_nesting_is_too_deep(text):
    """It is refused, as an answer and at every step of reading it."""
    assert grade(rf"\boxed{{{text}}}", "x+1").correct is False
    assert last_box(text) is None
    with pytest.raises(UnreadableError):
        structure.read(tidy(text))
    with pytest.raises(UnreadableError):
        parse(tokenize(text[: DEPTH // 2]))
    with contextlib.suppress(UnreadableError):
        parse(tokenize(text[:5_000])[:MAX_TOKENS])
    for short in (text[:380], text[:390:-1][:380]):  # within the longest answer that is read at all
        verdict = grade(short, "x+1", extraction="none")
        assert (verdict.correct, verdict.rule == "RecursionError") == (False, False), verdict


def test_what_is_nested_as_people_write_is_read():
    assert parse(tokenize(r"--+-\sqrt\sqrt{16}")) == -2
    assert parse(tokenize(r"\ln\ln\sin x")) == parse(tokenize(r"\ln(\ln(\sin(x)))"))
    assert parse(tokenize("x\\pm-y"), sign=-1) == parse(tokenize("x+y"))


def test_a_fraction_in_short_form_after_a_number_is_read_once():
    """A mixed number where it can be one, a product elsewhere; the second try finds the digits as the first did."""
    assert grade(r"\boxed{3\frac12}", "3.5").correct
    assert grade(r"\boxed{3\frac32}", "4.5").correct
    assert not grade(r"\boxed{3\frac32}", "9").correct
    assert parse(tokenize(r"2\frac32\frac12")) == parse(tokenize("3/2"))


@pytest.mark.parametrize(
    ("text", "bare", "unit"),
    [
        (r"5\text{ cm}", "5", "cm"),
        (r"5 \text{ cm}^2", "5", "cm^2"),
        (r"5 \mathrm{cm} ^{ 3 }", "5", "cm^3"),
        (r"5\text{m}/\text{s}", "5", "m s^-1"),
        (r"5 \text{cm} \mathrm{ }", "5", "cm"),
        (r"5\mbox{ cm}\text{}", "5", "cm"),
        (r"5\text{x}\mbox{cm}", r"5\text{x}", "cm"),
        (r"\text{cm}", r"\text{cm}", ""),
        (r"(\text{cm}", r"(\text{cm}", ""),
        (r"(\text{a} \text{cm}", r"(\text{a}", "cm"),
        (r"5\text{ or }", r"5\text{ or }", ""),
        (r"5\text{cm}!", r"5\text{cm}!", ""),
        (r"5\text{{cm}}", r"5\text{{cm}}", ""),
    ],
)
def test_units_are_the_commands_at_the_end(text, bare, unit):
    assert split_unit(text) == (bare, unit)


def test_numbers_and_marks_keep_their_meaning():
    assert as_number(r"-\frac{12}{8}") == -1.5
    assert as_number("1" * 401) is as_number(r"\frac{" + "1" * 5_000 + "}{2}") is None
    assert nfkc("e\u0301 ﬁ １") == "é fi 1"
    assert nfkc("a" + "\u0315\u0300" * 15) == "à" + "\u0300" * 14 + "\u0315" * 15
    assert nfkc("x" + "\u0300" * 100 + "y") == "x" + "\u0300" * 30 + "y"
