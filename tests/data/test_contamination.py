"""The rule on written examples, against a slow reference, and on real problems."""

import itertools
import json
import random
import subprocess
import sys
import time

import pytest

from grouprl.data.contamination import Overlap, Report, check, main, overlaps, table, tokenize

FRUIT = "A farmer sells {a} apples and {b} pears at the market on Monday. How many pieces of fruit does he sell?"
SCATTERED = (
    "Ann has {a} red, {b} blue and {c} green balls; she loses {d} of them, buys {e} more and {f} less. How many?"
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (r"Find $\dfrac{1}{2}$, please!", "find frac 1 2 please !"),
        (r"\left( x\,+\;y \right)^{2} \leq 3", "x + y ^ 2 le 3"),
        ("$1,000$ and 1{,}000 and $1,\\!000$ but 12,34", "1000 and 1000 and 1000 but 12 34"),
        ("1.5 is not 15, .5 is not 5.", "1.5 is not 15 .5 is not 5"),
        ("Ｗｈａｔ　ｉｓ　３＋４？", "what is 3 + 4"),
        ("3−4", "3 - 4"),
        ("Janet's well-known $x-y$ 50% n!", "janets well known x - y 50 % n !".replace("well known", "wellknown")),
        ("小明有3个苹果，小红有12个。", "小 明 有 3 个 苹 果 小 红 有 12 个"),
        (r"x_1 \text{ if } x\cdot y", "x 1 if x * y"),
        (r"\lefteqn \leftarrow", "lefteqn leftarrow"),
        ("", ""),
    ],
)
def test_normal_form(text, tokens):
    assert tokenize(text) == tuple(tokens.split())


def test_equal_after_normalisation():
    short, layout = r"Compute $\tfrac{3}{4}+2$.", r"compute \( \frac{3}{4} + 2 \)"
    assert overlaps([short], [layout]) == [Overlap(0, 0, "exact", 1.0, True)]
    assert overlaps([short], [r"Compute $\tfrac{3}{4}-2$."]) == []
    assert overlaps([short], [r"Compute $\tfrac{3}{4}+2.5$."]) == []


def test_short_problems_are_compared_whole():
    inside = "What is 17 plus 25? Explain each of your steps in words and give the sum at the end."
    assert overlaps(["What is 17 plus 25?"], [inside]) == []
    assert overlaps([inside], ["What is 17 plus 25?"]) == []
    assert overlaps(["What is 17 plus 25?"], ["what is 17 plus 25"])[0].rule == "exact"


def test_a_template_with_other_numbers_is_a_hit_where_a_run_holds_none():
    (hit,) = overlaps([FRUIT.format(a=3, b=4)], [FRUIT.format(a=5, b=9)])
    assert (hit.rule, hit.same_numbers) == ("13-gram", False)
    assert hit.ratio == pytest.approx(19 / 21)
    values = dict(zip("abcdef", range(2, 8), strict=True))
    others = {key: value + 10 for key, value in values.items()}
    assert overlaps([SCATTERED.format(**values)], [SCATTERED.format(**others)]) == []
    assert overlaps([SCATTERED.format(**values)], [SCATTERED.format(**values)])[0].rule == "exact"


def test_the_same_numbers_with_another_question():
    head = "In a class of 30 pupils 18 play football and 15 play the piano and 4 play neither of them."
    (hit,) = overlaps([f"{head} How many play both?"], [f"{head} How many play football only?"])
    assert (hit.rule, hit.same_numbers) == ("13-gram", True)


def test_a_long_run_alone_is_no_hit():
    """13 tokens in common, but most of the test problem is another."""
    shared = "where m and n are relatively prime positive integers, find the value of m + n"
    test = f"Three unlike dice are thrown until a six shows twice in a row; the chance of five throws is m/n, {shared}."
    train = f"The sum of all roots between zero and one equals m/n, {shared}."
    assert overlaps([train], [test]) == []
    assert overlaps([train], [f"It is m/n, {shared}."])[0].rule == "13-gram"


