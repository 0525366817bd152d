"""Weights from a folder or hub id: where the library would report a fault and go on with noise, loading is refused."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from grouprl.policy.agreement import check_numbers
from grouprl.policy.folder import ADAPTER_CONFIG

_log = logging.getLogger(__name__)
_LIBRARY = logging.getLogger("transformers.modeling_utils")


def load_model(path: str, *, what: str = "", **arguments: Any) -> PreTrainedModel:
    """A causal language model, whole; an adapter folder is merged into its base, which may be one itself.

    Args:
        path: Local folder or hub id.
        what: What messages call it; the path where it is empty.
        arguments: For ``from_pretrained`` of transformers.

    Raises:
        ValueError: Weights are missing, are of another shape or of another model, or cannot be read. Those that no part
            of the model asks for are named in a warning.
    """
    what = what or f"policy.path={path}"
    if (Path(path) / ADAPTER_CONFIG).is_file():
        return _merged(path, what, arguments)
    with explained(what), _without_report():
        options = {"output_loading_info": True, "ignore_mismatched_sizes": True, **arguments}
        loaded: Any = AutoModelForCausalLM.from_pretrained(path, **options)
    model, report = loaded
    if getattr(model, "_hf_peft_config_loaded", False):
        raise ValueError(
            f"{what}: an adapter on the hub. Download it (hf download {path} --local-dir DIR) and give DIR."
        )
    _check_report(model, report, what)
    check_numbers(model, what)
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None and not quantizer.is_serializable():
        method = getattr(quantizer.quantization_config, "quant_method", "a method of its own")
        raise ValueError(
            f"{what}: its weights are quantised ({getattr(method, 'value', method)}) in a form that cannot be saved "
            "after training. Give the folder of a model in float32 or bfloat16."
        )
    return model


def _check_report(model: PreTrainedModel, report: Mapping[str, Collection[Any]], what: str) -> None:
    """Refuse a model of which a part is noise, or that is not the one its weights are of."""
    kind, remedy = (
        type(model).__name__,
        "Give the folder of a whole model, with the config.json that was saved with it.",
    )
    if mismatched := sorted(report["mismatched_keys"]):
        name, found, wanted = mismatched[0][:3]
        more = f", and {len(mismatched) - 1} more do not fit" if len(mismatched) > 1 else ""
        raise ValueError(
            f"{what}: its weight {name} has shape {list(found)}, and {kind} by its config.json {list(wanted)}{more}. "
            f"{remedy}"
        )
    if missing := report["missing_keys"]:
        raise ValueError(f"{what}: its weights lack {_listed(missing)} of the {kind} of its config.json. {remedy}")
    unexpected = report["unexpected_keys"]
    if inside := [name for name in unexpected if _is_inside_of_layers(name, model)]:
        raise ValueError(
            f"{what}: its weights hold {_listed(inside)} inside of layers, where the {kind} of its config.json has "
            f"none: they are another model's. {remedy}"
        )
    if unexpected:
        _log.warning("%s: its weights hold %s, which %s does not use.", what, _listed(unexpected), kind)


def _is_inside_of_layers(name: str, model: PreTrainedModel) -> bool:
    """Whether a tensor would be of a further layer, or of a further part of one."""
    stacks = [stack for stack, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    stacks += [stack.removeprefix(f"{model.base_model_prefix}.") for stack in stacks]
    return any(name.startswith(f"{stack}.") for stack in stacks)


def _merged(path: str, what: str, arguments: Mapping[str, Any]) -> PreTrainedModel:
    """The base of an adapter, with the adapter merged into it."""
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    with explained(what):
        config, weights = PeftConfig.from_pretrained(path), load_peft_weights(path, device="cpu")
    place = str(config.base_model_name_or_path)
    base = load_model(place, what=f"{what}: its base {place}", **{**arguments, "revision": config.revision})
    embeddings = tuple(f"{name}{inner}.weight" for name in _embeddings(base) for inner in ("", ".base_layer"))
    brought = [len(weight) for name, weight in weights.items() if name.endswith(embeddings)]
    if brought and brought[0] > len(base.get_input_embeddings().weight):  # type: ignore[arg-type]
        base.resize_token_embeddings(brought[0])  # for tokens that the base does not have
    with explained(what), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing keys, which are refused below
        model = PeftModel.from_pretrained(base, path, config=config)
        own = get_peft_model_state_dict(model, save_embedding_layers=False)
    missing = own.keys() - weights.keys()
    unexpected = {name for name in weights.keys() - own.keys() if not name.endswith(embeddings)}
    if missing or unexpected:
        found = f"lack {_listed(missing)}" if missing else f"hold {_listed(unexpected)}"
        raise ValueError(
            f"{what}: its adapter weights {found}, which {ADAPTER_CONFIG} {'asks' if missing else 'does not ask'} for "
            f"on the base {place}. Give weights, {ADAPTER_CONFIG} and base that were saved together."
        )
    with explained(what):
        merged: PreTrainedModel = model.merge_and_unload(safe_merge=True)  # type: ignore[operator]
    return merged.requires_grad_(True)  # which PEFT takes from all but the adapter's weights


def _embeddings(model: PreTrainedModel) -> list[str]:
    """Names of the modules that hold a row for each token."""
    wanted = (model.get_input_embeddings(), model.get_output_embeddings())
    return [name for name, module in model.named_modules() if any(module is one for one in wanted)]


def _listed(names: Iterable[str]) -> str:
    """How many tensors, and the first of them."""
    ordered = sorted(names)
    count = f"{len(ordered)} tensors" if len(ordered) > 1 else "1 tensor"
    return f"{count} ({', '.join(ordered[:3])}{', ...' if len(ordered) > 3 else ''})"


@contextmanager
def explained(what: str) -> Iterator[None]:
    """What a library raises about a folder becomes one line that names it."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - a foreign folder can make the libraries raise anything
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{what}: cannot be loaded ({text[:300]}). Save or download it again.") from None


@contextmanager
def _without_report() -> Iterator[None]:
    """Without the table that transformers prints: `_check_report` tells of it what matters."""

    def other(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    _LIBRARY.addFilter(other)
    try:
        yield
    finally:
        _LIBRARY.removeFilter(other)
