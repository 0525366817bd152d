"""Break the code one mutation at a time, and see that the test named for it fails: ``python tests/mutate.py``.

The mutations are data, in ``tests/mutations.toml``. Each is made in a copy of the repository, which is what the tests
import; the repository itself is never touched.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

try:
    import tomllib
except ImportError:
    raise SystemExit("tests/mutate.py reads TOML: run it with Python 3.11 or newer.") from None

ROOT = Path(__file__).resolve().parent.parent
MUTATIONS = "tests/mutations.toml"
TIMEOUT_S = 300
"""For one test."""
KEYS = {"name": str, "file": str, "old": str, "new": str, "test": str}
SHOWN_LINES = 12
"""Lines of pytest's output that are shown where a mutation was not caught."""
running: set[subprocess.Popen[str]] = set()
"""Processes of pytest under way, which an interruption ends."""


@dataclass(frozen=True)
class Mutation:
    """A change that breaks something, and the test that must fail for it."""

    name: str
    file: str
    old: str
    new: str
    test: str
    timeout: bool = False
    """Whether a test that does not end counts as one that fails."""


@dataclass(frozen=True)
class Outcome:
    """What a test made of a mutation."""

    mutation: Mutation
    state: str
    """caught, survived or broken."""
    seconds: float
    reason: str = ""


def read_mutations(path: Path) -> list[Mutation]:
    """The mutations of a file, or an exit that names what is wrong with an entry."""
    found: list[Mutation] = []
    for number, entry in enumerate(tomllib.loads(path.read_text(encoding="utf-8")).get("mutation", []), start=1):
        label = f"{path.name}: mutation {number} ({entry.get('name', 'no name')})"
        for key, kind in KEYS.items():
            if not isinstance(entry.get(key), kind):
                raise SystemExit(f"{label}: {key} must be a text.")
        if others := entry.keys() - KEYS.keys() - {"timeout"}:
            raise SystemExit(f"{label}: unknown key {min(others)}.")
        if entry["old"] == entry["new"] or not entry["old"]:
            raise SystemExit(f"{label}: old and new must differ, and old must not be empty.")
        if entry["name"] in {mutation.name for mutation in found}:
            raise SystemExit(f"{label}: another mutation has this name.")
        found.append(Mutation(**entry))
    return found


def copy_repository(target: Path) -> None:
    """Copy what git tracks or would track, links as links."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    for name in dict.fromkeys(filter(None, listed)):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def environment(copy: Path) -> dict[str, str]:
    """Variables under which the packages of a copy are imported; PYTHONPATH comes before an editable installation."""
    return {
        **os.environ,
        "PYTHONPATH": str(copy / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def check_imports(copy: Path) -> None:
    """Refuse to go on where Python would import another package than the copy's: every mutation would survive."""
    names = ["grouprl", "grouprl.conf", "grouprl.experiments"]
    code = f"import importlib\nfor name in {names!r}: print(importlib.import_module(name).__path__[0])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, check=False, capture_output=True, text=True, env=environment(copy)
    )
    if done.returncode:
        raise SystemExit(f"The copy cannot be imported:\n{done.stderr.strip()}")
    for name, folder in zip(names, done.stdout.splitlines(), strict=True):
        if not Path(folder).resolve().is_relative_to(copy.resolve()):
            raise SystemExit(f"{name} is imported from {folder}, not from the copy: no mutation would be seen.")


