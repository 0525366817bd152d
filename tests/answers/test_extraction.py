"""Where an answer is found: the box for rewards, and for evaluation what else a completion may end with."""

import json

import pytest

from grouprl.answers.extraction import extract, last_box
from grouprl.answers.grading import grade

LENIENT = [
    # a marker finds an answer, on the same line or on the next
    ("The final answer is 4. I hope it is correct.", "4"),
    ("The final answer is:\n\\[\n\\frac{1}{2}\n\\]", r"\frac{1}{2}"),
    ("Final answer:\n$$x=3$$ done", "x=3"),
    ("The final answer is:\n\n\\boxed{7}", "7"),
    ("## Final Answer\n\n**42**", "42"),
    ("**Final Answer**\n$\\boxed{12}$", "12"),
    ("The final answer is\n12", "12"),
    ("**Answer:** 5 apples", "5 apples"),
    ("Answer: $12$ dollars", "$12$ dollars"),
    ("The answer is **1,200**.", "1,200"),
    (r"The answer is \(\frac{2}{3}\).", r"\(\frac{2}{3}\)"),
    ("Therefore the answer is $3$ and $4$.", "$3$ and $4$"),
    ("The answer is x = 3, y = 4.", "x = 3, y = 4"),
    ("The answer is 3.5.", "3.5"),
    ("The answer would be 17.", "17"),
    ("The answer should be $\\frac12$.", r"$\frac12$"),
    ("The answer is therefore 9.", "9"),
    ("The answer is Evelyn.", "Evelyn"),
    ("The answer is no solution.", "no solution"),
    ("所以答案是 12。", "12"),
    ("最终答案：15", "15"),
    ("答案为：$\\frac{1}{2}$。", r"$\frac{1}{2}$"),
    ("故选：D", "D"),
    ("所以选 B。", "B"),
    # and not a sentence
    ("Final Answer: The final answer is 12. I hope it is correct.", "12"),
    (r"\boxed{9}. But the final answer is well known.", "9"),
    ("The answer is 72, in total, so the farmer earns that much.", "72"),
    ("Final Answer: The largest $n$ is 34.", "34"),
    ("The answer is $5$ because it is so.", "$5$"),
    ("The answer is 1,200, which is large", "1,200"),
    ("The answer is 5. The answer is not clear to me.", "5"),
    ("The answer is 12 since 3 times 4 is 12.", "12"),
    ("The answer is as follows. We get 8.", "8"),
    ("What is the answer? It is obvious. 6", "6"),
    # letters of a choice
    ("The answer: D, it doesn't make sense", "D"),
    ("The answer is (B) because of this", "B"),
    ("The answer is C.", "C"),
    ("The answer is (A).", "A"),
    # tags and hashes
    ("<answer>2x+3</answer>", "2x+3"),
    (r"<answer>\boxed{4}</answer>", "4"),
    ("<answer>7</answer> or <answer>8</answer>", "8"),
    ("is #### 42", "42"),
    ("3 + 4 = 7\n#### 7", "7"),
    # the box beats prose, and a final answer behind it beats the box
    (r"So \boxed{5}. The final answer is $\frac{1}{2}$.", r"$\frac{1}{2}$"),
    (r"I think the answer is 3, so \boxed{5}", "5"),
    (r"\boxed{5}. The answer is 6.", "5"),
    (r"The final answer is 4. No: \boxed{6}", "6"),
    (r"\boxed{5}\n#### 6", "6"),
    # the last formula before the last number
    (r"So $x=\frac{1}{3}$.", r"x=\frac{1}{3}"),
    (r"The value is $\frac{1}{3}$ (see step 2).", r"\frac{1}{3}"),
    ("We had $x=3$.\nSo the total is 17", "17"),
    ("There are $n$ apples. So 5 + 3 = 8 apples.", "8"),
    (r"Hence \[ a = 2^{10} \]", "a = 2^{10}"),
    ("It takes 3 steps and 17 days", "17"),
    ("```python\nprint(4)\n```\n7", "7"),
    ("no number at all", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "answer"), LENIENT)
def test_lenient_extraction_is_for_evaluation(text, answer):
    assert extract(text, "lenient") == answer
    boxed = extract(text)
    assert boxed is None or rf"\boxed{{{boxed}}}" in text


def test_where_the_box_is_right_the_lenient_answer_is_the_box(real_data):
    """On 800 recorded completions of a math model."""
    with (real_data / "recorded_groups.jsonl").open() as lines:
        groups = [json.loads(line) for line in lines]
    texts = [(text, group["gold"]) for group in groups for text in group["completions"]]
    assert len(texts) == 800
    right = [(text, gold) for text, gold in texts if grade(text, gold).correct]
    assert len(right) > 300
    assert [text for text, gold in right if not grade(text, gold, extraction="lenient").correct] == []
    assert [text for text, _ in texts if extract(text) and extract(text) != extract(text, "lenient")] == []


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{ {a} }", "{a}"),
        (r"\fbox{3} \boxed{4", "3"),
        (r"so \boxed 7 or", "7"),
        (r"\boxed{8}, not \boxed 7.", "7"),
        (r"the \boxed format", None),
        (r"\boxed{4} \boxed{5", "4"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        ("no box", None),
        (r"\boxed{}", ""),
    ],
)
def test_last_box(text, box):
    assert last_box(text) == box


def test_a_text_full_of_unclosed_boxes_takes_no_time():
    """One pass: 10 000 unclosed boxes, and 10 000 nested ones, are read at once and do not recurse."""
    assert last_box(r"\boxed{" * 10_000) is None
    assert last_box(r"\boxed{" * 10_000 + "7" + "}" * 10_000) == "7"
    assert last_box(r"\boxed{1} and \boxed{2") == "1"
    assert last_box(r"\boxed{\{1, 2\}}") == r"\{1, 2\}"
