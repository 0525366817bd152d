"""What several packages check."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from grouprl.checks import differing, refusal

NAMES = ["mine.py", "d/a-b.jsonl", "my data.jsonl", "données.jsonl", "mes données.jsonl", "a&b.jsonl", "a#b;c.jsonl"]
NAMES += [
    "it's.jsonl",
    'say "x".jsonl',
    "1e3",
    "null",
    "true",
    "x\\y.jsonl",
    "a,b",
    "[a]",
    "$HOME",
    "tr~1",
    "a=b",
    "{a}",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_option_that_is_printed_accepts_what_it_names(name):
    text = refusal("here", [name, "other"], ["before.py"], "Start anew")
    typed = text.rpartition("accept that: ")[2]
    (option,) = shlex.split(typed)
    assert OverridesParser.create().parse_override(option).value() == ["before.py", name, "other"]


def test_what_is_accepted_is_not_refused():
    assert refusal("here", ["a", "b"], ["a", "b"], "Start anew") is None
    assert "here: b changed since. Start anew, or" in refusal("here", ["a", "b"], ["a"], "Start anew")
    assert differing({"a": 1, "b": 2}, {"b": 3, "c": 4}) == ["a", "b", "c"]
