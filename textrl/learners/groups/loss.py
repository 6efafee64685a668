"""The loss of groups: a clipped policy gradient, and where it is wanted k3 as a term of its own.

Shapes: ``B`` sequences, ``N`` real decisions.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from textrl.mdp.kl import k3
from textrl.mdp.losses import policy_loss

#: What a decision's term is divided by: the response's length times the number of responses, the number of
#: decisions, the number of responses times the longest response the task admits, or the number of responses.
Aggregation = Literal["sequence", "token", "constant", "sum"]


class GroupLoss(NamedTuple):
    """`total` () is the sum to minimise, `kl_loss` () its part that comes from k3, not differentiable;
    `clipped` () counts ratios outside the interval; `approx_kl` () sums the k3 estimate of KL(old || new)."""

    total: Tensor
    kl_loss: Tensor
    clipped: Tensor
    approx_kl: Tensor


def weights(lengths: Tensor, how: Aggregation, *, sequences: int, tokens: int, longest: int) -> Tensor:
    """Return what each decision of a response weighs in the loss: (B,) float64.

    Args:
        lengths: (B,) decisions of each response.
        how: See `Aggregation`.
        sequences: Responses of the minibatch, over all processes.
        tokens: Their decisions.
        longest: The most decisions that the task admits.
    """
    one = torch.ones(lengths.shape, dtype=torch.float64, device=lengths.device)
    if how == "sequence":
        return one / (sequences * lengths.clamp(min=1))
    return one / {"token": tokens, "constant": sequences * longest, "sum": sequences}[how]


def group_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    ref_logprobs: Tensor,
    advantages: Tensor,
    weight: Tensor,
    *,
    clip: float | None,
    beta: float,
) -> GroupLoss:
    """Return the weighted sum over decisions of min(ratio A, clipped ratio A), negated, plus beta k3.

    Args:
        logprobs: (N,) of the policy being trained.
        old_logprobs: (N,) of the policy that acted.
        ref_logprobs: (N,) of the reference.
        advantages: (N,), the same for all decisions of a response.
        weight: (N,), above 0.
        clip: Half-width of the interval around ratio 1, or None.
        beta: Weight of k3 (DeepSeekMath, arXiv 2402.03300, equation 4); 0 leaves it out.
    """
    # A weight above 0 may stand inside the minimum.
    main = policy_loss(logprobs, old_logprobs, weight * advantages, math.inf if clip is None else clip)
    if not beta:
        return GroupLoss(main.total, main.total.new_zeros(()), main.clipped, main.approx_kl)
    penalty = beta * (weight * k3(logprobs, ref_logprobs)).sum()
    return GroupLoss(main.total + penalty, penalty.detach(), main.clipped, main.approx_kl)
