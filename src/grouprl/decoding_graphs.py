"""Decode steps of static shapes, captured in CUDA graphs: a GPU would else wait for the CPU to launch each kernel.

A step of R rows that attends over the first C columns of the cache is captured once for each pair of rungs (R, C) of
two ladders, and replayed while rows and columns stay on their rungs. What changes from step to step lies in tensors:
the tokens, the column that is written, the first column that each row sees.

Nothing here needs a GPU but the capture itself: without it the same function is called at each step. The captured path
has not been run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from grouprl.decoding_steps import PlainSteps, StackSteps, Steps
from grouprl.decoding_weights import DecodingWeights
from grouprl.ladder import Ladder
from grouprl.policy import Policy
from grouprl.products import onednn_serves
from grouprl.stack import Stack, say_once

_FUSE_BELOW = 2**28
"""Layers of fewer weights than this are copied into fused matrices for the time of decoding."""
_KEEP_SHARE = 1 / 8
"""Caches and weights stay on the device between two calls, and with them the graphs, up to this share of its memory."""
_WARM_UPS = 2
"""Runs before a capture, in which libraries set themselves up."""

Capture = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""From a function to one that does the same to the same memory, and gives its result in the same memory."""


def steps_of(policy: Policy, prompts: Sequence[Sequence[int]], group: int, limit: int) -> Steps:
    """The fast passes where the policy has them, else the plain ones.

    Args:
        policy: The policy.
        prompts: Tokens of each prompt.
        group: Rows of each prompt.
        limit: New tokens at most.
    """
    stack = policy.stack(max(map(len, prompts)) + limit)
    if stack is None:
        return PlainSteps(policy, prompts, group)
    if policy.cuda_graphs and policy.device.type == "cuda":
        return GraphSteps(stack, policy, prompts, group, limit, capture=CudaCapture)
    return StackSteps(_with_copy(stack), policy, prompts, group, limit)


ROWS = Ladder(1, 2)
"""1 2 3 4 6 8 12 16 24 32 48 64 and so on."""
COLUMNS = Ladder(256, 4)
"""256 512 768 and so on to 2048, 2560 3072 3584 4096, 5120 and so on."""


class GraphSteps(StackSteps):
    """`StackSteps` of static shapes.

    Beside the caches it takes 2 bytes a weight under bf16-mixed, or of a small model 4 in float32, for a copy of the
    weights (see `grouprl.decoding_weights`). Of one policy, one may be in use at a time: they share their memory.
    """

    def __init__(
        self,
        stack: Stack,
        policy: Policy,
        prompts: Sequence[Sequence[int]],
        group: int,
        limit: int,
        *,
        capture: Callable[[torch.device], Capture] | None,
        row_ladder: Ladder = ROWS,
        column_ladder: Ladder = COLUMNS,
    ) -> None:
        """Set up the passes of some prompts.

        Args:
            stack: The policy's.
            policy: The policy.
            prompts: Tokens of each prompt.
            group: Rows of each prompt.
            limit: New tokens at most.
            capture: Makes what captures steps on a device; None: they are called.
            row_ladder: Numbers of rows.
            column_ladder: Numbers of columns that are attended to.
        """
        super().__init__(stack, policy, prompts, group, limit)
        self.hidden_columns = None  # the step takes its mask from the memory's `starts`
        self.row_ladder, self.column_ladder = row_ladder, column_ladder
        kind = self.device.type
        self.autocast_dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        with self._plainly():
            self.memory = _memory(
                policy,
                stack,
                self.autocast_dtype,
                row_ladder.rung(len(self.positions)),
                column_ladder.rung(self.width + limit),
                capture,
            )
            self.memory.start(self.width - self.positions)
        self.stack = self.memory.stack
        self.keys, self.values = self.memory.keys, self.memory.values

    def prefill(self) -> Tensor:
        """See `Steps`."""
        with self._plainly():
            return super().prefill()

    def step(self, tokens: Tensor) -> Tensor:
        """See `Steps`. Rows up to the next rung hold what was there before; nothing reads what comes of them."""
        column, self.column = self.column, self.column + 1
        with self._plainly():
            self.memory.tokens[: len(tokens)].copy_(tokens)
            self.memory.column.fill_(column)
            hidden = self.memory.step(self.row_ladder.rung(len(tokens)), self.column_ladder.rung(self.column))
            # Outside the graph, whose result of each rung would be kept: a vocabulary is wide.
            return self.stack.head(hidden[: len(tokens)])

    def keep(self, rows: Tensor) -> None:
        """See `Steps`."""
        with self._plainly():
            for cache in (*self.keys, *self.values):
                cache[: len(rows), :, : self.column] = cache[:, :, : self.column].index_select(0, rows)
            self.memory.starts[: len(rows)] = self.memory.starts[rows]

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """No gradient, autocast without its cache, and no inference mode, whose tensors cannot be written to later."""
        kind, dtype = self.device.type, self.autocast_dtype
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(kind, dtype=dtype, enabled=dtype is not None, cache_enabled=False),
        ):
            yield


