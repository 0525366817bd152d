"""Runs command lines of train.py, each in a fork of this one process, and kills some of them at a given instant.

``python forked.py`` reads requests from its standard input, a line of JSON each: ``folder`` to work in, ``environment``
and ``jobs``, where each job has ``arguments``, maybe ``script`` (train or evaluate) and maybe ``kill`` (``where``,
``call``, ``signal``, ``delay_s`` or ``torn``; ``whole_sweep``: not the arm but the sweep is sent it). It answers each
with a line: exit statuses, and how often each place was passed, as JSON.
"""

import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import lightning as L

from grouprl.cli import build, evaluate, train  # noqa: F401 - imported once, before forking
from grouprl.policy.policy import Policy
from grouprl.sampling.decoding import Decoder
from grouprl.training import checkpoint

PLACES = {
    "loading": (Policy, "__init__"),
    "sampling": (Decoder, "_draw"),
    "training": (Policy, "logprobs"),
    "writing": (L.Trainer, "save_checkpoint"),
    "renaming": (checkpoint, "_sync"),
}


def watch(kill, counts):
    """Count the calls of every place, and send the signal at the one that was drawn."""

    def hook(place, owner, name):
        original = getattr(owner, name)

        def called(*arguments, **options):
            counts[place] += 1
            if kill and kill["where"] == place and kill["call"] == counts[place]:
                if kill.get("whole_sweep"):
                    os.kill(os.getppid(), kill["signal"])
                    time.sleep(0.5)  # until the sweep has passed it on
                elif kill.get("torn"):
                    tear(original, *arguments)
                    os.kill(os.getpid(), kill["signal"])
                elif delay := kill.get("delay_s", 0.0):
                    threading.Thread(target=shoot, args=(kill["signal"], delay), daemon=True).start()
                else:
                    os.kill(os.getpid(), kill["signal"])
            return original(*arguments, **options)

        setattr(owner, name, called)

    for place, (owner, name) in PLACES.items():
        hook(place, owner, name)


def tear(save, trainer, path):
    """Leave what a write to a slow disk leaves when it is cut off: the first half of the file."""
    save(trainer, path)
    os.truncate(path, Path(path).stat().st_size // 2)


def shoot(number, delay):
    time.sleep(delay)
    os.kill(os.getpid(), number)


def run(job, folder, environment):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None  # as the environment has it
        counts = dict.fromkeys(PLACES, 0)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        watch(job.get("kill"), counts)
        code = 1
        try:
            script = job.get("script", "train")
            sys.argv = [f"{script}.py", *job["arguments"]]
            {"train": train, "evaluate": evaluate}[script].main()
            code = 0
        except SystemExit as error:
            code = error.code or 0
        finally:
            os.write(writing, json.dumps(counts).encode())
            sys.stdout.flush()
            os._exit(code)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    counts = os.read(reading, 4096)
    os.close(reading)
    return {"status": os.waitstatus_to_exitcode(status), "counts": json.loads(counts) if counts else None}


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever started the tests
    for line in sys.stdin:
        request = json.loads(line)
        outcomes = [run(job, request["folder"], request["environment"]) for job in request["jobs"]]
        print(json.dumps(outcomes), flush=True)