def pytest(copy: Path, arguments: list[str], timeout_s: float) -> tuple[int | None, str]:
    """Exit code and output of pytest in a copy; None where it did not end in time."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "-m", "", *arguments],
        cwd=copy,
        env=environment(copy),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    running.add(process)
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return None, f"no end within {timeout_s:g} s"
    finally:
        end(process)
        running.discard(process)
    return process.returncode, output


def end(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def try_mutation(mutation: Mutation, copy: Path) -> Outcome:
    """Make a mutation in a copy, run its test, and take the mutation back."""
    started, path = time.monotonic(), copy / mutation.file
    original = path.read_text(encoding="utf-8")
    mutated = original.replace(mutation.old, mutation.new)
    if path.suffix == ".py":
        try:
            compile(mutated, mutation.file, "exec")
        except SyntaxError as error:
            return Outcome(mutation, "broken", 0.0, f"the mutated file is no Python: {error}")
    try:
        path.write_text(mutated, encoding="utf-8")
        code, output = pytest(copy, ["-x", mutation.test], TIMEOUT_S)
    finally:
        path.write_text(original, encoding="utf-8")
    caught = code == 1 or (code is None and mutation.timeout)
    state = "caught" if caught else "survived" if code == 0 else "broken"
    reason = f"pytest's exit code is {code}:\n{tail(output)}" if state == "broken" else ""
    return Outcome(mutation, state, time.monotonic() - started, reason)


def check_places(mutations: list[Mutation]) -> None:
    """Exit with all mutations whose text is not in their file exactly once."""
    faults = []
    for mutation in mutations:
        path = ROOT / mutation.file
        count = path.read_text(encoding="utf-8").count(mutation.old) if path.is_file() else None
        if count != 1:
            found = "there is no such file" if count is None else f"old is in it {count} times, not once"
            faults.append(f"{mutation.name}: {mutation.file}: {found}.")
    if faults:
        raise SystemExit("\n".join(faults))


def tail(output: str) -> str:
    """The last lines of some output, indented."""
    return "\n".join(f"    {line}" for line in output.strip().splitlines()[-SHOWN_LINES:])


def main() -> int:
    """Entry point; 0 where every mutation is caught."""
    parser = argparse.ArgumentParser(description="Make each mutation of tests/mutations.toml and run its test.")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="mutations whose name, file or test holds this")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="tests run at once (%(default)s)")
    options = parser.parse_args()
    mutations = [
        mutation
        for mutation in read_mutations(ROOT / MUTATIONS)
        if any(options.only in text for text in (mutation.name, mutation.file, mutation.test))
    ]
    if not mutations or options.jobs < 1:
        raise SystemExit(f"--only={options.only} --jobs={options.jobs}: there is nothing to do.")
    check_places(mutations)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="grouprl-mutate-") as folder:
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(min(options.jobs, len(mutations))):
            copy = Path(folder) / f"copy-{number}"
            copy_repository(copy)
            check_imports(copy)
            copies.put(copy)
        tests = list(dict.fromkeys(mutation.test for mutation in mutations))
        code, output = pytest(copy, tests, TIMEOUT_S * len(tests))
        if code != 0:
            raise SystemExit(f"The tests must pass without a mutation:\n{tail(output)}")
        print(f"{len(tests)} tests pass without a mutation ({time.monotonic() - started:.0f} s)", flush=True)
        outcomes = run_all(mutations, copies, options.jobs)
    caught = sum(outcome.state == "caught" for outcome in outcomes)
    print(f"caught {caught} of {len(mutations)} ({time.monotonic() - started:.0f} s)")
    return 0 if caught == len(mutations) else 1


def run_all(mutations: list[Mutation], copies: queue.Queue[Path], jobs: int) -> list[Outcome]:
    """Try all mutations, each in a copy that no other is using, and print each outcome as it comes."""
    stopped = threading.Event()

    def work(mutation: Mutation) -> Outcome:
        if stopped.is_set():
            return Outcome(mutation, "broken", 0.0, "not run")
        copy = copies.get()
        try:
            return try_mutation(mutation, copy)
        finally:
            copies.put(copy)

    outcomes = []
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for future in as_completed([pool.submit(work, mutation) for mutation in mutations]):
                outcome = future.result()
                outcomes.append(outcome)
                print(f"{outcome.state:<8} {outcome.seconds:5.1f} s  {outcome.mutation.name}", flush=True)
                if outcome.state != "caught":
                    print(f"  {outcome.mutation.file}, {outcome.mutation.test}")
                if outcome.reason:
                    print(f"  {outcome.reason}", flush=True)
        except BaseException:
            stopped.set()
            for process in list(running):
                end(process)
            raise
    return outcomes


if __name__ == "__main__":
    raise SystemExit(main())
