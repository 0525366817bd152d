"""Advantages of one's own: tried before anything is sampled, and what they return is looked at."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grouprl.advantages.base import Advantage, Parts

WANTED = "advantage(rewards, *, valid, parts) of rewards [prompts, group] returns a tensor of that shape"


class AdvantageError(ValueError):
    """An advantage cannot be called, or returns something else than advantages."""


def advantages_of(advantage: Advantage | Callable[..., Any], rewards: Tensor, valid: Tensor, parts: Parts) -> Tensor:
    """The advantages of rewards, [prompts, group].

    Args:
        advantage: An estimator, or a function that takes ``rewards`` alone or some of the others beside it.
        rewards: One reward per completion, [prompts, group].
        valid: False where a completion could not be scored.
        parts: Named parts of the rewards.

    Raises:
        AdvantageError: What it returns is no tensor of that shape, or not finite; the text says where it is written.
    """
    taken = _taken(advantage)
    given: dict[str, Any] = {key: value for key, value in (("valid", valid), ("parts", parts)) if key in taken}
    found: Any = advantage(rewards, **given)
    try:
        found = torch.as_tensor(found, device=rewards.device)
    except (TypeError, ValueError, RuntimeError):
        raise AdvantageError(f"{place_of(advantage)} returned {type(found).__name__}. {WANTED}.") from None
    if found.shape != rewards.shape:
        raise AdvantageError(
            f"{place_of(advantage)} returned shape {list(found.shape)} for rewards {list(rewards.shape)}. {WANTED}."
        )
    if not bool(found.isfinite().all()):
        raise AdvantageError(
            f"{place_of(advantage)} returned NaN or infinity, such as for the rewards "
            f"{rewards[~found.isfinite().all(-1)][0].tolist()}: give 0 where a group has nothing to tell."
        )
    return found if found.is_floating_point() else found.to(torch.get_default_dtype())


def try_advantage(advantage: Advantage | Callable[..., Any]) -> None:
    """Call an advantage of one's own on a few rewards, so that it fails before anything is sampled.

    Raises:
        AdvantageError: It cannot be called, or returns something else than advantages.
    """
    if type(advantage).__module__.startswith("grouprl.") or os.environ.get("LOCAL_RANK", "0") != "0":
        return  # of several processes the first says it
    if not callable(advantage):
        raise AdvantageError(f"{place_of(advantage)} cannot be called. {WANTED}.")
    for rewards in ([[1.0, 0.0, 0.5, 0.25], [0.0, 0.0, 1.0, 0.0]], [[1.0] * 4, [0.0] * 4]):
        total = torch.tensor(rewards)
        try:
            advantages_of(advantage, total, torch.ones_like(total, dtype=torch.bool), {"correct": total})
        except AdvantageError:
            raise
        except Exception as error:
            raise AdvantageError(
                f"{place_of(advantage, error)} fails on the rewards {rewards}: "
                f"{type(error).__name__}: {error}. {WANTED}."
            ) from error


def place_of(component: object, error: BaseException | None = None) -> str:
    """What messages call a component: its name with file and line, where an error came up in it."""
    inner: Any = getattr(component, "func", component)  # of a partial
    made = inner if inspect.isroutine(inner) or inspect.isclass(inner) else type(inner)
    name = getattr(made, "__qualname__", repr(component))
    try:
        file, line = inspect.getsourcefile(made), inspect.getsourcelines(made)[1]
    except (TypeError, OSError):
        return name
    trace = error.__traceback__ if error is not None else None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return f"{name} ({Path(str(file)).name}, line {line})"


def _taken(advantage: object) -> set[str]:
    """Which keywords it takes."""
    try:
        parameters = inspect.signature(advantage).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return {"valid", "parts"}
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return {"valid", "parts"}
    return set(parameters)
