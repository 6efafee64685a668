"""Whether scores put texts in people's order: pairs, and whole rankings of K.

Shapes: ``K`` texts of a ranking, ``P`` pairs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from textrl.evaluation.statistics import Floats


def agreement(gaps: ArrayLike) -> Floats:
    """Return (P,) 1 where the better text scores higher, 0 where lower, 0.5 where the scores are equal.

    Args:
        gaps: (P,) score of the better text minus score of the worse.
    """
    gap = np.asarray(gaps, dtype=np.float64)
    return np.asarray((gap > 0) + 0.5 * (gap == 0), dtype=np.float64)


def kendall_tau_b(scores: ArrayLike, ranks: ArrayLike) -> float:
    """Return Kendall's tau-b between scores and people's order; NaN where either ties altogether.

    tau_b = (concordant - discordant) / sqrt( (n0 - n1) (n0 - n2) ), n0 = K (K - 1) / 2, n1 and n2 the pairs
    tied in the one and in the other (Kendall, "The treatment of ties in ranking problems", Biometrika 33,
    1945). 1 is the same order, -1 the reverse.

    Args:
        scores: (K,) larger is better.
        ranks: (K,) smaller is better.
    """
    one, two = np.asarray(scores, dtype=np.float64), -np.asarray(ranks, dtype=np.float64)
    i, j = np.triu_indices(len(one), 1)
    first, second = np.sign(one[i] - one[j]), np.sign(two[i] - two[j])
    scale = math.sqrt(float(np.abs(first).sum()) * float(np.abs(second).sum()))
    return float((first * second).sum()) / scale if scale > 0 else math.nan


def top_1(scores: ArrayLike, ranks: ArrayLike) -> float:
    """Return the share of the highest-scored texts that people ranked best; NaN where people tie all.

    Where several texts share the highest score this is the chance that one of them, drawn at random, is
    among those that people ranked best; where people tied several for the best, each of them is right.

    Args:
        scores: (K,) larger is better.
        ranks: (K,) smaller is better.
    """
    score, rank = np.asarray(scores, dtype=np.float64), np.asarray(ranks, dtype=np.float64)
    if len(np.unique(rank)) == 1:
        return math.nan
    return float((rank == rank.min())[score == score.max()].mean())


def top_1_by_chance(ranks: ArrayLike) -> float:
    """Return the share of the (K,) texts that people ranked best: what a random choice reaches."""
    rank = np.asarray(ranks, dtype=np.float64)
    return float((rank == rank.min()).mean())