class CudaCapture:
    """Captures CUDA graphs that share one pool of memory.

    They may: at most one runs at a time, and of what a graph leaves there only its result is read, before the next.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pool: Any = None
        self.stream: Any = None

    def __call__(self, function: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """Warm up on a side stream, then capture."""
        with torch.cuda.device(self.device.index or 0):
            if self.stream is None:
                self.pool, self.stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()
            current = torch.cuda.current_stream()
            self.stream.wait_stream(current)
            with torch.cuda.stream(self.stream):
                for _ in range(_WARM_UPS):
                    function()
            current.wait_stream(self.stream)
            graph = torch.cuda.CUDAGraph()
            # A capture that fails leaves its stream in place: so the outer block. And other threads (loaders, reward
            # pools) may call CUDA meanwhile: so the mode.
            with (
                torch.cuda.stream(current),
                torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"),
            ):
                result = function()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


class _Memory:
    """The tensors that steps read and write, and the captured steps, which hold for these addresses alone."""

    def __init__(
        self,
        stack: Stack,
        dtype: torch.dtype | None,
        rows: int,
        columns: int,
        capture: Capture | None,
        signature: tuple[object, ...],
    ) -> None:
        weights_dtype = stack.head_weight.dtype
        device = stack.head_weight.device
        self.rows, self.columns, self.signature, self.capture = rows, columns, signature, capture
        self.weights = None
        if _copied(stack, dtype):
            self.weights = DecodingWeights(stack, dtype or weights_dtype, adapter_dtype=dtype)
        self.stack = stack if self.weights is None else self.weights.stack
        shape = (rows, stack.kv_heads, columns, stack.head_dim)
        self.keys, self.values = (
            [torch.empty(shape, dtype=dtype or weights_dtype, device=device) for _ in stack.blocks] for _ in range(2)
        )
        self.tokens, self.starts = (torch.zeros(rows, dtype=torch.long, device=device) for _ in range(2))
        """Of each row the token it goes on with, and the first column it sees."""
        self.column = torch.zeros(1, dtype=torch.long, device=device)
        """The column that is written; later ones are not seen."""
        self.numbers = torch.arange(columns, device=device)
        self.captured: dict[tuple[int, int], Callable[[], Tensor]] = {}

    @property
    def bytes(self) -> int:
        """Memory of caches and weights."""
        caches = sum(cache.nbytes for cache in (*self.keys, *self.values))
        return caches + (0 if self.weights is None else self.weights.bytes)

    def start(self, starts: Tensor) -> None:
        """Take over the weights of the moment, and forget what was cached."""
        if self.weights is not None:
            self.weights.refresh()
        for cache in (*self.keys, *self.values):
            cache.zero_()  # a number that is none in a column nobody sees would still spoil the sums
        self.tokens.zero_()
        self.starts.zero_()
        self.starts[: len(starts)] = starts

    def step(self, rows: int, end: int) -> Tensor:
        """Final hidden states of the first rows, which attend to columns before ``end``."""
        function = partial(self._step, rows, end)
        if self.capture is not None and (rows, end) not in self.captured:
            try:
                self.captured[rows, end] = self.capture(function)
            except torch.OutOfMemoryError:
                raise  # said with the dial to turn, or halved, further up
            except RuntimeError as error:
                say_once(
                    f"Decoding goes on without CUDA graphs, and slower: capturing a step of {rows} rows and {end} "
                    f"columns failed: {error}. policy.cuda_graphs=false does without from the start."
                )
                self.capture = None
        return function() if self.capture is None else self.captured[rows, end]()

    def _step(self, rows: int, end: int) -> Tensor:
        starts, numbers = self.starts[:rows], self.numbers[:end]
        seen = (numbers >= starts.unsqueeze(-1)) & (numbers <= self.column)
        bias = torch.zeros(seen.shape, dtype=self.keys[0].dtype, device=seen.device)
        bias = bias.masked_fill(~seen, -torch.inf)[:, None, None]

        def attend(number: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            keys, values = self.keys[number][:rows], self.values[number][:rows]
            keys.index_copy_(2, self.column, k.to(keys.dtype).unsqueeze(2))
            values.index_copy_(2, self.column, v.to(values.dtype).unsqueeze(2))
            # The query heads of one key head take the place of query tokens.
            attended = scaled_dot_product_attention(
                q.unflatten(1, (self.stack.kv_heads, -1)).to(keys.dtype),
                keys[:, :, :end],
                values[:, :, :end],
                attn_mask=bias,
                scale=self.stack.scaling,
            )
            return attended.flatten(1, 2)

        # Prompts end at one column: so a row's position is its distance from the first column it sees.
        return self.stack.hidden_states(self.tokens[:rows], self.column - starts, attend)


_KEPT: WeakKeyDictionary[Policy, _Memory] = WeakKeyDictionary()
"""The memory of each policy for its next call."""


def _memory(
    policy: Policy,
    stack: Stack,
    dtype: torch.dtype | None,
    rows: int,
    columns: int,
    capture: Callable[[torch.device], Capture] | None,
) -> _Memory:
    """The policy's memory if it is large enough and what was captured still holds, else a new one."""
    kept, signature = _KEPT.get(policy), (_signature(stack, dtype), capture)
    if kept is not None and kept.signature == signature:
        if rows <= kept.rows and columns <= kept.columns:
            return kept
        rows, columns = max(rows, kept.rows), max(columns, kept.columns)
    _KEPT.pop(policy, None)
    del kept  # before the new one, so that the device need not hold both
    memory = _Memory(stack, dtype, rows, columns, capture and capture(policy.device), signature)
    if memory.bytes <= _KEEP_SHARE * _device_bytes(policy.device):
        _KEPT[policy] = memory
    return memory


