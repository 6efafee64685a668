"""Which kernel multiplies on a CPU, and in which type logits are computed.

Decoding multiplies a handful of rows by every weight of the model. MKL's general product does that at 5 GB/s
where oneDNN's does it at 10 (two cores, 8 rows, GPT-2's matrices), so those few products go to oneDNN. With
AVX-512 so do all large ones, of any number of rows, but for the gradients of weights: MKL multiplies GPT-2's
matrices at 195 to 205 GFLOP/s and its embedding at 115, oneDNN at 217 to 226 and 180 (two cores of AMD's Zen
4), and the gradients of weights at 200 where oneDNN reaches 185.

Logits are never rounded to bf16 on a CPU, autocast or not: around 16 neighbours in bf16 are an eighth apart,
and sampling and scoring of SmolLM2 then differ by .033 nats a token; fp32 logits over bf16 blocks leave .012.

Shapes: ``n`` rows, ``K`` inputs, ``N`` outputs.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: Rows up to which oneDNN is the faster one, for the blocks' matrices and for an output embedding.
FEW, FEW_FOR_HEAD = 16, 64
#: Multiplications of a product from which it is the faster one with AVX-512 (256 rows of 256 by 256), where
#: matrices are not narrower than this.
LARGE, WIDE = 1 << 24, 192


@cache
def _has_onednn() -> bool:
    """Whether this build of torch has the product; it is the one that torch.compile itself emits."""
    return "mkldnn" in torch.__config__.show().lower() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@cache
def _has_avx512() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def by_onednn(x: Tensor, outputs: int, few: int = FEW) -> bool:
    """Return whether (n, K) `x` should be multiplied by oneDNN.

    Args:
        x: What a matrix multiplies.
        outputs: N.
        few: Up to how many rows it should be on any processor, where no gradient is wanted.
    """
    possible = (
        x.device.type == "cpu"
        and x.ndim == 2
        and x.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and _has_onednn()
    )
    if not possible:
        return False
    if len(x) <= few and not torch.is_grad_enabled():
        return True
    return x.numel() * outputs >= LARGE and min(x.shape[1], outputs) >= WIDE and _has_avx512()


def multiply(x: Tensor, weight: Tensor, bias: Tensor | None = None, few: int = FEW) -> Tensor:
    """Return (n, N) x W^T + b by the kernel that is faster here.

    Args:
        x: (n, K).
        weight: (N, K), or the transposed view of a (K, N) matrix.
        bias: (N,) or None.
        few: See `by_onednn`.
    """
    if not by_onednn(x, len(weight), few):
        return nn.functional.linear(x, weight, bias)
    if not torch.is_grad_enabled():
        return _onednn(x, weight, bias)
    apply: Any = _Product.apply  # torch leaves it untyped
    out: Tensor = apply(x, weight, bias)
    return out


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    try:
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    except RuntimeError as error:
        # It compiles a kernel first, for which memory may not suffice where the product itself would fit.
        if "primitive" not in str(error):
            raise
        return nn.functional.linear(x, weight, bias)
    return out


class _Product(torch.autograd.Function):
    """x W^T + b by oneDNN, which has no gradient of its own in torch; that by W is MKL's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # Of a frozen weight only the weight is wanted again.
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        return _onednn(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        grad = grad.contiguous()
        by_weight = None
        if needs_weight:
            # In the layout of the parameter behind the weight, or it would be copied once more.
            by_weight = grad.t() @ x if weight.is_contiguous() else (x.t() @ grad).t()
        return (
            _onednn(grad, weight.t(), None) if needs_x else None,
            by_weight,
            grad.sum(0) if needs_bias else None,
        )


def project(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a projection of a block, (n, K) -> (n, N), as fast as its number of rows allows.

    Only a plain layer is taken apart: an adapter, a hook or a parked weight is the module's own affair.
    """
    layer: Any = module
    if not module._forward_hooks and not module._forward_pre_hooks:
        if type(module) is nn.Linear and by_onednn(x, module.out_features):
            return multiply(x, layer.weight, layer.bias)
        if type(module).__name__ == "Conv1D" and by_onednn(x, layer.nf):
            return multiply(x, layer.weight.t(), layer.bias)
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
        few: Without autocast, up to how many rows go to oneDNN on any processor.
    """
    kind = hidden.device.type
    cast = torch.is_autocast_enabled(kind)
    with torch.autocast(kind, enabled=False) if cast else nullcontext():
        return multiply(hidden, weight, bias, len(hidden) if cast else few)


def head_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """Return (n, V) float32 logits divided by the temperature, as sampling takes them."""
    hidden, weight = head_operands(hidden, weight)
    logits = head_product(hidden, weight, bias, FEW_FOR_HEAD).float()
    return logits if temperature == 1.0 else logits.div_(temperature)