def test_a_run_of_13_tokens_is_the_shortest():
    shared = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu"
    (hit,) = overlaps([f"one {shared}"], [f"two {shared}"])
    assert (hit.rule, hit.ratio) == ("13-gram", 13 / 14)
    shorter = shared.removesuffix(" nu")
    assert overlaps([f"one {shorter}"], [f"two {shorter}"]) == []


def test_a_fraction_of_the_test_problem():
    problem = FRUIT.format(a=3, b=4)
    inside = f"Here is a riddle for the evening that I heard from an old friend of mine. {problem} Think twice."
    (hit,) = overlaps([inside], [problem])
    assert hit.ratio == 1.0
    assert overlaps([problem], [inside]) == []
    long = f"{problem} {problem}"
    assert overlaps([problem], [long]) == []


def test_chinese_by_character():
    train = "学校图书馆原有25本故事书，今天下午又买回9本，现在图书馆一共有多少本故事书？"
    (hit,) = overlaps([train], ["学校图书馆原有30本故事书，今天下午又买回8本，现在图书馆一共有多少本故事书？"])
    assert not hit.same_numbers
    assert overlaps([train], ["小明昨天看了故事书25页，今天看了9页，还剩多少页没有看？"]) == []


def test_nothing_overlaps_with_nothing():
    assert overlaps([], []) == []
    assert overlaps(["", "!?"], ["", "."]) == []
    assert overlaps([FRUIT.format(a=1, b=2)], []) == []


def reference(train, test):
    """The rule word for word: all pairs, all runs, the whole table."""
    found = []
    for (i, a), (j, b) in itertools.product(enumerate(map(tokenize, train)), enumerate(map(tokenize, test))):
        table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for x, y in itertools.product(range(len(a)), range(len(b))):
            table[x + 1][y + 1] = table[x][y] + 1 if a[x] == b[y] else max(table[x][y + 1], table[x + 1][y])
        runs = [{t[k : k + 13] for k in range(len(t) - 12)} for t in (a, b)]
        ratio = table[-1][-1] / max(1, len(b))
        if a and a == b:
            found.append((i, j, "exact", 1.0))
        elif runs[0] & runs[1] and ratio > 0.6:
            found.append((i, j, "13-gram", ratio))
    return found


def test_the_index_finds_what_all_pairs_find():
    generator = random.Random(0)
    words = [f"w{chr(97 + n)}" for n in range(12)]
    whole = [" ".join(generator.choices(words, k=generator.randint(0, 50))) for _ in range(25)]

    def changed(text):
        tokens = text.split()
        start, stop = sorted(generator.choices(range(len(tokens) + 1), k=2))
        return " ".join(tokens[:start] + generator.choices(words, k=generator.randint(0, 20)) + tokens[stop:])

    train, test = whole, [changed(text) for text in whole] + whole[:5]
    wanted = reference(train, test)
    assert [(o.train, o.test, o.rule, o.ratio) for o in overlaps(train, test)] == wanted
    assert {rule for _, _, rule, _ in wanted} == {"exact", "13-gram"}
    assert len(wanted) > 12


def test_reports_count_problems_once():
    train = [FRUIT.format(a=3, b=4)] * 2 + ["What is 2 + 2?"]
    reports = check(train, {"near": [FRUIT.format(a=5, b=6)], "same": ["what is 2+2", "Why?"], "empty": []})
    assert reports["near"].summary() == {
        "train": 3,
        "test": 1,
        "train_overlapping": 2,
        "test_overlapping": 1,
        "exact": 0,
        "same_numbers": 0,
    }
    assert reports["same"] == Report(3, 2, (Overlap(2, 0, "exact", 1.0, True),))
    assert reports["same"].train_indices == (2,)
    assert reports["empty"].test_indices == ()
    assert "| same      | 2        | 1 (50.0%)   | 1     | 1            | 1                 |" in table(reports)
    kept = [text for index, text in enumerate(train) if index not in {0, 1}]
    assert not check(kept, {"near": [FRUIT.format(a=5, b=6)]})["near"].overlaps


