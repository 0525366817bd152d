"""Checks of a local model folder that need neither torch nor the weights."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from grouprl.data.checks import place
from grouprl.files import json_object
from grouprl.policy.fetch import MODELS, Source, located

EMBEDDED = {"tiny": "model", "tiny_b": "model_b", "tiny_c": "model_c", "tiny_tools": "tool_model"}
"""Policies that ship with the package, and their folders beside the embedded task."""
CONFIG, ADAPTER_CONFIG, WEIGHTS, INDEX = (
    "config.json",
    "adapter_config.json",
    "model.safetensors",
    "model.safetensors.index.json",
)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
_OPTIONAL = ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_AGAIN = "Save or download it again."


def check_policy_folder(path: str) -> None:
    """Refuse a local folder that is no model folder or has no tokenizer, or a file that is not what its name says.

    Needs neither torch nor the weights, of which only the headers are read.

    Args:
        path: Local folder, hub id, or the name of an embedded policy.

    Raises:
        ValueError: It is; the text names the file and the remedy.
    """
    if path in EMBEDDED or path in MODELS:
        if (Path(path) / CONFIG).is_file():
            raise ValueError(
                f"policy.path={path}: a policy of this package has that name, and so has a model folder here. Write "
                f"./{path} for the folder, or go elsewhere for the policy."
            )
        return
    if _is_local(path) or "/" not in path:
        _check_folder(f"policy.path={path}", place(path), ())


def local_folder(path: str, source: Source = "auto") -> Path:
    """Where a policy lies on this machine, if it does.

    Args:
        path: Local folder, hub id, or a name: of an embedded policy, or of one of `grouprl.policy.fetch.MODELS`.
        source: Of a policy that is fetched.
    """
    if path in EMBEDDED:
        from grouprl.data import tiny

        return Path(tiny.__file__).parent / EMBEDDED[path]
    found = located(path, source) if path in MODELS else None
    return found or place(path)


def _is_local(path: str) -> bool:
    folder = Path(os.path.expanduser(path))
    return folder.is_absolute() or path.startswith(("./", "../", "~")) or os.path.exists(folder)


def _check_folder(what: str, folder: Path, adapters: tuple[Path, ...]) -> None:
    """The checks of a folder, and of the base of an adapter.

    Args:
        what: What messages call it.
        folder: The folder.
        adapters: Folders of adapters that are put on it.
    """
    if not folder.is_dir():
        raise ValueError(f"{what}: there is no such folder. Give a Hugging Face folder or a hub id (OWNER/NAME).")
    names = {file.name for file in folder.iterdir()}
    if not names & {CONFIG, ADAPTER_CONFIG}:
        hint = f" Did you mean {folder / 'policy'}?" if (folder / "policy" / CONFIG).is_file() else ""
        raise ValueError(f"{what}: the folder holds no config.json, so it is no model folder.{hint}")
    if not adapters and not names & set(_TOKENIZERS):
        raise ValueError(
            f"{what}: the folder has no tokenizer (tokenizer.json). "
            "Save it there: AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER)."
        )
    for name in _OPTIONAL:
        _object(what, folder / name)
    if ADAPTER_CONFIG in names:
        _check_adapter(what, folder, (*adapters, folder.resolve()))
        return
    config = _object(what, folder / CONFIG)
    if not isinstance(config.get("model_type"), str) and "auto_map" not in config:
        raise ValueError(f"{what}: {CONFIG} names no model_type. {_AGAIN}")
    _check_weights(what, folder)
    eos = _object(what, folder / "generation_config.json").get("eos_token_id")
    if not all(isinstance(token, int) for token in (eos if isinstance(eos, list) else [eos or 0])):
        raise ValueError(f"{what}: generation_config.json has eos_token_id={eos!r}. Give a number, or several.")


def weights_in(path: str, source: Source = "auto") -> int | None:
    """How many weights a policy has, from the headers of its files; None where they are not here.

    Args:
        path: As for `local_folder`.
        source: As for `local_folder`.
    """
    from safetensors import SafetensorError, safe_open

    with contextlib.suppress(ValueError):  # which is told where the folder is checked
        base = _object("", local_folder(path, source) / ADAPTER_CONFIG).get("base_model_name_or_path")
        path = base if isinstance(base, str) else path
    for name, model in MODELS.items():  # known before it is fetched
        if path in (name, model.hub):
            return model.weights
    folder = local_folder(path, source)
    files = sorted(folder.glob("model*.safetensors")) if folder.is_dir() else []
    total = 0
    for file in files:
        try:
            with safe_open(file, framework="np") as tensors:
                names = tensors.keys()
                total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
        except (SafetensorError, OSError):
            return None
    return total or None


def _check_adapter(what: str, folder: Path, adapters: tuple[Path, ...]) -> None:
    config = _object(what, folder / ADAPTER_CONFIG)
    base = config.get("base_model_name_or_path")
    if not isinstance(config.get("peft_type"), str) or not isinstance(base, str) or not base:
        raise ValueError(f"{what}: {ADAPTER_CONFIG} names no peft_type or no base_model_name_or_path. {_AGAIN}")
    if (folder / "adapter_model.safetensors").is_file():
        _check_header(what, folder / "adapter_model.safetensors")
    elif not (folder / "adapter_model.bin").is_file():
        raise ValueError(f"{what}: the folder holds no adapter_model.safetensors. {_AGAIN}")
    if _is_local(base):
        place = Path(os.path.expanduser(base))
        if place.is_dir() and place.resolve() in adapters:
            raise ValueError(
                f"{what}: {ADAPTER_CONFIG} names the adapter itself as its base. Give base_model_name_or_path."
            )
        _check_folder(f"{what}: its base {base}", place, adapters)


def _check_weights(what: str, folder: Path) -> None:
    """Weights that are there, whole as far as their headers tell."""
    if (folder / WEIGHTS).is_file():
        _check_header(what, folder / WEIGHTS)
        return
    if not (folder / INDEX).is_file():
        raise ValueError(
            f"{what}: the folder holds no weights ({WEIGHTS}). Save them as safetensors: "
            "AutoModelForCausalLM.from_pretrained(BASE).save_pretrained(FOLDER)."
        )
    shards = _object(what, folder / INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(shard, str) for shard in shards.values()):
        raise ValueError(f"{what}: {INDEX} has no weight_map from tensors to files. {_AGAIN}")
    for shard in sorted(set(shards.values())):
        if Path(shard).name != shard or not (folder / shard).is_file():
            raise ValueError(f"{what}: {INDEX} names {shard}, which is not in the folder. {_AGAIN}")
        _check_header(what, folder / shard)


def _check_header(what: str, file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"):
            return
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{what}: {file.name} is damaged or cut off ({error}). {_AGAIN}") from None


def _object(what: str, file: Path) -> Mapping[str, Any]:
    """The JSON object in a file, empty where there is no file."""
    try:
        return json_object(file.read_bytes()) if file.is_file() else {}
    except (ValueError, OSError) as error:
        raise ValueError(f"{what}: {file.name} is no JSON object in UTF-8 ({error}). {_AGAIN}") from None


def fault_of_tokenizer(path: str, folder: Path) -> str | None:
    """Which file of a tokenizer that cannot be loaded is not what its name says, or None where all are."""
    checks: dict[str, Callable[[Path], Any]] = {
        name: lambda file: json_object(file.read_bytes()) for name in ("tokenizer.json", "vocab.json")
    }
    checks["chat_template.jinja"] = lambda file: file.read_text(encoding="utf-8")
    for name, check in checks.items():
        try:
            if (folder / name).is_file():
                check(folder / name)
        except (ValueError, OSError) as error:
            return f"policy.path={path}: {name} cannot be read ({error}). {_AGAIN}"
    return None


def model_context(path: str, source: Source = "auto") -> int | None:
    """The context length that a model on this machine declares, read from its config.json, or None."""
    config = _object(f"policy.path={path}", local_folder(path, source) / CONFIG)
    inner = config.get("text_config")
    return context_of(config) or context_of(inner if isinstance(inner, dict) else {})


def context_of(config: Mapping[str, Any]) -> int | None:
    """The context length that a model's configuration declares, or None.

    Of rotary embeddings that are others for longer texts (longrope) it is the length up to which they are the same:
    beyond, what was sampled token by token is not what the whole text gives.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    rope = rope if isinstance(rope, dict) else {}
    longer = bool({"longrope", "su"} & {rope.get("rope_type"), rope.get("type")})
    places = (rope, config) if longer else (config,)
    first = ("original_max_position_embeddings",) if longer else ()
    keys = (*first, "max_position_embeddings", "n_positions")
    return next((part[key] for part in places for key in keys if isinstance(part.get(key), int)), None)
