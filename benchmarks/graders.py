"""grouprl's grader beside math-verify, on the same answers: this project's list by kind, and real golds in a box.

    python benchmarks/graders.py --grader grouprl --out grouprl.json
    OTHER/bin/python benchmarks/graders.py --grader math-verify --out math-verify.json   # where math-verify alone is
    python benchmarks/graders.py --table grouprl.json math-verify.json

The list is `tests/helpers/grading_*.py`. It is this project's own, and so are its conventions: of kinds where the two
differ by convention the table says so. math-verify is asked in several forms, and the form that is right most often on
the whole list is reported. With ``--near`` and ``GROUPRL_DATA``, a folder of benchmark files, each gold is held against
its three most similar others, too.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LISTS = (
    ("grading_cases", "CASES"),
    ("grading_near_misses", "NEAR_MISSES"),
    ("grading_spellings", "SPELLINGS"),
    ("grading_attacks", "ATTACKS"),
)
Judge = Callable[[str, str], bool]
_LONGEST = 120
"""Characters of a gold that has near misses."""


def cases() -> Iterator[tuple[str, str, str, bool]]:
    """Kind, completion, gold and truth of each triple."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    for module, name in LISTS:
        for kind, triples in getattr(importlib.import_module(module), name).items():
            for written, gold, correct in triples:
                completion = written[4:] if written.startswith("RAW:") else rf"\boxed{{{written}}}"
                yield kind, completion, gold, correct


def near_misses(folder: Path) -> Iterator[tuple[str, str, str]]:
    """File, answer and gold: each gold against the three most similar others of its file, by their characters."""
    for file in sorted(folder.glob("*.jsonl")):
        if "recorded" in file.name or file.name == "gsm8k_train.jsonl":
            continue
        golds = sorted({str(json.loads(line)["answer"]).strip() for line in file.read_text().splitlines()} - {""})
        pairs = {gold: {gold[n : n + 2] for n in range(len(gold) - 1)} or {gold} for gold in golds}
        if all(len(gold) == 1 for gold in golds):
            continue  # letters of choices
        for gold in golds:
            others = [other for other in golds if other != gold and abs(len(other) - len(gold)) <= 4]
            if len(gold) > _LONGEST:
                continue
            others = sorted(others, key=lambda other: -len(pairs[gold] & pairs[other]))[:60]
            for other in sorted(others, key=lambda o: -difflib.SequenceMatcher(None, gold, o).ratio())[:3]:
                yield file.name, gold, other


def grouprl_judges() -> dict[str, Judge]:
    """This project's grader, as rewards call it."""
    from grouprl.answers.grading import grade

    return {"grouprl": lambda completion, gold: grade(completion, gold).correct}


def math_verify_judges() -> dict[str, Judge]:
    """math-verify with its gold in a box, between dollars, or as it is; letters of choices are read, too."""
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify

    kinds = [LatexExtractionConfig(), ExprExtractionConfig(), StringExtractionConfig()]

    def judge(form: str, configs: list | None) -> Judge:
        def judged(completion: str, gold: str) -> bool:
            try:
                options = {} if configs is None else {"extraction_config": configs}
                return bool(verify(parse(form.format(gold), **options), parse(completion, **options)))
            except Exception:  # noqa: BLE001 - what it cannot read it does not accept
                return False

        return judged

    forms = {"gold in a box": r"\boxed{{{}}}", "gold between dollars": "${}$", "gold as it is": "{}"}
    return {
        f"{name}{said}": judge(form, configs)
        for name, form in forms.items()
        for said, configs in (("", None), (", with letters", kinds))
    }


def measured(name: str, *, near: bool) -> dict:
    """All verdicts of a grader, in its best form."""
    judges = grouprl_judges() if name == "grouprl" else math_verify_judges()
    triples = list(cases())
    found = {form: [judge(completion, gold) for _, completion, gold, _ in triples] for form, judge in judges.items()}
    truths = [truth for *_, truth in triples]
    best = max(found, key=lambda form: sum(v is t for v, t in zip(found[form], truths, strict=True)))
    kinds = defaultdict(lambda: {"cases": 0, "right": 0, "false accepts": 0})
    for (kind, *_, truth), verdict in zip(triples, found[best], strict=True):
        kinds[kind]["cases"] += 1
        kinds[kind]["right"] += verdict is truth
        kinds[kind]["false accepts"] += verdict and not truth
    result = {"grader": name, "form": best, "kinds": kinds}
    folder = os.environ.get("GROUPRL_DATA")
    if near and folder:
        pairs, judge = list(near_misses(Path(folder))), judges[best]
        started = time.perf_counter()
        accepted = [pair for pair in pairs if judge(rf"\boxed{{{pair[1]}}}", pair[2])]
        seconds = time.perf_counter() - started
        result["near misses"] = {"pairs": len(pairs), "accepted": accepted, "seconds": seconds}
    return result


def table(results: list[dict]) -> list[str]:
    """Kinds by graders, in Markdown."""
    lines = ["| kind | cases | " + " | ".join(f"{r['grader']} right | false accepts" for r in results) + " |"]
    lines.append("|---|--:|" + "--:|--:|" * len(results))
    rows = {kind: [r["kinds"][kind] for r in results] for kind in results[0]["kinds"]}
    rows["all"] = [
        {key: sum(kind[key] for kind in r["kinds"].values()) for key in ("cases", "right", "false accepts")}
        for r in results
    ]
    for kind, parts in rows.items():
        cells = " | ".join(f"{part['right']} | {part['false accepts']}" for part in parts)
        lines.append(f"| {kind} | {parts[0]['cases']} | {cells} |")
    for result in results:
        near = result.get("near misses")
        if near:
            lines.append(
                f"\n{result['grader']} ({result['form']}) accepts {len(near['accepted'])} of {near['pairs']:,} ordered "
                f"near-miss pairs in {near['seconds']:.0f} s."
            )
    return lines


def main() -> None:
    """Grade, or show what was graded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grader", choices=["grouprl", "math-verify"])
    parser.add_argument("--out", type=Path, help="file of the verdicts by kind")
    parser.add_argument("--near", action="store_true", help="near misses of real golds, too (GROUPRL_DATA)")
    parser.add_argument("--table", nargs="+", type=Path, metavar="FILE", help="what --out wrote")
    args = parser.parse_args()
    if args.table:
        print("\n".join(table([json.loads(file.read_text()) for file in args.table])))
        return
    if not args.grader or not args.out:
        parser.error("give --grader and --out, or --table")
    args.out.write_text(json.dumps(measured(args.grader, near=args.near), indent=1) + "\n")
    print(f"Written: {args.out}")


if __name__ == "__main__":
    main()
