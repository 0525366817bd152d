"""What results say about the machine and the versions, without paths or names; and how they are written."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "transformers", "trl", "lightning", "peft", "accelerate")


def restart_with_threads(threads: int) -> None:
    """Start this program again where OpenMP has another number of threads, which it takes when torch is imported."""
    wanted = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    wanted |= {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.environ.update(wanted)
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # TRL refuses more than one in a process
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def surroundings(device: str, threads: int) -> dict[str, Any]:
    """Date, command, hardware, versions, commit and load, at the start."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "command": _command(),
        "hardware": hardware(device),
        "threads": threads,
        "os": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in _PACKAGES},
        "commit": commit(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def hardware(device: str) -> str:
    """Processor or GPU, and memory."""
    import torch

    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) / 2**20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    text = f"{os.cpu_count()} cores of {cpu}, {memory:.0f} GiB"
    if device == "cpu":
        return text
    gpu = torch.cuda.get_device_properties(0)
    return f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB (host: {text})"


def commit() -> str:
    """Git commit of this checkout, and whether files were changed since; folders of results do not count."""
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "--short=12", "HEAD").strip()
        changed = _git(here.parent, "status", "--porcelain", "--", ".", ":!benchmarks/results").strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + (" with uncommitted changes" if changed else "")


def heading(title: str, found: dict[str, Any]) -> list[str]:
    """First lines of a report."""
    versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
    return [
        f"# {title}",
        "",
        f"    {found['command']}",
        "",
        f"{found['date']}. {found['hardware']}; {found['threads']} thread(s). {found['os']}, Python {found['python']}, "
        f"{versions}. Commit {found['commit']}. Load average at the start: "
        f"{', '.join(map(str, found['load_average']))}.",
        "",
    ]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table: the first column left, the others right, padded to be read as text too."""
    widths = [max(len(row[i]) for row in (columns, *rows)) for i in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        rest = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return f"| {' | '.join([first, *rest])} |"

    rule = [("-" * (width - 1) + ":") if i else "-" * width for i, width in enumerate(widths)]
    return [line(columns), f"| {' | '.join(rule)} |", *map(line, rows), ""]


def write(folder: Path, name: str, lines: Sequence[str], data: dict[str, Any]) -> list[Path]:
    """Write a report and its numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.md", folder / f"{name}.json"]
    paths[0].write_text("\n".join(lines).rstrip() + "\n")
    paths[1].write_text(json.dumps(data, indent=1) + "\n")
    return paths


def _command() -> str:
    """The command line, without the folders of this machine."""
    root, words = Path(__file__).parent.parent, sys.orig_argv[1:]
    if "--out" in words:
        at = words.index("--out")
        words = words[:at] + words[at + 2 :]
    return shlex.join(["python", *(os.path.relpath(word, root) if os.path.isabs(word) else word for word in words)])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []
