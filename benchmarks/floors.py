"""What the device itself allows: measured bandwidth and matrix products, and the least a step can take with them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from sides import Setting
from workload import Clock, Size, build_prompts, completion_lengths

from grouprl.policy.engine.products import product
from grouprl.policy.engine.shared import shared_tokens


def measure_rates(setting: Setting) -> dict[str, float]:
    """Bytes a second of a large copy or sum (the faster), and FLOP a second of a large matrix product
    (of the faster of torch's and, on a CPU, oneDNN's).

    By the clock that the sides are timed with.
    """
    device, gpu = setting.device, setting.device != "cpu"
    now = Clock(device, wall=setting.wall).now
    dtype = torch.bfloat16 if setting.bf16 else torch.float32
    source = torch.ones((2**32 if gpu else 2**28) // dtype.itemsize, dtype=dtype, device=device)
    target = torch.empty_like(source)
    held = source.numel() * dtype.itemsize
    copying, reading = _best(lambda: target.copy_(source), now), _best(source.sum, now)
    width = 8192 if gpu else 1024
    del source, target
    a, b = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    rates = {
        "bytes_per_s": max(2 * held / copying, held / reading),
        "flop_per_s": 2 * width**3 / min(_best(lambda: a @ b, now), _best(lambda: product(a, b), now)),
    }
    if setting.bf16 and not gpu:
        a, b = a.float(), b.float()
        rates["wide_flop_per_s"] = 2 * width**3 / _best(lambda: product(a, b), now)
    return rates


def floors(size: Size, setting: Setting, rates: dict[str, float], iteration: int = 0) -> dict[str, float]:
    """Least seconds of the phases of an iteration.

    - ``decode``: the weights are read once for each token of the longest completion, in the dtype of the arithmetic.
    - ``decode with cache``: and so are the keys and values of the rows that still go on.
    - ``training``: 6 FLOP a weight and token (4 where weights are frozen), 2 more with gradient checkpointing (the
      forward pass again), each prompt taken once for its group, what all prompts begin with once for all, and the head
      for completions alone; attention itself is left out.

    On a CPU under bfloat16 the head is float32.

    A model that fits a CPU's cache may be faster than the first two.
    """
    head_dim = size.hidden // size.heads
    attention = size.hidden * head_dim * (2 * size.heads + 2 * size.kv_heads)
    layers = size.layers * (attention + 3 * size.hidden * size.intermediate)
    head = size.hidden * size.vocabulary
    made = build_prompts(size).token_ids
    prompts, shared = torch.tensor([len(ids) for ids in made]), shared_tokens(made)
    lengths, itemsize = completion_lengths(size, iteration), 2 if setting.bf16 else 4
    wide_head = setting.bf16 and setting.device == "cpu"  # a CPU has no product of bfloat16 that answers in float32
    weights = layers * itemsize + head * (4 if wide_head else itemsize)
    # A row with a prompt of p tokens reads the caches of p + 1, p + 2, ... tokens.
    rows = prompts.repeat_interleave(size.group)
    cached = int((lengths * rows + lengths * (lengths + 1) // 2).sum())
    cache = cached * 2 * size.layers * size.kv_heads * head_dim * itemsize
    read = weights * int(lengths.max())
    of_layers = layers * int(prompts.sum() - shared * (len(prompts) - 1) + lengths.sum())
    of_head = head * int(lengths.sum())
    passes = (6 - 2 * setting.lora + 2 * setting.checkpointing) * size.epochs
    return {
        "decode": read / rates["bytes_per_s"],
        "decode with cache": (read + cache) / rates["bytes_per_s"],
        "training": passes
        * (of_layers / rates["flop_per_s"] + of_head / rates["wide_flop_per_s" if wide_head else "flop_per_s"]),
    }


def _best(function: Callable[[], object], now: Callable[[], float], repeats: int = 20) -> float:
    """Least seconds of some calls, after two that do not count."""
    times = []
    for _ in range(repeats + 2):
        started = now()
        function()
        times.append(now() - started)
    return min(times[2:])
