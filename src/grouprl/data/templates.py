"""Chat templates: programs that come with a tokenizer, tried once in a process of their own before they are used."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, TemplateError, meta

from grouprl.answers.process import JsonProcess, end_with_parent, limit_memory
from grouprl.data import tiny

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

START_TIMEOUT_S, TIMEOUT_S = 60.0, 10.0
"""Seconds to start the process, which imports transformers, and to write the trial's texts."""
SLOWEST_S, LONGEST, MEMORY_MB = 1.0, 1_000_000, 1024
"""Processor time and characters of one text at most, and memory of the process."""
LONGEST_END = 200
"""Characters after an answer that are looked at."""
_FILLING = " and what is left of it, if a half is taken away from it again" * 8
QUESTIONS = tuple(f"{first} What is three times four{_FILLING}? {last}" for first, last in ("AA", "AB", "BA"))
"""Three questions; each differs from each other at the start or at the end alone."""
ANSWER, NEXT = "Twelve", "And if it is doubled?"
"""An answer to one of them, and what is asked then."""
_SAME = "writes the same for different questions"
SYSTEMS = ("Answer in one word.", "Show all steps.")
DATE = date(2025, 1, 1)
"""What a template that asks for today's date is told: the same on every day, or a run that is taken up on another day,
and arms of a study that ends on another, would be asked something else."""


@dataclass(frozen=True)
class ChatTemplate:
    """What a trial found of a template."""

    takes_system: bool
    """Whether a system message changes what it writes."""
    turn_end: str = ""
    """What it writes after an assistant's answer."""
    takes_parts: bool = False
    """Whether a message's content is a list of parts, as of models that see images, and a text is not written."""

    def message(self, role: str, text: str) -> dict[str, Any]:
        """A message as the template takes it."""
        return {"role": role, "content": [{"type": "text", "text": text}] if self.takes_parts else text}


def chat_template(template: str, special_tokens: Mapping[str, str], name: str) -> ChatTemplate:
    """Try a template.

    Args:
        template: The template.
        special_tokens: Of its tokenizer.
        name: What messages call the tokenizer.

    Raises:
        ValueError: It cannot be written with, takes too long, or writes the same for different questions.
    """
    if template in _shipped():
        return ChatTemplate(takes_system=True, turn_end="<|im_end|>")
    found = _tried(template, json.dumps(dict(special_tokens), sort_keys=True, default=str))
    if isinstance(found, str):
        raise ValueError(f"{name}: its chat template {found}. Mend it (chat_template), or use prompt.style=plain.")
    return found


@lru_cache(maxsize=16)
def _tried(template: str, special_tokens: str) -> ChatTemplate | str:
    """What a trial found, or what is wrong."""
    found = _trial(template, special_tokens, takes_parts=False)
    with_parts = _trial(template, special_tokens, takes_parts=True) if found == _SAME else found
    return with_parts if isinstance(with_parts, ChatTemplate) else found


def _trial(template: str, special_tokens: str, *, takes_parts: bool) -> ChatTemplate | str:
    message = ChatTemplate(True, takes_parts=takes_parts).message
    chats = [[message("user", question)] for question in QUESTIONS]
    chats += [[message("system", system), *chats[0]] for system in SYSTEMS]
    answered = [*chats[0], message("assistant", ANSWER)]
    chats += [answered, [*answered, message("user", NEXT)]]
    try:
        written = _written(template, json.loads(special_tokens), chats)
    except TimeoutError:
        return f"does not end within {TIMEOUT_S:g} s for {len(chats)} short questions"
    except (OSError, EOFError):
        return f"ends the process that tries it (which has {MEMORY_MB} MiB of memory)"
    asked, told, ends = written[: len(QUESTIONS)], written[len(QUESTIONS) : -2], written[-2:]
    for text in asked:
        if "error" in text:
            return f"fails on a question ({text['error']})"
        if text["seconds"] > SLOWEST_S:
            return f"takes {text['seconds']:.1f} s of a processor for one question"
        if text["length"] > LONGEST:
            return f"writes {text['length']} characters for one question"
    if len({text["digest"] for text in asked}) < len(QUESTIONS):
        return _SAME
    systems = {text.get("digest") for text in (*told, asked[0])}
    takes_system = None not in systems and len(systems) == len(SYSTEMS) + 1
    turn_end = next((end["turn_end"] for end in ends if end.get("turn_end", "").strip()), "")
    return ChatTemplate(takes_system, turn_end, takes_parts)


