"""Log-probabilities of tokens, without ever storing vocabulary-sized tensors for a whole batch.

One function serves the rollout, the old, the new and the reference policy, so that the four agree.
``N`` is a flat list of decisions (real response tokens; padding never gets here), ``H`` the width of
the model and ``V`` the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Rows of logits held at once; 256 rows of a 49,152-token vocabulary are 50 MB in fp32.
CHUNK = 256


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
        (N,) float32, differentiable in `hidden`, `weight` and `bias`.
    """
    return token_logprobs_and_entropy(
        hidden, weight, targets, bias=bias, temperature=temperature, chunk=chunk
    )[0]


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
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    apply: Any = _ChunkedLogprob.apply  # torch leaves it untyped
    out: tuple[Tensor, Tensor] = apply(hidden, weight, bias, targets, temperature, chunk)
    return out


def logits_of(hidden: Tensor, weight: Tensor, bias: Tensor | None, temperature: float) -> Tensor:
    """Return (N, V) float32 logits divided by the temperature."""
    logits = torch.nn.functional.linear(hidden, weight, bias).float()
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
    ) -> tuple[Tensor, Tensor]:
        count = hidden.shape[0]
        logprob = torch.empty(count, dtype=torch.float32, device=hidden.device)
        entropy = torch.empty_like(logprob)
        head_learns = weight.requires_grad or (bias is not None and bias.requires_grad)
        finish_now = hidden.requires_grad and not head_learns
        grad_hidden = torch.empty_like(hidden) if finish_now else None
        for start in range(0, count, chunk):
            rows = slice(start, start + chunk)
            logits = logits_of(hidden[rows], weight, bias, temperature)
            log_norm = torch.logsumexp(logits, dim=-1)
            logprob[rows] = logits.gather(-1, targets[rows, None]).squeeze(-1) - log_norm
            probs = torch.exp(logits - log_norm[:, None])
            # 0 * -inf would be NaN where a vocabulary entry is masked out.
            entropy[rows] = log_norm - (probs * logits.clamp(min=torch.finfo(logits.dtype).min)).sum(-1)
            if grad_hidden is not None:
                mean_row = probs.to(weight.dtype) @ weight
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
            return grad_hidden * grad[:, None].to(grad_hidden.dtype), None, None, None, None, None
        hidden, weight, bias, targets = ctx.saved_tensors
        by_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        by_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        by_bias = torch.zeros_like(bias) if bias is not None and ctx.needs_input_grad[2] else None
        for start in range(0, hidden.shape[0], ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            logits = logits_of(hidden[rows], weight, bias, ctx.temperature)
            by_logits = torch.softmax(logits, dim=-1).neg_()
            by_logits.scatter_add_(-1, targets[rows, None], torch.ones_like(by_logits[:, :1]))
            by_logits.mul_(grad[rows, None] / ctx.temperature)
            if by_bias is not None:
                by_bias += by_logits.sum(0).to(by_bias.dtype)
            by_logits = by_logits.to(weight.dtype)
            if by_hidden is not None:
                by_hidden[rows] = by_logits @ weight
            if by_weight is not None:
                by_weight += (by_logits.T @ hidden[rows]).float()
        return by_hidden, None if by_weight is None else by_weight.to(weight.dtype), by_bias, None, None, None
