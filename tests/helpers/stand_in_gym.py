"""What the loader uses of reasoning_gym, with two small generators: one with a verifier that evaluates, one without."""

import random
import re
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace


class ProceduralDataset:
    def __init__(self, config):
        self.config = config

    def score_answer(self, answer, entry):
        return float(answer == entry["answer"])


@dataclass
class MakesConfig:
    least: int = 2
    most: int = 9
    as_tuple: bool = False
    seed: int | None = None
    size: int = 500

    def validate(self):
        assert self.most >= self.least, "most must be >= least"


class Makes(ProceduralDataset):
    """A number is to be made out of two: many sums and products are right."""

    def __getitem__(self, index):
        drawn = random.Random(self.config.seed + index)
        pair = [drawn.randint(self.config.least, self.config.most) for _ in range(2)]
        numbers = {"numbers": tuple(pair) if self.config.as_tuple else pair}
        return {"question": f"Make {sum(pair)} of {pair}.", "answer": f"{pair[0]} + {pair[1]}", "metadata": numbers}

    def score_answer(self, answer, entry):
        return made_score(answer, entry, tuple if self.config.as_tuple else list)


def made_score(answer, entry, kind=list):
    if not isinstance(entry["metadata"]["numbers"], kind):
        return 0.05
    try:
        return 1.0 if eval(answer) == sum(entry["metadata"]["numbers"]) else 0.05
    except Exception:  # noqa: BLE001 - as the library's
        return 0.01


@dataclass
class EchoConfig:
    seed: int | None = None
    size: int = 500

    def validate(self):
        pass


class Echo(ProceduralDataset):
    """Twenty problems and no more."""

    def __getitem__(self, index):
        number = random.Random(self.config.seed + index).randrange(20)
        return {"question": f" Say {number}. ", "answer": str(number), "metadata": {}}


class Levels:
    def __init__(self):
        self.attributes = {"most": SimpleNamespace(levels=[9, 99]), "least": SimpleNamespace(levels=[2])}

    def set_global_level(self, level):
        self.level = level

    def generate_configuration(self):
        return MakesConfig(most=[9, 99][self.level])


def put_in_place(monkeypatch):
    """Have it imported as reasoning_gym, here and in the sandbox."""
    parts = {
        "": {},
        ".factory": {
            "DATASETS": {"makes": (Makes, MakesConfig), "echo": (Echo, EchoConfig), "composite": (Echo, EchoConfig)},
            "has_curriculum": lambda name: name == "makes",
            "create_curriculum": lambda name: Levels(),
        },
        ".dataset": {"ProceduralDataset": ProceduralDataset},
    }
    for part, names in parts.items():
        module = ModuleType(f"reasoning_gym{part}")
        module.__spec__ = ModuleSpec(module.__name__, None)
        module.__path__ = []
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    sys.modules["reasoning_gym"].factory = sys.modules["reasoning_gym.factory"]
    source = re.search(r"^def made_score.*?(?=^@)", Path(__file__).read_text(), re.DOTALL | re.MULTILINE).group()
    kind = 'tuple if gold["settings"]["as_tuple"] else list'
    library = f"{source}\ndef verifier(gold):\n    return lambda answer, entry: made_score(answer, entry, {kind})\n"
    from grouprl.answers import verifiers

    monkeypatch.setattr(verifiers, "LIBRARY", library)
    monkeypatch.setattr(verifiers, "_known", {})
