"""Long texts, and what is found in them: ``python -m helpers.long_texts`` reads one after the other and says which."""

from __future__ import annotations

from grouprl.answers.extraction import extract, last_box, spoken
from grouprl.answers.grading import grade
from grouprl.answers.process import limit_memory
from grouprl.answers.text import as_choice, key_of, nfkc, tidy
from grouprl.answers.units import split_unit
from grouprl.data.contamination import overlaps
from grouprl.data.contamination import tokenize as problem_tokens
from grouprl.data.exemplars import _CALCULATOR
from grouprl.data.rows import gold_answer
from grouprl.files import _depth
from grouprl.rewards.rules import has_box, has_notation, has_steps
from grouprl.sampling.transcript import pending_code

MANY = 500_000
MEMORY_MB = 1024
SENTENCE = "one two three four five six seven eight nine ten eleven twelve thirteen"


def lenient(text: str) -> str | None:
    """The answer of an evaluation."""
    return extract(text, "lenient")


def filled(piece: str, characters: int = MANY) -> str:
    """A piece again and again."""
    return piece * (characters // len(piece))


CASES = {
    "step markers: line ends and a digit": lambda: has_steps("\n" * MANY + "7") is False,
    "step markers: a digit and line ends": lambda: has_steps("7" + "\n" * MANY + "x") is False,
    "step markers: bullets": lambda: has_steps(filled("-\n") + "Step 1\nStep 2") is True,
    "step markers: steps without a number": lambda: has_steps(filled("step\n")) is False,
    "step markers: Chinese digits": lambda: has_steps("第" + "三" * MANY) is False,
    "notation: a dollar and signs": lambda: has_notation("$" + "=" * MANY) is False,
    "notation: dollars with a sign": lambda: has_notation(filled("$ +\n")) is False,
    r"notation: \( alone": lambda: has_notation(filled(r"\(")) is False,
    r"notation: \[ alone, \) before": lambda: has_notation(r"\)" + filled(r"\[ \(")) is False,
    r"notation: \( and \)": lambda: has_notation(filled(r"\(") + r"\)") is True,
    "boxes: none closed": lambda: has_box(filled(r"\boxed{")) is False,
    "boxes: nested": lambda: last_box(filled(r"\boxed{") + "7" + "}" * MANY) == "7",
    "boxes: spaces": lambda: last_box(r"\boxed" + " " * MANY) is None,
    "braces": lambda: last_box(filled("{") + filled("{}") + filled("}")) is None,
    "backslashes": lambda: last_box(filled("\\") + r"x \boxed{1}") == "1",
    "fences, four bytes a character": lambda: spoken(filled("```\n", 8 * MANY) + "😀") == "\n" * MANY + "😀",
    "a fence that is not closed": lambda: spoken("1\n```" + "\n" * MANY) == "1\n",
    "thoughts": lambda: spoken(filled("<think>") + filled("</think>") + "7") == "7",
    "lenient: line ends": lambda: lenient("final answer is" + "\n" * MANY) is None,
    "lenient: colons and line ends": lambda: lenient("answer:" + " " * MANY + ":" + "\n" * MANY) is None,
    "lenient: Chinese": lambda: lenient("答案是" + "\n" * MANY) is None,
    "lenient: many": lambda: lenient(filled("the answer is 4. ")) == "4",
    "lenient: digits": lambda: lenient("7" * MANY) == "7" * 20_000,
    "lenient: commas": lambda: lenient("1" + "," * 19_000) == "1" + "," * 19_000,
    "spelling: circled": lambda: tidy(r"\textcircled" + " " * MANY) == r"\textcircled",
    "spelling: combining marks": lambda: len(tidy("a" + filled("\u0315\u0300"))) < 40,
    "spelling: marks of two parts": lambda: len(nfkc("a" + filled("\u0f73"))) < 70,
    "spelling: Arabic digits": lambda: tidy("٣" * MANY) == "٣" * MANY,
    "spelling: keys": lambda: key_of(filled("{ , } ")) == filled("{,}", MANY // 2),
    "units: commands and no end": lambda: split_unit("5" + filled(r"\text{a} ") + "7x")[1] == "",
    "units: commands": lambda: split_unit("5" + filled(r"\text{} ") + r"\text{cm}") == ("5", "cm"),
    "units: spaces": lambda: split_unit(r"5\text{a}" + " " * MANY + "!")[1] == "",
    "units: a power and spaces": lambda: split_unit(r"5\text{a}^" + " " * MANY + "!")[1] == "",
    "units: degrees": lambda: split_unit("5^" + " " * MANY + "x")[1] == "",
    "units: words": lambda: split_unit("5 " + filled("abc ") + "!")[1] == "",
    "choices: letters": lambda: as_choice(filled("A ") + "x") is None,
    "choices: spaces": lambda: as_choice("A" + " " * MANY + "x") is None,
    "choices: letters of an answer": lambda: grade("A " * 100 + "x", "B", extraction="none").status == "wrong",
    "units of an answer": lambda: grade("5 " + r"\text{a} " * 40 + "7x", "6", extraction="none").status == "unparsable",
    "too long an answer": lambda: grade(r"\boxed{" + filled("-+") + "}", "x").status == "unparsable",
    "gold: hashes": lambda: gold_answer(filled("#") + "3", "hashes") == "3",
    "calculators": lambda: _CALCULATOR.sub("", filled("<<a") + ">>") == filled("<<a", MANY - 3),
    "JSON: a text that does not end": lambda: _depth(b'[{"' + b'\\"[' * MANY) == 2,
    "code: opened": lambda: pending_code(filled("```python\n") + "```output") is not None,
    "code: not closed": lambda: pending_code("```python\n" + "\n" * MANY + "```output") is None,
    "problems: marks": lambda: len(problem_tokens("a" + filled("\u0315\u0300") + "b")) == 2,
    "problems: a long one": lambda: len(overlaps([filled("x 1 ") + SENTENCE], [SENTENCE])) == 1,
    "problems: different words": lambda: not overlaps([" ".join(map(str, range(150_000)))], [SENTENCE]),
}


if __name__ == "__main__":
    limit_memory(MEMORY_MB, beyond_use=True)
    for name, is_right in CASES.items():
        print(name, flush=True)
        assert is_right(), name