def test_it_is_fast():
    generator = random.Random(0)
    words = ["".join(letters) for letters in itertools.product("abcdefghijklmno", repeat=3)]
    weights = [1 / (n + 1) for n in range(len(words))]
    texts = [" ".join(generator.choices(words, weights, k=60)) for _ in range(4000)]
    started = time.process_time()
    assert len(overlaps(texts[:2000], texts[1900:])) == 100
    assert time.process_time() - started < 10


def write(path, problems, column="problem"):
    path.write_text("".join(json.dumps({column: text}) + "\n" for text in problems))
    return str(path)


def test_the_command_says_what_overlaps(tmp_path, capsys):
    train = write(tmp_path / "train.jsonl", [FRUIT.format(a=3, b=4), "What is 2 + 2?"], "question")
    first, second = write(tmp_path / "a.jsonl", [FRUIT.format(a=5, b=6), "x"]), write(tmp_path / "b.jsonl", ["y"])
    command = ["--train", train, "--train-column", "question", "--against", first, second]
    assert main([*command, "--json", str(tmp_path / "out.json")]) == 1
    shown = capsys.readouterr().out
    assert "| a         | 2        | 1 (50.0%)   | 0     | 0            | 1                 |" in shown
    assert "| b         | 1        | 0 (0.0%) " in shown
    assert "train 0 ~ a 0 (13-gram, ratio 0.90, other numbers)" in shown
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["train"] == "train.jsonl"
    (hit,) = written["benchmarks"]["a"]["overlaps"]
    assert (hit["train"], hit["test"], hit["rule"]) == (0, 0, "13-gram")
    assert str(tmp_path) not in (tmp_path / "out.json").read_text()
    assert main(["--train", second, "--against", first]) == 0


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--train", "no.jsonl", "--against", "a.jsonl"], "no.jsonl: there is no such file"),
        (["--train", "a.jsonl", "--against", "a.jsonl", "no.jsonl"], "no.jsonl: there is no such file"),
        (["--train", "a.jsonl", "--against", "a.jsonl", "a.jsonl"], "a file is named twice"),
        (["--train", "a.jsonl", "--against", "a.jsonl", "--train-column", "text"], "one of: problem"),
        (["--train", "broken.jsonl", "--against", "a.jsonl"], "broken.jsonl, line 1: not a JSON object"),
        (["--train", "empty.jsonl", "--against", "a.jsonl"], "holds no problems"),
        (["--train", "a.jsonl", "--against", "a.jsonl", "--json", "nowhere/out.json"], "nowhere/out.json"),
    ],
)
def test_files_that_cannot_be_compared(tmp_path, monkeypatch, capsys, arguments, wanted):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.jsonl", ["What is 1 + 1?"])
    (tmp_path / "broken.jsonl").write_text("{\n")
    (tmp_path / "empty.jsonl").write_text("\n")
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert wanted in shown.err
    assert len(shown.err.splitlines()) == 1


def test_as_a_program_it_needs_no_torch(tmp_path):
    path = write(tmp_path / "a.jsonl", ["What is 1 + 1?"])
    code = "import sys; sys.modules['torch'] = None; from grouprl.data.contamination import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--train", path, "--against", path], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert "1 (100.0%)" in done.stdout


def test_real_problems(real_data):
    def read(name):
        with (real_data / f"{name}.jsonl").open() as lines:
            return [json.loads(line)["problem"] for line in lines]

    names = ("math500", "mmlu_stem", "gsm8k_test", "minerva_math")
    sets = {name: read(name) for name in names}
    of_math = check(sets["math500"], sets)
    assert of_math["math500"].test_indices == tuple(range(500))
    # Six questions of MMLU's mathematics are problems of MATH-500, word for word.
    assert of_math["mmlu_stem"].summary()["exact"] == 6
    assert of_math["mmlu_stem"].test_indices == (1027, 1135, 1140, 1177, 1196, 1204)
    assert not of_math["minerva_math"].overlaps
    # Three test problems of GSM8K share a template with a training problem, with other numbers.
    of_gsm8k = check(read("gsm8k_train"), sets)
    assert of_gsm8k["gsm8k_test"].test_indices == (581, 602, 632)
    assert not any(hit.same_numbers for hit in of_gsm8k["gsm8k_test"].overlaps)