def release(policy: Policy) -> None:
    """Give back what is kept of a policy for its next call."""
    _KEPT.pop(policy, None)


def _copied(stack: Stack, dtype: torch.dtype | None) -> bool:
    """Whether to decode with a copy of the weights: in another dtype, or of few weights in large matrices."""
    other = dtype not in (None, stack.head_weight.dtype)
    return (other or stack.layer_weights < _FUSE_BELOW) and DecodingWeights.copies(stack)


def _with_copy(stack: Stack) -> Stack:
    """The stack with a copy of its weights of the moment, where it pays to decode with one."""
    kind = stack.head_weight.device.type
    autocast_dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    if not _copied(stack, autocast_dtype):
        return stack
    dtype, packed = autocast_dtype or stack.head_weight.dtype, onednn_serves(stack.head_weight)
    weights = DecodingWeights(stack, dtype, adapter_dtype=autocast_dtype, packed=packed)
    weights.refresh()
    return weights.stack


def _signature(stack: Stack, dtype: torch.dtype | None) -> tuple[object, ...]:
    """What captured steps depend on beside the numbers in their tensors."""
    model = stack.model
    addresses = tuple(
        (tensor.data_ptr(), tensor.dtype) for tensors in (model.parameters(), model.buffers()) for tensor in tensors
    )
    modules: list[Any] = [module for module in model.modules() if hasattr(module, "lora_A")]
    adapters = tuple((module.disable_adapters, module.merged, tuple(module.active_adapters)) for module in modules)
    return dtype, addresses, adapters, torch.are_deterministic_algorithms_enabled()


def _device_bytes(device: torch.device) -> float:
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else float("inf")
