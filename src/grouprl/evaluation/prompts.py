"""The prompt of a benchmark problem: few-shot completion, chat, or chat with tools, in the language of the set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from grouprl.data import messages
from grouprl.data.exemplars import Exemplar
from grouprl.data.prompts import render, token_ids_of
from grouprl.data.rows import LETTERS
from grouprl.evaluation.benchmarks import Benchmark, BenchmarkProblem

Mode = Literal["cot", "tir"]
_WORDS = {
    "en": ("Question", "Answer", "Answer Choices: ", "The answer is", "."),
    "zh": ("问题", "解答", "选项：", "答案是", "。"),
}
_LEAST_ROOM = 16
"""Tokens a completion needs at least."""


@dataclass(frozen=True)
class Prompt:
    """A problem as a policy is given it."""

    token_ids: tuple[int, ...]
    text: str
    shots: int
    """Exemplars in it: fewer than asked for where the context has no room for more."""
    fits: bool
    """False where the problem alone leaves no room for a completion."""


def stop_strings(benchmark: Benchmark, mode: Mode) -> tuple[str, ...]:
    """Texts at which a few-shot completion goes on to a question of its own."""
    if mode == "tir" or benchmark.style == "chat":
        return ()
    question = _WORDS[benchmark.language][0]
    return (f"\n{question}:", f"\n\n{question}")


def build_prompt(
    tokenizer: PreTrainedTokenizerBase,
    benchmark: Benchmark,
    problem: BenchmarkProblem,
    mode: Mode,
    *,
    exemplars: Sequence[Exemplar] = (),
    context: int | None = None,
) -> Prompt:
    """The prompt of a problem, with as many exemplars as the context has room for beside half of it for the answer.

    Args:
        tokenizer: The policy's.
        benchmark: Decides language and style.
        problem: The problem.
        mode: ``cot``: chain of thought; ``tir``: with tools, always chat.
        exemplars: Solved problems for a few-shot prompt, or before the question in a chat turn.
        context: The model's context in tokens, None: no limit.
    """
    plain = not tokenizer.chat_template or (mode == "cot" and benchmark.style == "few_shot")
    for shots in range(len(exemplars) if mode == "cot" else 0, -1, -1):  # with tools there are none
        text = _text(tokenizer, benchmark, problem, mode, exemplars[:shots])
        (ids,) = token_ids_of(tokenizer, [text], special=plain)
        if context is None or len(ids) <= context // 2 or (shots == 0 and len(ids) + _LEAST_ROOM <= context):
            return Prompt(ids, text, shots, fits=True)
    return Prompt(ids, text, 0, fits=False)


def _text(
    tokenizer: PreTrainedTokenizerBase,
    benchmark: Benchmark,
    problem: BenchmarkProblem,
    mode: Mode,
    exemplars: Sequence[Exemplar],
) -> str:
    if mode == "tir":
        return render(tokenizer, question_text(benchmark, problem), system=messages.TOOLS)
    question, answer, _, _, _ = _WORDS[benchmark.language]
    if benchmark.style == "few_shot":
        solved = [
            f"{question}: {question_text(benchmark, shot)}\n{answer}: {_solution(benchmark, shot)}"
            for shot in exemplars
        ]
        return "\n\n".join([*solved, f"{question}: {question_text(benchmark, problem)}\n{answer}:"])
    shown = [f"{question_text(benchmark, shot)}\n\n{_solution(benchmark, shot, box=True)}" for shot in exemplars]
    return render(tokenizer, "\n\n".join([*shown, question_text(benchmark, problem)]), system=benchmark.system)


def question_text(benchmark: Benchmark, problem: BenchmarkProblem | Exemplar) -> str:
    """A problem with its choices, if it has any."""
    if not problem.choices:
        return problem.problem.strip()
    head = _WORDS[benchmark.language][2]
    listed = " ".join(f"({letter}) {choice}" for letter, choice in zip(LETTERS, problem.choices, strict=False))
    return f"{problem.problem.strip()}\n{head}{listed}"


def _solution(benchmark: Benchmark, exemplar: Exemplar, *, box: bool = False) -> str:
    _, _, _, says, stop = _WORDS[benchmark.language]
    space = " " if benchmark.language == "en" else ""
    answer = rf"$\boxed{{{exemplar.answer}}}$" if box else exemplar.answer
    return f"{exemplar.solution}{space}{says}{space}{answer}{stop}".strip()
