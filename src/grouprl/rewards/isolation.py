"""Running a user's reward function in a process of its own, which can be killed.

The worker imports the function itself and speaks JSON over a pipe: it can hang, leak, crash or run out of memory
without harm to the run. Nothing but numbers comes back.
"""

from __future__ import annotations

import atexit
import difflib
import functools
import hashlib
import importlib.util
import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from grouprl.answers.process import JsonProcess, end_with_parent, ended_after, limit_memory, own_pipes
from grouprl.batch import Prompts
from grouprl.rewards.base import Completions, Rewards, as_rewards, described
from grouprl.rewards.scoring import RewardTimeoutError

START_TIMEOUT_S = 120.0
_OF_A_FILE = "grouprl_file_"
"""Begins the name of a module that was read from a file, and its place goes on: two files may have one name."""


class RewardWorkerError(RuntimeError):
    """What went wrong in the worker, in the words of its exception."""


class IsolatedReward:
    """A reward that runs in a killable worker process with limits on time and memory."""

    def __init__(
        self, target: str, arguments: Mapping[str, Any] | None = None, *, timeout_s: float = 10.0, memory_mb: int = 2048
    ) -> None:
        """Start nothing yet: the worker is started by the first call, and again after it was killed.

        Args:
            target: ``package.module.name`` of a function or class, or ``path/to/file.py:name``.
            arguments: Keyword arguments: bound to a function, given to a class.
            timeout_s: Seconds a call may take.
            memory_mb: Memory in MiB that the worker may take beyond what its imports need (Linux).
        """
        self.target, self.arguments = target, dict(arguments or {})
        self.timeout_s, self.memory_mb = timeout_s, memory_mb
        self._worker: JsonProcess | None = None
        atexit.register(self.close)

    def __call__(self, completions: Completions, prompts: Prompts) -> Rewards:
        """Rewards of the function, or `RewardTimeoutError`, or `RewardWorkerError` with the function's own error."""
        request = {"completions": [list(row) for row in completions], "prompts": asdict(prompts)}
        if self._worker is None or not self._worker.is_alive:
            self._start()
        try:
            answer = self._ask(request, self.timeout_s)
        except TimeoutError as error:
            self.close()
            raise RewardTimeoutError(
                f"the reward did not return within {self.timeout_s:g} s (reward.timeout_s)"
            ) from error
        return _from_json(answer, completions)

    def close(self) -> None:
        """Kill the worker."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()

    def _start(self) -> None:
        self.close()
        command = [sys.executable, "-m", "grouprl.rewards.isolation"]
        limits = {"memory_mb": self.memory_mb, "timeout_s": self.timeout_s}
        try:
            self._worker = JsonProcess(command, {**os.environ, "OMP_NUM_THREADS": "1"})
            self._ask({**limits, "target": self.target, "arguments": self.arguments}, START_TIMEOUT_S)
        except OSError as error:
            self.close()
            raise RewardWorkerError(f"the reward's process did not start: {error}") from error

    def _ask(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The worker's answer; a worker that did not give one is killed, and the next call starts another."""
        assert self._worker is not None
        try:
            answer: dict[str, Any] = self._worker.exchange(message, timeout_s)
        except EOFError as error:
            self.close()
            raise RewardWorkerError(f"the reward's process ended ({error})") from error
        if "error" in answer:
            if "ready" in answer:  # it has said why it cannot score, and ends
                self.close()
            raise RewardWorkerError(answer["error"])
        return answer


def load_object(target: str) -> Any:
    """The object that ``package.module.name`` or ``path/to/file.py:name`` names."""
    if ".py:" in target:
        path, _, name = target.rpartition(":")
        return _member(_module_of(path), name)
    if "" not in sys.path:
        sys.path.insert(0, "")
    module_name, _, name = target.rpartition(".")
    return _member(importlib.import_module(module_name), name)


def importable(target: str) -> str:
    """``package.module.name`` of an object that may be named by its file, for what takes no files."""
    if ".py:" not in target:
        return target
    path, _, name = target.rpartition(":")
    place = os.path.realpath(os.path.expanduser(path))
    written = os.stat(place).st_mtime_ns if os.path.isfile(place) else 0
    alias = f"{_OF_A_FILE}{hashlib.sha256(f'{place} {written}'.encode()).hexdigest()[:16]}"
    if alias not in sys.modules:  # several components of a file share it
        sys.modules[alias] = _module_of(path)
    return f"{alias}.{name}"


def _module_of(path: str) -> ModuleType:
    path = os.path.expanduser(path)
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise ImportError(f"{path}: there is no such file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _member(module: ModuleType, name: str) -> Any:
    """What a module calls by a name, or an `ImportError` with the names of its own."""
    if hasattr(module, name):
        return getattr(module, name)
    own = [
        k for k, v in vars(module).items() if not k.startswith("_") and getattr(v, "__module__", "") == module.__name__
    ]
    close = difflib.get_close_matches(name, own, n=1)
    hint = f". Did you mean {close[0]}?" if close else ""
    raise ImportError(
        f"{module.__name__} has no {name}; it has: {', '.join(sorted(own)) or 'nothing of its own'}{hint}"
    )


def _to_json(rewards: Rewards) -> dict[str, Any]:
    values = rewards.values.masked_fill(~rewards.valid, math.nan)
    return {"values": values.tolist(), "parts": {name: part.tolist() for name, part in rewards.parts.items()}}


def _from_json(answer: Mapping[str, Any], completions: Completions) -> Rewards:
    rewards = as_rewards(answer["values"], completions)
    parts = {name: torch.tensor(part) for name, part in answer["parts"].items()}
    return Rewards(rewards.values, rewards.valid, parts, rewards.failures)


def _work() -> None:
    """The worker's loop."""
    requests, answers = own_pipes()

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()

    end_with_parent()
    torch.set_num_threads(1)
    setup = json.loads(requests.readline())
    try:
        found = load_object(setup["target"])
        arguments = setup["arguments"]
        score = found(**arguments) if isinstance(found, type) else functools.partial(found, **arguments)
    except Exception as error:  # noqa: BLE001 - told to the run
        say({"ready": False, "error": f"{type(error).__name__}: {error}"})
        return
    limit_memory(setup["memory_mb"], beyond_use=True)
    say({"ready": True})
    for line in requests:
        request = json.loads(line)
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in request["prompts"].items()}
        try:
            with ended_after(2 * setup["timeout_s"] + 1):
                rewards = as_rewards(score(request["completions"], Prompts(**fields)), request["completions"])
            say(_to_json(rewards))
        except BaseException as error:  # noqa: BLE001 - told to the run, SystemExit included
            say({"error": described(error)})


if __name__ == "__main__":
    _work()
