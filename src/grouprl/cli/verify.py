"""``python verify.py STUDY n=2``: run some of a study's runs again, and see whether they are what is recorded."""

from __future__ import annotations

import base64
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grouprl.checks import CommandParser
from grouprl.files import FileError, read_json
from grouprl.studies.plan import PLAN_FILE, OutcomeError, read_plan
from grouprl.studies.records import Record, records_in
from grouprl.studies.show.paper import PAPER_FILE
from grouprl.studies.show.pictures import DRAWN_ALIKE, pixels_apart
from grouprl.studies.show.report import PAGE_FILES, PICTURES, REPORT_FILE, write_report
from grouprl.studies.verdict import judge
from grouprl.studies.verification import differing, digests_of
from grouprl.training.records import ENDED, RESULT_FILE, WITHHELD, shown

HOLDS, FAILS = 0, 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``verify.py``. Exit code: 0 all is as recorded, 1 something is not, 2 nothing to verify."""
    parser = CommandParser(
        prog="verify.py",
        description="Rerun drawn runs of a study, bit for bit.",
        epilog="Exit status: 0 all is as recorded, 1 something is not, 2 there is nothing to verify.",
    )
    parser.add_argument("study", type=Path, help="a study's folder")
    how = "how many runs are drawn and made again, or which; n=0: files alone, in seconds (n=2 where nothing is given)"
    parser.add_argument("options", nargs="*", metavar="n=2 | runs=NAME,NAME", help=how)
    given = parser.parse_args(arguments)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # the folder of a run made again is removed
    try:
        chosen = _chosen(given.study, dict(_option(text) for text in given.options))
    except (FileError, OSError, ValueError) as error:
        print(f"verify.py: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    faults = []
    for record, again in chosen:
        try:
            faults += _faults(record, again=again)
        except (FileError, OSError) as error:
            faults.append(f"{record.place.name}: {error}")
    try:
        faults = faults or _verdict_faults(given.study)
    except (FileError, OSError) as error:
        faults.append(str(error))
    drawn = sum(is_drawn for _, is_drawn in chosen)
    rerun = f"{drawn} of them run again" if drawn else "none run again (n=2), which alone finds a forged one"
    looked_at = ", ".join([f"the files of {len(chosen)} runs", *_written(given.study)])
    looked_at += f" and its {PICTURES}" if (given.study / PICTURES).is_dir() else ""
    print("\n".join(faults) if faults else f"all as recorded: {looked_at}; {rerun}")
    raise SystemExit(FAILS if faults else HOLDS)


def _option(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or name not in ("n", "runs"):
        raise ValueError(f"{text}: give n=2, or runs=NAME.")
    return name, value


def _chosen(study: Path, options: dict[str, str]) -> list[tuple[Record, bool]]:
    """All runs of a study that ended, and which of them are run again."""
    if not study.is_dir():
        raise ValueError(f"{study}: there is no such folder. Give a study's (runs/NAME).")
    ended = [record for record in records_in(study) if record.result.get("state") in ENDED]
    runs = [record for record in ended if record.result["state"] == "finished"]
    if not runs:
        raise ValueError(f"{study}: no finished run is here.")
    if "runs" in options:
        names, there = options["runs"].split(","), [run.place.name for run in runs]
        unknown = [name for name in names if name not in there]
        if unknown:
            raise ValueError(f"runs={unknown[0]}: no finished run of {study}. Runs: {', '.join(there)}.")
        drawn = [run for run in runs if run.place.name in names]
    else:
        count = options.get("n", "2")
        if not count.isdigit():
            raise ValueError(f"n={count}: give a whole number.")
        drawn = random.SystemRandom().sample(runs, min(int(count), len(runs)))
    return [(run, run in drawn) for run in ended]


def _verdict_faults(study: Path) -> list[str]:
    """Whether the verdict, the page and the tables in a study's folder are those of its runs."""
    plan = read_plan(study)
    there = _written(study)
    if plan is None and there:
        return [f"{study}: {there[0]} is here, and no {PLAN_FILE} that says what was asked. Put it back."]
    if plan is None or not plan.compares:
        return []
    try:
        verdict = judge(plan, study)
    except OutcomeError as error:
        return [str(error)]
    if not verdict.complete:
        return [f"{study}: not all planned runs are in it. {'; '.join(verdict.notes[:4])}"]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        verdict.write(made)
        if {REPORT_FILE, PAPER_FILE} & {*there}:
            write_report(verdict, made)
        other = [name for name in there if _content(study / name) != _content(made / name)]
        gone = []
        if REPORT_FILE in there:
            pictures = _other_pictures(study, made)
            gone = [name for name in pictures if not (study / name).is_file()]
            other += [name for name in pictures if name not in gone]
    remedy = f"Anew: python compare.py {shlex.quote(str(study))} --report"
    what = "is not what this version of grouprl writes of its runs"
    return [f"{study}: its {name} {what}. {remedy}" for name in other] + [
        f"{study}: its picture {name} is gone. {remedy}" for name in gone
    ]


