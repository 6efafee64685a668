"""PPO's losses and statistics on flat decisions.

``N`` is a flat list of real decisions; padding never gets here. Losses come as *sums* over decisions:
the caller divides by the global count of the optimizer step, so that the result depends neither on the
size of a micro-batch nor on the number of processes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class PolicyLoss(NamedTuple):
    """`total` () is the sum to minimise; `clipped` () counts ratios outside the interval;
    `approx_kl` () sums (ratio - 1) - log ratio, the k3 estimate of KL(old || new)."""

    total: Tensor
    clipped: Tensor
    approx_kl: Tensor


class ValueLoss(NamedTuple):
    """`total` () is the sum to minimise; `clipped` () counts values held back by the clip."""

    total: Tensor
    clipped: Tensor


def policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float) -> PolicyLoss:
    """PPO's clipped surrogate (Schulman et al. 2017, equation 7), negated and summed.

    Args:
        logprobs: (N,) of the policy being trained.
        old_logprobs: (N,) of the policy that acted.
        advantages: (N,).
        clip: Half-width of the interval around ratio 1.
    """
    log_ratio = logprobs - old_logprobs
    ratio = log_ratio.exp()
    total = -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).sum()
    with torch.no_grad():
        clipped = ((ratio - 1).abs() > clip).sum()
        approx_kl = (log_ratio.expm1() - log_ratio).sum()
    return PolicyLoss(total, clipped, approx_kl)


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float | None) -> ValueLoss:
    """Half the squared error, summed; with `clip` the worse of the plain and the clipped value.

    The clip keeps the new value within `clip` of the old one (lm-human-preferences; not in the
    InstructGPT paper).

    Args:
        values: (N,) predictions being trained.
        old_values: (N,) predictions at rollout time.
        returns: (N,) targets.
        clip: Half-width, or None for the plain squared error.
    """
    error = (values - returns) ** 2
    if clip is None:
        return ValueLoss(0.5 * error.sum(), torch.zeros((), device=values.device))
    held = (old_values + (values - old_values).clamp(-clip, clip) - returns) ** 2
    return ValueLoss(0.5 * torch.maximum(error, held).sum(), (held > error).sum())


def moments(x: Tensor) -> Tensor:
    """Return (3,) float64: count, sum and sum of squares of the flat `x`; add them over processes."""
    flat = x.double()
    count = torch.tensor(float(flat.numel()), dtype=torch.float64, device=x.device)
    return torch.stack([count, flat.sum(), (flat * flat).sum()])


def whiten(x: Tensor, stats: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Return `x` scaled to unit variance, by the *biased* variance (divide by the count).

    Args:
        x: (N,).
        stats: (3,) from `moments`, summed over all processes.
        shift_mean: Also subtract the mean; off for rewards, whose sign must stay.
    """
    mean = stats[1] / stats[0]
    variance = (stats[2] / stats[0] - mean * mean).clamp(min=0.0)
    centred = x.double() - mean
    scaled = centred / (variance + 1e-8).sqrt()
    if not shift_mean:
        scaled = scaled + mean
    return scaled.to(x.dtype)


def explained_variance(predictions: Tensor, targets: Tensor) -> float:
    """Return 1 - Var[targets - predictions] / Var[targets]; NaN where the targets do not vary."""
    variance = targets.double().var(correction=0)
    if variance == 0:
        return float("nan")
    return float(1 - (targets.double() - predictions.double()).var(correction=0) / variance)
