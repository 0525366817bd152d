"""From problems to prompt tokens: the model's chat template where it has one, a plain template elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from transformers import PreTrainedTokenizerBase

from grouprl.batch import Prompts
from grouprl.data.rows import Problem

PromptStyle = Literal["auto", "chat", "plain"]


def render(
    tokenizer: PreTrainedTokenizerBase, problem: str, *, style: PromptStyle = "auto", system: str | None = None
) -> str:
    """The text a policy is given for a problem.

    Args:
        tokenizer: The policy's tokenizer.
        problem: The problem text.
        style: ``chat``: the tokenizer's chat template, which it must have; ``plain``: ``Question: ...`` and
            ``Answer:``; ``auto``: chat where there is a template.
        system: System message (with ``plain``: the first line).
    """
    template = getattr(tokenizer, "chat_template", None)
    if style == "chat" and not template:
        raise ValueError("prompt.style=chat, but the tokenizer has no chat template. Use prompt.style=plain.")
    if style == "plain" or not template:
        head = f"{system}\n\n" if system else ""
        return f"{head}Question: {problem}\nAnswer:"
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": problem})
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)  # type: ignore[return-value]


def encode(
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    *,
    indices: Sequence[int] | None = None,
    iteration: int = 0,
    style: PromptStyle = "auto",
    system: str | None = None,
) -> Prompts:
    """Encode problems as `Prompts`."""
    texts = [render(tokenizer, problem.problem, style=style, system=system) for problem in problems]
    # A chat template writes its own special tokens.
    plain = style == "plain" or not getattr(tokenizer, "chat_template", None)
    return Prompts(
        problems=tuple(problem.problem for problem in problems),
        answers=tuple(problem.answer for problem in problems),
        token_ids=tuple(tuple(ids) for ids in tokenizer(texts, add_special_tokens=plain)["input_ids"]) if texts else (),
        indices=tuple(indices if indices is not None else range(len(problems))),
        iteration=iteration,
    )
