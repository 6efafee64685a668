"""Generalised advantage estimation over rows that may end, be cut, or hold padding.

Shapes: ``B`` rows (sequences, or parallel environments), ``T`` steps.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    mask: Tensor,
    *,
    terminated: Tensor,
    ends: Tensor,
    gamma: float,
    lam: float,
) -> tuple[Tensor, Tensor]:
    """Return advantages and value targets (Schulman et al. 2016, equations 11-16).

    delta_t = r_t + gamma * V(s_{t+1}) * [not terminated_t] - V(s_t)
    A_t = delta_t + gamma * lam * [not ends_t] * A_{t+1}

    Computed in the widest type of the three, so that float32 rewards do not narrow float64 values.

    Args:
        rewards: (B, T).
        values: (B, T) V(s_t).
        next_values: (B, T) V(s_{t+1}), for a truncated step the value of the state that was cut off.
        mask: (B, T) bool, True on real steps. Whatever stands elsewhere, NaN included, is never read.
        terminated: (B, T) bool; the value after such a step is 0.
        ends: (B, T) bool; the episode ended here (terminated or truncated) and nothing after it counts.
        gamma: Discount.
        lam: GAE's lambda.

    Returns:
        (advantages, returns), (B, T) each, zero outside the mask; returns = advantages + values.
    """
    dtype = torch.promote_types(torch.promote_types(rewards.dtype, values.dtype), next_values.dtype)
    zero = torch.zeros((), dtype=dtype, device=rewards.device)
    rewards = torch.where(mask, rewards.to(dtype), zero)
    values = torch.where(mask, values.to(dtype), zero)
    follow = torch.where(mask & ~terminated, next_values.to(dtype), zero)
    deltas = rewards + gamma * follow - values
    carry = (gamma * lam) * (mask & ~ends).to(dtype)
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    for t in range(rewards.shape[1] - 1, -1, -1):
        running = deltas[:, t] + carry[:, t] * running
        advantages[:, t] = running
    return advantages, advantages + values


def episode_gae(
    rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """`gae` for whole text episodes: one per row, right-padded, terminated at the last real action.

    A task's own length limit is part of its finite-horizon MDP, so a response cut by it terminates
    and its last value target is the paid score, without a bootstrap on top.

    Args:
        rewards: (B, T).
        values: (B, T).
        mask: (B, T) bool, a run of True followed by a run of False.
        gamma: Discount.
        lam: GAE's lambda.

    Returns:
        (advantages, returns), (B, T) each, zero outside the mask.
    """
    real_next = torch.zeros_like(mask)
    real_next[:, :-1] = mask[:, 1:]
    last = mask & ~real_next
    next_values = torch.zeros_like(values)
    next_values[:, :-1] = values[:, 1:]
    return gae(rewards, values, next_values, mask, terminated=last, ends=last, gamma=gamma, lam=lam)
