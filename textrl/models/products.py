"""Which kernel multiplies on a CPU, and in which type logits are computed.

Decoding multiplies a handful of rows by every weight of the model. MKL's general product does that at 5 GB/s
where oneDNN's does it at 10 (two cores, 8 rows, GPT-2's matrices), so those few products go to oneDNN.

Logits are never rounded to bf16 on a CPU, autocast or not: around 16 neighbours in bf16 are an eighth apart,
and sampling and scoring of SmolLM2 then differ by .033 nats a token; fp32 logits over bf16 blocks leave .012.
"""

from __future__ import annotations

from contextlib import nullcontext
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


def as_autocast(x: Tensor) -> Tensor:
    """Return `x` in the type to which autocast, where it is on, would cast it for a product."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def head_operands(hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n, H) hidden states and the (V, H) output embedding in the type that `head_product` takes.

    Under autocast that is its type, but for a CPU, where it is the weights' own.
    """
    if hidden.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return hidden.to(weight.dtype), weight
    return as_autocast(hidden), as_autocast(weight)


def head_product(hidden: Tensor, weight: Tensor, bias: Tensor | None, few: int = 0) -> Tensor:
    """Return (n, V) hidden W^T + b of `head_operands`, in their type.

    A CPU on which autocast pays has AVX-512 or AMX, and there oneDNN multiplies any number of rows in fp32
    faster than MKL (432 rows by SmolLM2's embedding: 129 against 66 GFLOP/s on two cores of AMD's Zen 4).

    Args:
        hidden: (n, H).
        weight: (V, H).
        bias: (V,) or None.
        few: Without autocast, up to how many rows go to oneDNN.
    """
    kind = hidden.device.type
    cast = torch.is_autocast_enabled(kind)
    with torch.autocast(kind, enabled=False) if cast else nullcontext():
        if few_rows(hidden, len(hidden) if cast else few):
            return linear_few(hidden, weight, bias)
        return torch.nn.functional.linear(hidden, weight, bias)


def head_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """Return (n, V) float32 logits divided by the temperature, as sampling takes them."""
    hidden, weight = head_operands(hidden, weight)
    logits = head_product(hidden, weight, bias, FEW_FOR_HEAD).float()
    return logits if temperature == 1.0 else logits.div_(temperature)
