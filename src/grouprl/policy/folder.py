"""Checks of a local model folder that need neither torch nor the weights."""

from __future__ import annotations

from pathlib import Path

from grouprl.files import read_json

_CONTEXT = ("max_position_embeddings?", "n_positions?")
EMBEDDED = {"tiny": "model", "tiny_tools": "tool_model"}
"""Policies that ship with the package, and their folders beside the embedded task."""


def check_policy_folder(path: str) -> None:
    """Refuse a local folder that is no model folder or has no tokenizer; needs neither torch nor the weights."""
    if path in EMBEDDED:
        return
    folder = Path(path).expanduser()
    looks_local = folder.is_absolute() or path.startswith(("./", "../", "~")) or folder.exists()
    if not looks_local and "/" in path:
        return
    if not folder.is_dir():
        raise ValueError(
            f"policy.path={path}: there is no such folder. Give a Hugging Face folder or a hub id (OWNER/NAME)."
        )
    names = {file.name for file in folder.iterdir()}
    if not names & {"config.json", "adapter_config.json"}:
        hint = f" Did you mean {folder / 'policy'}?" if (folder / "policy" / "config.json").is_file() else ""
        raise ValueError(f"policy.path={path}: the folder holds no config.json, so it is no model folder.{hint}")
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json"}:
        raise ValueError(
            f"policy.path={path}: the folder has no tokenizer (tokenizer.json). "
            "Save it there: AutoTokenizer.from_pretrained(BASE).save_pretrained(FOLDER)."
        )


def model_context(path: str) -> int | None:
    """The context length a local model folder declares, read from its config.json, or None."""
    config = read_json(
        Path(path) / "config.json", dict.fromkeys(_CONTEXT, (int, type(None))), remedy="Put back the model's own"
    )
    if config is None:
        return None
    return config.get("max_position_embeddings", config.get("n_positions"))
