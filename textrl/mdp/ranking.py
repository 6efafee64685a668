"""The ranking loss of reward models, on scores.

Shapes: ``G`` groups (prompts), ``K`` completions of a group. A smaller rank is better; equal ranks are
a tie, which teaches nothing and is dropped from the loss.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

#: What the sum over the pairs of a group is divided by. ``"all"`` is C(K, 2) as InstructGPT's Eq. 1 is
#: written, so groups with many ties weigh less; ``"decided"`` is the number of pairs that are no ties,
#: so all groups weigh the same. The paper does not say which it used.
PairDivisor = Literal["all", "decided"]


class PairCounts(NamedTuple):
    """Pairs of completions. `correct` of the `decided` ones are scored in the people's order (equal
    scores count half); `ties` were ranked equal and say nothing about the scores."""

    correct: Tensor
    decided: Tensor
    ties: Tensor


def decided_pairs(ranks: Tensor, mask: Tensor) -> Tensor:
    """Return (G, K, K) bool: completion i is ranked better than completion j, and both are real."""
    real = mask[:, :, None] & mask[:, None, :]
    return real & (ranks[:, :, None] < ranks[:, None, :])


def kwise_loss(scores: Tensor, ranks: Tensor, mask: Tensor, divide: PairDivisor = "all") -> Tensor:
    """Return each group's loss (Ouyang et al. 2022, Eq. 1).

    loss = -1 / C(K, 2) * sum over pairs (w better than l) of log sigmoid(r_w - r_l)

    Args:
        scores: (G, K).
        ranks: (G, K).
        mask: (G, K) bool, True on real completions. What stands elsewhere, NaN included, is not read.
        divide: See `PairDivisor`.

    Returns:
        (G,); 0 where all completions of a group tie.
    """
    decided = decided_pairs(ranks, mask)
    scores = torch.where(mask, scores, torch.zeros_like(scores))
    logs = torch.nn.functional.logsigmoid(scores[:, :, None] - scores[:, None, :])
    total = -torch.where(decided, logs, torch.zeros_like(logs)).sum((1, 2))
    if divide == "all":
        size = mask.sum(1)
        pairs = size * (size - 1) // 2
    else:
        pairs = decided.sum((1, 2))
    return total / pairs.clamp(min=1)


def pair_counts(scores: Tensor, ranks: Tensor, mask: Tensor) -> PairCounts:
    """Count pairs over all groups; each member of the result is a float64 scalar ().

    Args:
        scores: (G, K).
        ranks: (G, K).
        mask: (G, K) bool.
    """
    decided = decided_pairs(ranks, mask)
    scores = torch.where(mask, scores, torch.zeros_like(scores))
    gap = scores[:, :, None] - scores[:, None, :]
    correct = (decided & (gap > 0)).sum().double() + 0.5 * (decided & (gap == 0)).sum().double()
    size = mask.sum(1)
    pairs = (size * (size - 1) // 2).sum()
    return PairCounts(correct, decided.sum().double(), (pairs - decided.sum()).double())
