"""Test sets whose problems must not be trained on without saying so."""

from __future__ import annotations

TEST_SETS: dict[tuple[str, str], tuple[str, ...]] = {
    ("HuggingFaceH4/MATH-500", "test"): ("math500", "math"),
    ("EleutherAI/hendrycks_math", "test"): ("math",),
    ("openai/gsm8k", "test"): ("gsm8k",),
    ("cais/mmlu", "test"): ("mmlu_stem",),
    ("weitianwen/cmath", "test"): ("cmath",),
    ("hails/agieval-gaokao-mathcloze", "test"): ("gaokao_cloze",),
    ("hails/agieval-gaokao-mathqa", "test"): ("gaokao_qa",),
    ("math-ai/minervamath", "test"): ("minerva",),
    ("MARIO-Math-Reasoning/Gaokao2023-Math-En", "train"): ("gaokao2023en",),
    ("Hothan/OlympiadBench", "train"): ("olympiadbench",),
    ("di-zhang-fdu/College_Math_Test", "test"): ("college_math",),
}
"""Dataset id and split of each benchmark, and the benchmarks that training on it contaminates."""


def contaminated_by(dataset: str, split: str) -> tuple[str, ...]:
    """Benchmarks that a training set given by id and split contaminates; slices, sums of splits and ``all`` count."""
    named = {part.partition("[")[0].strip() for part in split.split("+")}
    found = [
        benchmarks
        for (known, test_split), benchmarks in TEST_SETS.items()
        if known.casefold() == dataset.casefold().strip("/") and ("all" in named or test_split in named)
    ]
    return tuple(dict.fromkeys(name for benchmarks in found for name in benchmarks))
