"""Decode steps of static shapes, captured in CUDA graphs: a GPU would else wait for the CPU to launch each kernel.

A step of R rows that attends over the first C columns of the cache is captured once for each pair of
buckets (R, C), and replayed while rows and columns stay in them. What changes from step to step lies in tensors:
the tokens, the column that is written, the first column that each row sees.

Nothing here needs a GPU but the capture itself: without it the same function is called at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from grouprl.checks import say_once
from grouprl.policy.engine.buckets import Buckets
from grouprl.policy.engine.stack import DecoderStack
from grouprl.policy.engine.steps import StackSteps
from grouprl.policy.engine.weights import DecodingWeights, is_copied

_KEEP_SHARE = 1 / 8
"""Caches and weights stay on the device between two calls, and with them the graphs, up to this share of its memory."""
_WARM_UPS = 2
"""Runs before a capture, in which libraries set themselves up."""

Capture = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""From a function to one that does the same to the same memory, and gives its result in the same memory."""


ROWS = Buckets(1, 2)
"""1 2 3 4 6 8 12 16 24 32 48 64 and so on."""
COLUMNS = Buckets(256, 4)
"""256 512 768 and so on to 2048, 2560 3072 3584 4096, 5120 and so on."""


class GraphSteps(StackSteps):
    """`StackSteps` of static shapes.

    Beside the caches it takes 2 bytes a weight under bf16-mixed, or of a small model 4 in float32, for a copy of the
    weights (see `grouprl.policy.engine.weights`). Of one model, one may be in use at a time: they share their memory.
    """

    def __init__(
        self,
        stack: DecoderStack,
        prompts: Sequence[Sequence[int]],
        group: int,
        limit: int,
        *,
        capture: Callable[[torch.device], Capture] | None,
        kept: dict[str, Any] | None = None,
        row_buckets: Buckets = ROWS,
        column_buckets: Buckets = COLUMNS,
    ) -> None:
        """Set up the forward passes of some prompts.

        Args:
            stack: The model's.
            prompts: Tokens of each prompt.
            group: Rows of each prompt.
            limit: New tokens at most.
            capture: Makes what captures steps on a device; None: they are called.
            kept: Where the memory of steps is kept for the next call of the same model; None: nowhere.
            row_buckets: Numbers of rows.
            column_buckets: Numbers of columns that are attended to.
        """
        super().__init__(stack, prompts, group, limit)
        self.hidden_columns = None  # the step takes its mask from the memory's `starts`
        self.row_buckets, self.column_buckets = row_buckets, column_buckets
        kind = self.device.type
        self.autocast_dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        with self._plainly():
            self.memory = _memory(
                {} if kept is None else kept,
                stack,
                self.autocast_dtype,
                row_buckets.round_up(len(self.positions)),
                column_buckets.round_up(self.width + limit),
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
        """See `Steps`. Rows up to the next bucket hold what was there before; nothing reads what comes of them."""
        column, self.column = self.column, self.column + 1
        with self._plainly():
            self.memory.tokens[: len(tokens)].copy_(tokens)
            self.memory.column.fill_(column)
            hidden = self.memory.step(self.row_buckets.round_up(len(tokens)), self.column_buckets.round_up(self.column))
            # Outside the graph, whose result of each bucket would be kept: a vocabulary is wide.
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
        stack: DecoderStack,
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
        if is_copied(stack, dtype):
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
                raise  # said with the option to change, or halved, further up
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


def _memory(
    kept: dict[str, Any],
    stack: DecoderStack,
    dtype: torch.dtype | None,
    rows: int,
    columns: int,
    capture: Callable[[torch.device], Capture] | None,
) -> _Memory:
    """The memory that was kept if it is large enough and what was captured still holds, else a new one."""
    device = stack.head_weight.device
    before: _Memory | None = kept.pop("decoding", None)
    signature = (_signature(stack, dtype), capture)
    if before is not None and before.signature == signature:
        if rows <= before.rows and columns <= before.columns:
            kept["decoding"] = before
            return before
        rows, columns = max(rows, before.rows), max(columns, before.columns)
    del before  # before the new one, so that the device need not hold both
    memory = _Memory(stack, dtype, rows, columns, capture and capture(device), signature)
    if memory.bytes <= _KEEP_SHARE * _device_bytes(device):
        kept["decoding"] = memory
    return memory


def _signature(stack: DecoderStack, dtype: torch.dtype | None) -> tuple[object, ...]:
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
