"""Runs command lines, each in a fork of this process, which has imported the commands and no torch.

``python commands.py LIST.json`` prints for each list of words, of which the first names the command, its exit status,
its output and whether torch was imported, as JSON.
"""

import json
import os
import sys
from pathlib import Path

from grouprl.cli import commands, compare, evaluate, study, train, verify  # noqa: F401 - imported once, before forking


def run(words):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.close(reading)
        sys.argv = [f"{words[0]}.py", *words[1:]]
        code = 0
        try:
            main = study.main if words[0] == "study" else getattr(commands, words[0])
            code = main() or 0
        except SystemExit as error:
            code = error.code or 0
        except BaseException:  # noqa: BLE001 - any is a traceback, which is what is looked for
            sys.excepthook(*sys.exc_info())
            code = 70
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(200 + code if "torch" in sys.modules else code)
    os.close(writing)
    with os.fdopen(reading, errors="replace") as pipe:
        output = pipe.read()
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return {"status": code % 200, "torch": code >= 200, "output": output}


if __name__ == "__main__":
    assert "torch" not in sys.modules
    print(json.dumps([run(words) for words in json.loads(Path(sys.argv[1]).read_text())]))
