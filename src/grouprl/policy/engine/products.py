"""Products with the weights of linear layers: on a CPU by the faster of the two libraries that PyTorch has there."""

from __future__ import annotations

import logging
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import linear, pad

from grouprl.policy.engine.buckets import Buckets

# oneDNN compiles a product for each number of rows and keeps it, in half a MiB: hence few numbers of rows.
_ROWS = Buckets(32, 16)
"""Rows of products with plain weights; callers round up (`row_count`)."""
_PACKED_ROWS = Buckets(1, 4)
"""Rows of products with packed weights, which are rounded up here."""
_LAYOUT_ROWS = 16
"""Rows that packed weights are laid out for; other numbers work as well."""
_ANSWERS_WIDE = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 8)
"""Whether torch has a product of 16-bit factors that answers in float32, on CUDA."""
_log = logging.getLogger(__name__)


def row_count(rows: int, weight: Tensor) -> int:
    """How many rows to compute products with a plain weight for: a few more, where `product` is faster for them."""
    return _ROWS.round_up(rows) if onednn_serves(weight) else rows


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x weight^T + bias`` of rows [rows, in] without gradient, the weight plain or from `pack`.

    For many rows oneDNN is the faster library where MKL does without AVX-512 (docs/performance.md).
    """
    if onednn_serves(x, weight):
        rows = len(x)
        if weight.is_mkldnn:
            more = _PACKED_ROWS.round_up(rows) - rows
            return _onednn(pad(x, (0, 0, 0, more)) if more else x, weight, bias)[:rows]
        if x.ndim == 2 and _ROWS.round_up(rows) == rows:
            return _onednn(x, weight, bias)
    return linear(x, weight, bias)


def logits(hidden: Tensor, weight: Tensor) -> Tensor:
    """Logits [rows, vocabulary] of hidden states in float32 at least, whatever the autocast and the weights' dtype.

    Rounded to bfloat16 a logit of 20 would be off by up to 0.06, and its token's probability by 6%. A CUDA GPU takes
    factors of 16 bits as they are, and adds up and answers in float32.
    """
    narrow = weight.dtype in (torch.bfloat16, torch.float16)
    with torch.autocast(hidden.device.type, enabled=False):
        if narrow and hidden.is_cuda and _ANSWERS_WIDE:
            return torch.mm(hidden.to(weight.dtype), weight.T, out_dtype=torch.float32)
        wide = weight.float() if narrow else weight
        return product(hidden.to(wide.dtype), wide)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def pack(weight: Tensor) -> Tensor:
    """A copy of a weight in oneDNN's own layout, where `onednn_serves`: for `product` with few rows.

    BLAS spends most of the time of such a product on laying the weight out, at every call.
    """
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _LAYOUT_ROWS)


def onednn_serves(*factors: Tensor) -> bool:
    """Whether oneDNN can be called for a product: on a CPU, in float32, and not while the compiler traces."""
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    return all(x.device.type == "cpu" and x.dtype == torch.float32 for x in factors) and _has_onednn()


@lru_cache(maxsize=1)
def _has_onednn() -> bool:
    """Whether this PyTorch has the operators that its own compiler uses for frozen weights, and they work."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float32, device="cpu")
    x = torch.eye(2).to(weight)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 2)
        result = torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
    except (RuntimeError, TypeError, NotImplementedError) as error:
        _log.warning("Sampling and training on the CPU go without oneDNN, which could not be used: %s.", error)
        return False
    return torch.equal(result, weight.T)
