"""The chat templates that TRL's package carries (optional group ``oracle``): rendered, and where an answer ends in them.

Its templates for training mark what the assistant writes, an answer's end included.
"""

import importlib.util
import re
from pathlib import Path

import pytest
from helpers.models import bpe_tokenizer

from grouprl.data.prompts import render
from grouprl.data.templates import end_of_turn

SPEC = importlib.util.find_spec("trl")
FOLDER = Path(SPEC.origin).parent / "chat_templates" if SPEC is not None else None
NAMES = sorted(file.stem for file in FOLDER.glob("*.jinja")) if FOLDER is not None else []
pytestmark = pytest.mark.skipif(not NAMES, reason='TRL\'s templates are not here: pip install "grouprl[oracle]"')
SPECIAL = re.compile(r"<\|[\w .-]+\|>|<\|[\w.-]+>|<[\w.-]+\|>|<[a-z_]+>|<｜[^｜>]+｜>|\[/?[A-Z_]+\]")
SEEING = ("idefics3", "llava", "smolvlm")
"""Beginnings of the names of those whose messages are lists of parts."""
QUESTION, ANSWER = "What is 1 + 1?", "It is 2."


@pytest.fixture
def tokenizer(name):
    """One whose special tokens are those that the template writes."""
    template = (FOLDER / f"{name}.jinja").read_text()
    tokenizer = bpe_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(set(SPECIAL.findall(template)))})
    tokenizer.chat_template, tokenizer.name_or_path = template, name
    return tokenizer


@pytest.mark.parametrize("name", NAMES)
def test_questions_are_rendered_with_a_system_message_and_without(tokenizer, name):
    plain, told = (render(tokenizer, QUESTION, system=system) for system in (None, "Be brief."))
    assert plain.count(QUESTION) == told.count(QUESTION) == 1
    assert ("Be brief." in plain, "Be brief." in told) == (False, True)
    assert told.index("Be brief.") < told.index(QUESTION)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_training")])
def test_an_answer_ends_where_what_the_assistant_writes_ends(tokenizer, name):
    written = written_by_the_assistant(tokenizer)
    (length, *_) = [n for n in range(len(written) + 1) if ANSWER in tokenizer.decode(written[:n])]
    marks = [token for token in written[length:] if token in tokenizer.added_tokens_decoder]
    end = end_of_turn(tokenizer)
    if marks:
        assert end == marks[0]
    else:
        assert end is None or end not in written  # the next turn's mark, or the end of sequence alone


def written_by_the_assistant(tokenizer):
    """Tokens that the template marks as the assistant's."""
    in_parts = tokenizer.name_or_path.startswith(SEEING)
    turns = [
        {"role": role, "content": [{"type": "text", "text": text}] if in_parts else text}
        for role, text in (("user", QUESTION), ("assistant", ANSWER))
    ]
    found = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    return [token for token, own in zip(found["input_ids"], found["assistant_masks"], strict=True) if own]