def _written(study: Path) -> list[str]:
    """What was made of the runs and lies in a study's folder."""
    return [name for name in PAGE_FILES if (study / name).is_file()]


def _other_pictures(study: Path, made: Path) -> list[str]:
    """Pictures that are not those of the runs, or not those in the page."""
    files = {folder: {f.relative_to(folder): f for f in (folder / PICTURES).rglob("*.png")} for folder in (study, made)}
    if not files[study]:
        return []
    page = (study / REPORT_FILE).read_text()
    other = {name for name in files[made] if name not in files[study]} | {
        n for n in files[study] if n not in files[made]
    }
    for name in files[study].keys() & files[made].keys():
        shown = base64.b64encode(files[study][name].read_bytes()).decode() in page
        if not shown or pixels_apart(files[study][name], files[made][name]) > DRAWN_ALIKE:
            other.add(name)
    return sorted(map(str, other))


def _content(file: Path) -> str:
    """A file's text; of a page without its pictures, whose bytes depend on who drew them."""
    return re.sub(r"data:image/[^\"']+", "", file.read_text())


def _faults(record: Record, *, again: bool) -> list[str]:
    """What is wrong with a run, in lines."""
    result, run = record.result, record.place
    if not result.get("digests") and result["state"] == "finished":
        return [f"{run.name}: it records no digests of what it ended with"]
    faults = [f"{run.name}: its {name} is not what the run wrote" for name in record.edited()]
    if not again:
        return faults
    withheld = [override for override in result["overrides"] if WITHHELD in override]
    if withheld:
        return [
            *faults,
            f"{run.name}: {withheld[0]} lies outside the working folder: the run cannot be repeated from here",
        ]
    print(f"{run.name}: running it again", flush=True)
    with tempfile.TemporaryDirectory(dir=run.parent) as folder:
        repeated = Path(folder) / "again"
        error = _repeat(result, repeated)
        now = read_json(repeated / RESULT_FILE) or {}
        if error or now.get("state") != "finished":
            return [*faults, f"{run.name}: run again, it {error or 'did not finish'}"]
        recorded, found = result["digests"], digests_of(repeated)
        other = [name for name in found if found[name] != recorded.get(name)]
        conditions = list(differing(result, now))
    if not other:
        print(f"{run.name}: the same bits: {', '.join(f'{name} {value}' for name, value in found.items())}")
        return faults
    why = "; ".join(conditions) or "under the same recorded conditions"
    return [*faults, f"{run.name}: run again, other {' and '.join(other)} ({why})"]


def _repeat(result: Mapping[str, Any], folder: Path) -> str:
    """Run it again; what went wrong, or nothing."""
    threads = result.get("machine", {}).get("threads")
    own = [o for o in result["overrides"] if not o.startswith(("threads=", "study="))]
    script = Path(sys.argv[0]).with_name("train.py")
    program = [str(script)] if script.is_file() else ["-m", "grouprl.cli.train"]
    place = str(shown(folder.resolve())).replace("'", r"\'")
    done = subprocess.run(
        [sys.executable, *program, *own, f"threads={threads}", f"hydra.run.dir='{place}'"],
        check=False,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"},
    )
    said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    return f"failed: {said[-1][:300]}" if done.returncode else ""


if __name__ == "__main__":
    main()
