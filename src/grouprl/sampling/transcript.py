"""The text protocol of tool-integrated reasoning (Qwen2.5-Math, arXiv 2409.12122)."""

from __future__ import annotations

import re

from grouprl.sandbox.sandbox import ToolOutput

OUTPUT_FENCE = "```output"
"""A completion stops here to be given the output of its last code block."""

_BLOCK = re.compile(r"```(?:python|py)[ \t]*\n(.*?)\n?```", re.DOTALL)


def pending_code(text: str) -> str | None:
    """The last complete Python block of a text that ends by opening an output block, or None."""
    head, fence, _ = text.rpartition(OUTPUT_FENCE)
    blocks = _BLOCK.findall(head)
    return blocks[-1] if fence and blocks else None


def output_text(output: ToolOutput, *, head: int = 200, tail: int = 200) -> str:
    """What is appended after the opened fence: the output, cut to its ends, and the closing fence."""
    return f"\n{shorten(output.text.strip(), head=head, tail=tail)}\n```\n"


def shorten(text: str, *, head: int = 200, tail: int = 200) -> str:
    """The first and last characters of a text that is longer than both together."""
    return text if len(text) <= head + tail else f"{text[:head]}...{text[-tail:]}"
