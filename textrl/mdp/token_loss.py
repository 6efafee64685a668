"""A loss of token log-probabilities whose gradient is finished while the logits are there.

`textrl.mdp.logprobs.token_logprobs` returns log-probabilities before anybody knows the gradient by them, so
where the output embedding learns it must compute the logits a second time in the backward pass. A loss that
is a sum over tokens is known chunk by chunk: here each chunk's logits become the chunk's gradient in place.
Three products by the embedding are left of four, and still no logits outlive their chunk.

Shapes: ``N`` decisions, ``H`` width, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from textrl.mdp.logprobs import CHUNK
from textrl.models.products import as_autocast, head_operands, head_product, multiply

#: The summed loss of some tokens: ((M,) log-probabilities, which of the N they are) -> ().
TokenLoss = Callable[[Tensor, slice], Tensor]
#: What is added to the logits of some tokens, after the temperature: which of the N they are -> (M, V). Rows
#: at the end of the slice may be left out.
Shift = Callable[[slice], Tensor]


def token_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    loss: TokenLoss,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    shift: Shift | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Return a loss, summed over tokens, and the log-probabilities that it was computed from.

    Args:
        hidden: (N, H) final hidden states of the positions *before* each target.
        weight: (V, H) output embedding.
        targets: (N,) int64 token ids.
        loss: Of a chunk; its tokens must not depend on one another.
        bias: (V,) or None.
        temperature: Divides the logits; the same value must be used when sampling.
        shift: Constants added to the logits after that, where the distribution that acts is not the model's
            own (see `textrl.advice`).
        chunk: Rows whose logits exist at the same time; the result does not depend on it.

    Returns:
        The () loss, differentiable in `hidden`, `weight` and `bias`, and (N,) log-probabilities, which are
        not; float32, or float64 where the model is.
    """
    hidden, weight = head_operands(hidden, weight)
    apply: Any = _TokenLoss.apply  # torch leaves it untyped
    out: tuple[Tensor, Tensor] = apply(hidden, weight, bias, targets, loss, temperature, shift, chunk)
    return out


class _TokenLoss(torch.autograd.Function):
    """Sum of loss(log softmax((h W^T + b) / temperature)[target]), with its gradient, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        loss: TokenLoss,
        temperature: float,
        shift: Shift | None,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        logprobs = torch.empty(len(hidden), dtype=wide, device=hidden.device)
        by_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        by_weight = torch.zeros_like(weight, dtype=wide) if ctx.needs_input_grad[1] else None
        by_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        # Gradients bear the rounding that logits do not, so their products are as fast as the blocks'.
        factor = as_autocast(weight)
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            logits = head_product(hidden[rows], weight, bias).to(wide)
            if temperature != 1.0:
                logits.div_(temperature)
            if shift is not None:
                added = shift(rows)
                logits[: len(added)] += added
            part, slope, logprobs[rows] = _slopes_(logits, targets[rows], loss, rows)
            total += part
            by_logits = logits.mul_((slope / temperature)[:, None])
            if by_bias is not None:
                by_bias += by_logits.sum(0).to(by_bias.dtype)
            by_logits = by_logits.to(factor.dtype)
            if by_hidden is not None:
                by_hidden[rows] = multiply(by_logits, factor.t())
            if by_weight is not None:
                if by_weight.dtype == by_logits.dtype:
                    by_weight.addmm_(by_logits.T, hidden[rows])
                else:
                    by_weight += (by_logits.T @ hidden[rows].to(factor.dtype)).to(wide)
        ctx.dtype = weight.dtype
        ctx.save_for_backward(by_hidden, by_weight, by_bias)
        ctx.mark_non_differentiable(logprobs)
        return total, logprobs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_hidden, by_weight, by_bias = ctx.saved_tensors
        grad = grads[0]
        scaled = [None if x is None else x * grad.to(x.dtype) for x in (by_hidden, by_bias)]
        # In place: this one is as large as the embedding, and a second backward pass is not supported.
        weight = None if by_weight is None else by_weight.mul_(grad).to(ctx.dtype)
        return scaled[0], weight, scaled[1], None, None, None, None, None


def _slopes_(logits: Tensor, targets: Tensor, loss: TokenLoss, rows: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Overwrite (M, V) `logits` with d log-probability / d logits; the loss and its gradient come back.

    Returns:
        The () loss, (M,) its gradient by the log-probabilities, and (M,) those.
    """
    largest = logits.amax(-1, keepdim=True)
    wanted = logits.gather(-1, targets[:, None]) - largest
    torch.softmax(logits, dim=-1, out=logits)
    # The softmax at the largest logit is 1 / sum, which saves a pass for the sum.
    top = logits.amax(-1, keepdim=True)
    logprobs = (wanted + top.log()).squeeze(-1)
    with torch.enable_grad():
        leaf = logprobs.detach().requires_grad_()
        part = loss(leaf, rows)
        (slope,) = torch.autograd.grad(part, leaf)
    logits.neg_()
    logits.scatter_add_(-1, targets[:, None], torch.ones_like(top))
    return part.detach(), slope, logprobs
