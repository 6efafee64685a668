"""Losses of reward models, on scores.

Shapes: ``G`` groups (prompts), ``K`` completions of a group. A smaller rank is better; equal ranks are
a tie. Each loss gives one number per group, in nats but for `regression_loss`, and reads nothing where
the mask is False, NaN included.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

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


class Outcomes(NamedTuple):
    """Log-probabilities of the three outcomes of a comparison, of one shape."""

    better: Tensor
    worse: Tensor
    tie: Tensor


def decided_pairs(ranks: Tensor, mask: Tensor) -> Tensor:
    """Return (G, K, K) bool: completion i is ranked better than completion j, and both are real."""
    return _real_pairs(mask) & (ranks[:, :, None] < ranks[:, None, :])


def kwise_loss(scores: Tensor, ranks: Tensor, mask: Tensor, divide: PairDivisor = "all") -> Tensor:
    """Return each group's loss (Ouyang et al. 2022, Eq. 1); ties are dropped.

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
    logs = logsigmoid(_gaps(scores, mask))
    return _over_pairs(decided, logs, mask, divide)


def bradley_terry_loss(
    scores: Tensor, ranks: Tensor, mask: Tensor, margins: Tensor, divide: PairDivisor = "all"
) -> Tensor:
    """Return each group's loss with margins (Touvron et al. 2023, Llama 2, Eq. 2); ties are dropped.

    loss = -1 / C(K, 2) * sum over pairs (w better than l) of log sigmoid(r_w - r_l - m_wl)

    Args:
        scores: (G, K).
        ranks: (G, K).
        mask: (G, K) bool.
        margins: (G, K, K), or what broadcasts to it: how much better i is than j, in units of score;
            read where i is ranked better. 0 everywhere is `kwise_loss`.
        divide: See `PairDivisor`.

    Returns:
        (G,); 0 where all completions of a group tie.
    """
    decided = decided_pairs(ranks, mask)
    gap = _gaps(scores, mask)
    wanted = torch.where(decided, margins.to(gap), torch.zeros_like(gap))
    return _over_pairs(decided, logsigmoid(gap - wanted), mask, divide)


def rao_kupper(gap: Tensor, log_theta: Tensor) -> Outcomes:
    """Return the log-probabilities of Rao & Kupper (1967) for scores that are `gap` apart.

    P(i better than j) = e^i / (e^i + theta e^j), and the tie has what is left:
    (theta^2 - 1) e^i e^j / ((e^i + theta e^j) (theta e^i + e^j)) = (theta^2 - 1) P(i) P(j).
    At theta = 1 there are no ties and this is Bradley-Terry.

    Args:
        gap: r_i - r_j, any shape.
        log_theta: log theta >= 0, a scalar.
    """
    better, worse = logsigmoid(gap - log_theta), logsigmoid(-gap - log_theta)
    # log(theta^2 - 1) without overflow for a large theta, or cancellation for one near 1.
    double = 2 * log_theta
    return Outcomes(better, worse, double + torch.log(-torch.expm1(-double)) + better + worse)


def rao_kupper_loss(scores: Tensor, ranks: Tensor, mask: Tensor, log_theta: Tensor) -> Tensor:
    """Return each group's negative log-likelihood under `rao_kupper`, a mean over all its C(K, 2) pairs.

    Ties teach that scores are close. Only at theta = 1, where a tie is impossible, they are dropped.

    Args:
        scores: (G, K).
        ranks: (G, K).
        mask: (G, K) bool.
        log_theta: log theta >= 0, a scalar; its gradient is taken too.

    Returns:
        (G,).
    """
    if float(log_theta.detach()) == 0.0:
        return kwise_loss(scores, ranks, mask)
    outcomes = rao_kupper(_gaps(scores, mask), log_theta)
    decided = decided_pairs(ranks, mask)
    # Each tie once: the matrix has it above and below the diagonal.
    tied = (_real_pairs(mask) & (ranks[:, :, None] == ranks[:, None, :])).triu(1)
    logs = torch.where(tied, outcomes.tie, outcomes.better)
    return _over_pairs(decided | tied, logs, mask, "all")


def best_of_k_loss(scores: Tensor, ranks: Tensor, mask: Tensor) -> Tensor:
    """Return each group's loss for the choice of the best alone (Ziegler et al. 2019, Eq. 1).

    loss = -log(e^{r_best} / sum_k e^{r_k}); the other ranks are not read. Where several share the best
    rank, one of them was "chosen" and nobody said which: the loss is -log of their sum of probabilities.

    Args:
        scores: (G, K).
        ranks: (G, K).
        mask: (G, K) bool.

    Returns:
        (G,); 0 where all completions of a group tie.
    """
    nowhere = torch.full_like(scores, -torch.inf)
    ranks = torch.where(mask, ranks, torch.full_like(ranks, torch.inf))
    best = mask & (ranks == ranks.amin(1, keepdim=True))
    real = torch.where(mask, scores, nowhere)
    return real.logsumexp(1) - torch.where(best, scores, nowhere).logsumexp(1)


def regression_loss(scores: Tensor, ratings: Tensor, mask: Tensor) -> Tensor:
    """Return each group's mean squared distance between scores and ratings, in squared units of rating.

    Args:
        scores: (G, K).
        ratings: (G, K).
        mask: (G, K) bool.

    Returns:
        (G,).
    """
    error = torch.where(mask, scores - ratings.to(scores), torch.zeros_like(scores))
    return (error * error).sum(1) / mask.sum(1).clamp(min=1)


def pair_counts(scores: Tensor, ranks: Tensor, mask: Tensor) -> PairCounts:
    """Count pairs over all groups; each member of the result is a float64 scalar ().

    Args:
        scores: (G, K).
        ranks: (G, K).
        mask: (G, K) bool.
    """
    decided = decided_pairs(ranks, mask)
    gap = _gaps(scores, mask)
    correct = (decided & (gap > 0)).sum().double() + 0.5 * (decided & (gap == 0)).sum().double()
    pairs = _pairs(mask).sum()
    return PairCounts(correct, decided.sum().double(), (pairs - decided.sum()).double())


def _real_pairs(mask: Tensor) -> Tensor:
    """Return (G, K, K) bool: both completions are real."""
    return mask[:, :, None] & mask[:, None, :]


def _gaps(scores: Tensor, mask: Tensor) -> Tensor:
    """Return (G, K, K) differences r_i - r_j, with 0 for the scores of padding."""
    scores = torch.where(mask, scores, torch.zeros_like(scores))
    return scores[:, :, None] - scores[:, None, :]


def _pairs(mask: Tensor) -> Tensor:
    """Return (G,) C(K, 2) of the real completions."""
    size = mask.sum(1)
    return size * (size - 1) // 2


def _over_pairs(counted: Tensor, logs: Tensor, mask: Tensor, divide: PairDivisor) -> Tensor:
    """Return (G,) minus the sum of the counted (G, K, K) log-probabilities, divided as asked."""
    total = -torch.where(counted, logs, torch.zeros_like(logs)).sum((1, 2))
    pairs = _pairs(mask) if divide == "all" else counted.sum((1, 2))
    return total / pairs.clamp(min=1)
