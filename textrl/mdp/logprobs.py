"""Log-probabilities of tokens, without ever storing vocabulary-sized tensors for a whole batch.

One function serves the rollout, the old, the new and the reference policy, so that the four agree.
``N`` is a flat list of decisions (real response tokens; padding never gets here), ``H`` the width of
the model and ``V`` the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from textrl.models.products import as_autocast, head_operands, head_product, multiply

#: Rows of logits held at once; 256 rows of a 49,152-token vocabulary are 50 MB in fp32.
CHUNK = 256
#: Rows that a CPU turns into probabilities at once: few enough to stay in its cache through all passes.
_CPU_ROWS = 16


def token_logprobs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    chunk: int = CHUNK,
) -> Tensor:
    """Return log pi(target | hidden) for every row.

    Args:
        hidden: (N, H) final hidden states of the positions *before* each target.
        weight: (V, H) output embedding.
        targets: (N,) int64 token ids.
        bias: (V,) or None.
        temperature: Divides the logits; the same value must be used when sampling.
        chunk: Rows whose logits exist at the same time; the result does not depend on it.

    Returns:
        (N,) float32, or float64 where the model is; differentiable in `hidden`, `weight` and `bias`.
    """
    return _apply(hidden, weight, bias, targets, temperature, chunk, False)[0]


def token_logprobs_and_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    bias: Tensor | None = None,
    temperature: float = 1.0,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Like `token_logprobs`, and the entropy of each distribution, (N,) nats, without gradient."""
    return _apply(hidden, weight, bias, targets, temperature, chunk, True)


def _apply(hidden: Tensor, weight: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    hidden, weight = head_operands(hidden, weight)
    apply: Any = _ChunkedLogprob.apply  # torch leaves it untyped
    out: tuple[Tensor, Tensor] = apply(hidden, weight, *rest)
    return out


def logits_of(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """Return (N, V) float32 logits divided by the temperature, as sampling takes them."""
    hidden, weight = head_operands(hidden, weight)
    return _wide_logits(hidden, weight, bias, temperature).float()


def _wide_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """Return (N, V) logits divided by the temperature: float64 of a float64 model, else float32."""
    logits = head_product(hidden, weight, bias)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if temperature == 1.0 else logits.div_(temperature)


class _ChunkedLogprob(torch.autograd.Function):
    """log softmax(h W^T + b)[target], row chunk by row chunk.

    d logp / d logits = (onehot(target) - p) / temperature. Where the output embedding is frozen, the
    gradient by `hidden` is finished in the forward pass (one product more, no logits kept);
    where it learns, the backward pass computes the logits of each chunk again.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        chunk: int,
        with_entropy: bool,
    ) -> tuple[Tensor, Tensor]:
        count = hidden.shape[0]
        wide = torch.promote_types(hidden.dtype, torch.float32)
        logprob = torch.empty(count, dtype=wide, device=hidden.device)
        entropy = torch.empty_like(logprob)
        head_learns = weight.requires_grad or (bias is not None and bias.requires_grad)
        finish_now = hidden.requires_grad and not head_learns
        grad_hidden = torch.empty_like(hidden) if finish_now else None
        # Gradients bear the rounding that logits do not, so their products are as fast as the blocks'.
        factor = as_autocast(weight) if finish_now else weight
        for start in range(0, count, chunk):
            rows = slice(start, start + chunk)
            logits = _wide_logits(hidden[rows], weight, bias, temperature)
            logprob[rows], entropy[rows] = _normalise_(logits, targets[rows], finish_now, with_entropy)
            if grad_hidden is not None:
                mean_row = multiply(logits.to(factor.dtype), factor.t())
                grad_hidden[rows] = (weight[targets[rows]] - mean_row) / temperature
        ctx.temperature, ctx.chunk, ctx.head_learns = temperature, chunk, head_learns
        if finish_now:
            ctx.save_for_backward(grad_hidden)
        elif head_learns:
            ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.mark_non_differentiable(entropy)
        return logprob, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad = grads[0]
        if not ctx.head_learns:
            (grad_hidden,) = ctx.saved_tensors
            return grad_hidden * grad[:, None].to(grad_hidden.dtype), None, None, None, None, None, None
        hidden, weight, bias, targets = ctx.saved_tensors
        by_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        by_weight = torch.zeros_like(weight, dtype=grad.dtype) if ctx.needs_input_grad[1] else None
        by_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for start in range(0, hidden.shape[0], ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            logits = _wide_logits(hidden[rows], weight, bias, ctx.temperature)
            by_logits = torch.softmax(logits, dim=-1).neg_()
            by_logits.scatter_add_(-1, targets[rows, None], torch.ones_like(by_logits[:, :1]))
            by_logits.mul_(grad[rows, None] / ctx.temperature)
            if by_bias is not None:
                by_bias += by_logits.sum(0).to(by_bias.dtype)
            by_logits = by_logits.to(weight.dtype)
            if by_hidden is not None:
                by_hidden[rows] = multiply(by_logits, weight.t())
            if by_weight is not None:
                by_weight += (by_logits.T @ hidden[rows]).to(by_weight.dtype)
        by_weight = None if by_weight is None else by_weight.to(weight.dtype)
        return by_hidden, by_weight, by_bias, None, None, None, None


def _normalise_(
    logits: Tensor, targets: Tensor, to_probabilities: bool, with_entropy: bool
) -> tuple[Tensor, Tensor]:
    """Return log-probabilities of the targets and entropies (NaN if not wanted); overwrites `logits`.

    The vocabulary is walked several times, so a CPU takes a few rows through all passes while they are
    in its cache: half the time of whole-chunk passes, which wait for memory.

    Args:
        logits: (N, V); holds probabilities afterwards if `to_probabilities`.
        targets: (N,) int64.
        to_probabilities: Whether the probabilities are needed.
        with_entropy: Whether the entropies are.
    """
    logprob = torch.empty(len(logits), dtype=logits.dtype, device=logits.device)
    entropy = torch.full_like(logprob, torch.nan)
    size = _CPU_ROWS if logits.device.type == "cpu" else max(len(logits), 1)
    for start in range(0, len(logits), size):
        rows = slice(start, start + size)
        x = logits[rows]
        x.sub_(x.amax(-1, keepdim=True))
        wanted = x.gather(-1, targets[rows, None])
        powers = x.exp() if with_entropy else x.exp_()
        total = powers.sum(-1, keepdim=True)
        logprob[rows] = (wanted - total.log()).squeeze(-1)
        if with_entropy:
            # 0 * -inf would be NaN where a vocabulary entry is masked out.
            x.clamp_(min=torch.finfo(x.dtype).min)
            mean = (powers * x).sum(-1, keepdim=True) / total
            entropy[rows] = (total.log() - mean).squeeze(-1)
        if to_probabilities:
            torch.div(powers, total, out=x)
    return logprob, entropy
