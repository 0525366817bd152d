"""From problems to prompt tokens: the model's chat template where it has one, a plain template elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase

from grouprl.batch import Prompts
from grouprl.checks import say_once
from grouprl.data.exemplars import Exemplar
from grouprl.data.rows import Problem
from grouprl.data.templates import chat_template, end_of_turn, with_date

PromptStyle = Literal["auto", "chat", "plain"]
_CHARACTERS = 16
"""Characters for each token that a prompt can have: a text of more is encoded from its beginning."""


def render(
    tokenizer: PreTrainedTokenizerBase,
    problem: str,
    *,
    style: PromptStyle = "auto",
    system: str | None = None,
    exemplars: Sequence[Exemplar] = (),
) -> str:
    """The text a policy is given for a problem.

    Args:
        tokenizer: The policy's tokenizer.
        problem: The problem text.
        style: ``chat``: the tokenizer's chat template, which it must have; ``plain``: ``Question: ...`` and
            ``Answer:``; ``auto``: chat where there is a template.
        system: System message (with ``plain``: the first line; of a template that has no place for it: before the
            problem).
        exemplars: Worked examples before it: as turns of the chat, or with ``plain`` in the same form, a blank line
            after each.

    Raises:
        ValueError: There is no chat template, or it cannot be used (see `grouprl.data.templates.chat_template`).
    """
    template = getattr(tokenizer, "chat_template", None)
    if style == "chat" and not template:
        raise ValueError("prompt.style=chat, but the tokenizer has no chat template. Use prompt.style=plain.")
    if style == "plain" or not template:
        head = f"{system}\n\n" if system else ""
        solved = "".join(f"Question: {shot.problem}\nAnswer: {shot.boxed}\n\n" for shot in exemplars)
        return f"{head}{solved}Question: {problem}\nAnswer:"
    name = f"the tokenizer {tokenizer.name_or_path}".strip()
    template = with_date(_written(name, tokenizer.get_chat_template))
    found = chat_template(template, tokenizer.special_tokens_map, name)
    turns = [(shot.problem, shot.boxed) for shot in exemplars] + [(problem, "")]
    if system and not found.takes_system:
        turns[0] = f"{system}\n\n{turns[0][0]}", turns[0][1]
        system = None
    messages = [found.message("system", system)] if system else []
    for asked, answered in turns:
        messages.append(found.message("user", asked))
        messages += [found.message("assistant", answered)] if answered else []
    given: dict[str, Any] = {"chat_template": template, "add_generation_prompt": True, "tokenize": False}
    return _written(name, lambda: tokenizer.apply_chat_template(messages, **given))


def _written(name: str, write: Callable[[], Any]) -> str:
    """What a chat template writes, or a `ValueError` with the tokenizer's name: a template can raise anything."""
    try:
        return write()
    except Exception as error:  # noqa: BLE001 - a template can make jinja raise anything
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ValueError(f"{name}: its chat template cannot be used ({text}).") from None


def encode(
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    *,
    indices: Sequence[int] | None = None,
    iteration: int = 0,
    style: PromptStyle = "auto",
    system: str | None = None,
    exemplars: Sequence[Exemplar] = (),
    most_tokens: int | None = None,
) -> Prompts:
    """Encode problems as `Prompts`.

    Args:
        tokenizer: The policy's tokenizer.
        problems: The problems.
        indices: Global index of each; None: their place.
        iteration: RL iteration they are for.
        style: As for `render`.
        system: As for `render`.
        exemplars: As for `render`.
        most_tokens: Tokens that a prompt can have: of a longer one as much is encoded as shows that it has more.
    """
    results = tuple(problem.intermediate for problem in problems)
    texts = [render(tokenizer, p.problem, style=style, system=system, exemplars=exemplars) for p in problems]
    # A chat template writes its own special tokens.
    plain = style == "plain" or not getattr(tokenizer, "chat_template", None)
    if most_tokens is not None:
        texts = [_shortened(tokenizer, text, most_tokens) for text in texts]
    return Prompts(
        problems=tuple(problem.problem for problem in problems),
        answers=tuple(problem.answer for problem in problems),
        token_ids=token_ids_of(tokenizer, texts, special=plain),
        indices=tuple(indices if indices is not None else range(len(problems))),
        iteration=iteration,
        intermediate=results if any(results) else (),
    )


def token_ids_of(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special: bool
) -> tuple[tuple[int, ...], ...]:
    """Tokens of texts that go on: of the special tokens that a tokenizer puts around a text those before it alone.

    Args:
        tokenizer: The policy's.
        texts: The texts.
        special: Whether the texts are without special tokens, which a chat template writes itself.
    """
    if not texts:
        return ()
    found = [tuple(ids) for ids in tokenizer(list(texts), add_special_tokens=special)["input_ids"]]
    behind = _tokens_behind(tokenizer) if special else 0
    found = [ids[: len(ids) - behind] for ids in found]
    ends = {tokenizer.eos_token_id, end_of_turn(tokenizer)} - {None}
    if ended := [ids for ids in found if ids and ids[-1] in ends]:
        say_once(
            f"{len(ended)} of {len(found)} prompts end in {tokenizer.convert_ids_to_tokens(ended[0][-1])!r}, at which "
            "completions end: the chat template begins no answer (add_generation_prompt). Mend it, or use "
            "prompt.style=plain."
        )
    return tuple(found)


def _tokens_behind(tokenizer: PreTrainedTokenizerBase) -> int:
    """How many special tokens a tokenizer puts behind a text."""
    bare, around = (tokenizer("1", add_special_tokens=special)["input_ids"] for special in (False, True))
    return next(
        (n for n in range(len(around) - len(bare) + 1) if around[len(around) - n - len(bare) :][: len(bare)] == bare), 0
    )


def _shortened(tokenizer: PreTrainedTokenizerBase, text: str, most_tokens: int) -> str:
    """A text, or as much of its beginning as has more tokens than a prompt can have.

    Where the cut divides a token its part has as many as bytes, at most: so many do not count.
    """
    length = _CHARACTERS * max(most_tokens, 1)
    if length >= len(text):
        return text
    divided = 4 * max(map(len, tokenizer.get_vocab()))
    while length < len(text):
        if len(tokenizer(text[:length], add_special_tokens=False)["input_ids"]) > most_tokens + divided:
            return text[:length]
        length *= 2
    return text