def with_date(template: str) -> str:
    """A template that is told `DATE` where it asks for today's date (``strftime_now``), and as it is elsewhere."""
    if "strftime_now" not in template:
        return template
    fields = "".join(f".replace('%{name}', '{DATE.strftime('%' + name)}')" for name in "FDTRYyBbmAadejHIMSpXx")
    macro = f"{{% macro strftime_now(format) %}}{{{{ format.replace('%-', '%'){fields} }}}}{{% endmacro %}}"
    return macro + template


def with_arguments(template: str, arguments: Mapping[str, Any]) -> str:
    """A template that has values for names it asks for, as ``enable_thinking``: wherever it is taken, it writes so.

    Raises:
        ValueError: The template does not ask for a name.
    """
    asked = _names_of(template)
    for name in arguments:
        if not name.isidentifier() or name not in asked:
            raise ValueError(f"chat_template_kwargs.{name}: the chat template does not ask for it.")
    # transformers drops the line end after a block.
    return "".join(f"{{% set {name} = {value!r} %}}\n" for name, value in arguments.items()) + template


def _names_of(template: str) -> set[str]:
    """Names that a template asks for and does not give itself; all words in it where it cannot be read here."""
    given_before = set(re.findall(r"^\{% set (\w+) = ", template, re.MULTILINE))  # by `with_arguments`
    try:
        parsed = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(template)
        return given_before | meta.find_undeclared_variables(parsed)
    except (TemplateError, RecursionError):  # a tag that transformers alone knows
        return given_before | set(re.findall(r"\w+", template))


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that a tokenizer's template writes after an assistant's answer, None where that is none of its own.

    A model that was taught with the template ends its turns with it, whatever its configuration calls the end of a
    sequence: a base model's end, say, beside a template that was put to it later.
    """
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return None
    name = f"the tokenizer {tokenizer.name_or_path}".strip()
    try:
        found = chat_template(with_date(tokenizer.get_chat_template()), tokenizer.special_tokens_map, name)
    except ValueError:  # who asks for chats is told
        return None
    ids = tokenizer(found.turn_end.lstrip(), add_special_tokens=False)["input_ids"]
    own = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return ids[0] if ids and ids[0] in own else None


@lru_cache(maxsize=1)
def _shipped() -> tuple[str, ...]:
    """The templates of the policies that come with this package."""
    return tuple(file.read_text() for file in Path(tiny.__file__).parent.glob("*/chat_template.jinja"))


def _written(template: str, special_tokens: Mapping[str, str], chats: Sequence[Any]) -> list[dict[str, Any]]:
    """Of each chat the digest, length and time of its text, or its error, by a process that is killed afterwards."""
    process = JsonProcess([sys.executable, "-m", "grouprl.data.templates"], os.environ)
    try:
        process.wait_for_line(START_TIMEOUT_S)  # it has imported transformers
        return process.exchange({"template": template, "special_tokens": special_tokens, "chats": chats}, TIMEOUT_S)
    finally:
        process.kill()


def _work() -> None:
    """What the process does: write as transformers does, which is imported before memory is limited."""
    from transformers.utils.chat_template_utils import render_jinja_template

    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def say(answer: Any) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    end_with_parent()
    limit_memory(MEMORY_MB, beyond_use=True)
    say("ready")
    asked = json.loads(sys.stdin.buffer.readline())
    options = {"chat_template": asked["template"], **asked["special_tokens"]}

    def write(chat: Any) -> dict[str, Any]:
        started, goes_on = time.process_time(), chat[-1]["role"] == "user"
        try:
            text = render_jinja_template(conversations=[chat], add_generation_prompt=goes_on, **options)[0][0]
        except Exception as error:  # noqa: BLE001 - a template can raise anything; it is told to the run
            return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
        seconds = time.process_time() - started
        if "'type': 'text'" in text:
            return {"error": "it writes a list of parts as Python does"}
        told = {"digest": hashlib.sha256(text.encode()).hexdigest(), "length": len(text), "seconds": seconds}
        return told | {"turn_end": text.rpartition(ANSWER)[2].partition(NEXT)[0][:LONGEST_END]}

    found: list[dict[str, Any]] = []
    for chat in asked["chats"]:
        if not found or found[-1].get("seconds", 0.0) <= SLOWEST_S:  # else the trial is over
            found.append(write(chat))
    say(found)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        _work()
