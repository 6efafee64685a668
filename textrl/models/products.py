"""Matrix products with few rows on a CPU, where the usual kernel leaves half the memory bandwidth unused.

Decoding multiplies a handful of rows by every weight of the model. MKL's general product does that at 5 GB/s
where oneDNN's does it at 10 (two cores, 8 rows, GPT-2's matrices), so those few products go to oneDNN.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

#: Rows up to which oneDNN is the faster one, for the blocks' matrices and for an output embedding.
FEW, FEW_FOR_HEAD = 16, 64


@cache
def _has_onednn() -> bool:
    """Whether this build of torch has the product; it is the one that torch.compile itself emits."""
    return "mkldnn" in torch.__config__.show().lower() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def few_rows(x: Tensor, limit: int = FEW) -> bool:
    """Return whether (n, K) `x` should be multiplied by oneDNN."""
    return (
        x.device.type == "cpu"
        and x.ndim == 2
        and len(x) <= limit
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and _has_onednn()
    )


def linear_few(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (n, N) x W^T + b for few rows of (n, K) `x`; (N, K) `weight` may be a transposed view."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def project(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a projection of a block, (n, K) -> (n, N), as fast as its number of rows allows.

    Only a plain layer is taken apart: an adapter, a hook or a parked weight is the module's own affair.
    """
    layer: Any = module
    if few_rows(x) and not module._forward_hooks and not module._forward_pre_hooks:
        if type(module) is nn.Linear:
            return linear_few(x, layer.weight, layer.bias)
        if type(module).__name__ == "Conv1D":
            return linear_few(x, layer.weight.t(), layer.bias)
    out: Tensor = layer(x)
    return out


def head_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """Return (n, V) float32 logits divided by the temperature, as sampling takes them."""
    if few_rows(hidden, FEW_FOR_HEAD):
        logits = linear_few(hidden, weight, bias)
    else:
        logits = torch.nn.functional.linear(hidden, weight, bias).float()
    return logits if temperature == 1.0 else logits.div_(temperature)
