"""Does the size of a score gap mean what Bradley and Terry say: P(i preferred to j) = sigmoid(r_i - r_j)?

A pair counts by the side that the model prefers: its confidence is sigmoid(|gap|), at least one half, and
it is right where people prefer that side. Ties of people are left out, since the model gives them no
probability. Where scores are equal the model prefers neither and the pair is half right.

Shapes: ``P`` decided pairs, ``S`` simulations.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from textrl.evaluation.reward_models.orders import agreement
from textrl.evaluation.reward_models.resampling import Ints
from textrl.evaluation.statistics import Floats

#: Where no gap is wrong the best scale is infinite; it ends where a usual gap is this large.
_STEEPEST = 100.0


@dataclass(frozen=True)
class Bin:
    """Pairs of like confidence.

    Attributes:
        confidence: Their mean.
        accuracy: Share in which people prefer what the model prefers.
        n: How many.
        low: Of their confidences, the least.
        high: The greatest.
    """

    confidence: float
    accuracy: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Calibration:
    """What score gaps are worth as probabilities.

    Attributes:
        bins: By rising confidence, with equally many pairs each.
        ece: Expected calibration error: mean over pairs of |accuracy - confidence| of their bin.
        ece_chance: What a perfectly calibrated model with these confidences would show by chance, mean, if
            pairs were independent of each other; the more they depend, the more chance gives.
        ece_chance_high: And at most, in 95 of 100 cases.
        confidence: Mean confidence; above the accuracy the model is overconfident.
        accuracy: Share of pairs in people's order.
        log_loss: Mean of -log P(what people preferred), nats; log 2 = 0.693 knows nothing.
        brier: Mean of (1 - P(what people preferred))^2; 0.25 knows nothing.
        scale: Gaps multiplied by this have the least log loss; below 1 the model is overconfident.
        scaled_ece: Expected calibration error of gaps so multiplied.
        scaled_log_loss: Their log loss.
        pairs: P.
    """

    bins: tuple[Bin, ...]
    ece: float
    ece_chance: float
    ece_chance_high: float
    confidence: float
    accuracy: float
    log_loss: float
    brier: float
    scale: float
    scaled_ece: float
    scaled_log_loss: float
    pairs: int

    def plain(self) -> dict[str, object]:
        """Return a plain mapping for JSON."""
        return asdict(self)


def calibration(
    gaps: ArrayLike, *, bins: int = 10, seed: int = 0, simulations: int = 200
) -> Calibration | None:
    """Measure calibration; None without any pair.

    Args:
        gaps: (P,) score of what people preferred minus score of the other.
        bins: How many at most; each has at least 10 pairs where there are so many.
        seed: Of the simulations.
        simulations: S, how often outcomes are drawn from the model's own probabilities.
    """
    gap = np.asarray(gaps, dtype=np.float64)
    if not len(gap):
        return None
    count = how_many(len(gap), bins)
    found = reliability(gap, count)
    chance = _by_chance(gap, count, seed, simulations)
    scale = best_scale(gap)
    scaled = gap * scale
    right = sigmoid(gap)
    return Calibration(
        bins=tuple(found),
        ece=expected_error(found),
        ece_chance=float(chance.mean()),
        ece_chance_high=float(np.quantile(chance, 0.95)),
        confidence=float(sigmoid(np.abs(gap)).mean()),
        accuracy=float(agreement(gap).mean()),
        log_loss=log_loss(gap),
        brier=float(((1 - right) ** 2).mean()),
        scale=scale,
        scaled_ece=expected_error(reliability(scaled, count)),
        scaled_log_loss=log_loss(scaled),
        pairs=len(gap),
    )


def how_many(pairs: int, most: int = 10) -> int:
    """Return how many bins that many pairs are sorted into: at least 10 pairs each."""
    return max(1, min(most, pairs // 10))


def reliability(gaps: Floats, count: int) -> list[Bin]:
    """Sort (P,) gaps by confidence into `count` bins of equally many pairs (but for remainders)."""
    confidence, right = sigmoid(np.abs(gaps)), agreement(gaps)
    return [
        Bin(
            confidence=float(confidence[part].mean()),
            accuracy=float(right[part].mean()),
            n=len(part),
            low=float(confidence[part[0]]),
            high=float(confidence[part[-1]]),
        )
        for part in members(gaps, count)
    ]


def members(gaps: Floats, count: int) -> list[Ints]:
    """Return the indices of the pairs in each bin of `reliability`."""
    order = np.argsort(np.abs(gaps), kind="stable")
    return [part for part in np.array_split(order, count) if len(part)]


def expected_error(bins: list[Bin]) -> float:
    """Return the expected calibration error (Naeini, Cooper & Hauskrecht, AAAI 2015)."""
    pairs = sum(one.n for one in bins)
    return sum(one.n * abs(one.accuracy - one.confidence) for one in bins) / pairs


def log_loss(gaps: Floats) -> float:
    """Return the mean of -log sigmoid(gap) over (P,) gaps, nats."""
    return float(np.logaddexp(0.0, -gaps).mean())


def best_scale(gaps: Floats) -> float:
    """Return the s >= 0 that minimises the mean of -log sigmoid(s gap): a logistic regression of one weight.

    The loss is convex in s, so bisection of its slope finds the minimum. 0 where gaps are wrong on the
    whole; bounded where every gap is right (see `_STEEPEST`), and then at least 1.
    """
    size = math.sqrt(float((gaps**2).mean()))
    if size == 0:
        return 0.0
    unit = gaps / size

    def slope(scale: float) -> float:
        return float(-(unit * sigmoid(-scale * unit)).mean())

    low, high = 0.0, max(_STEEPEST, size)
    if slope(low) >= 0:
        return 0.0
    if slope(high) <= 0:
        return high / size
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2 / size


def sigmoid(values: Floats) -> Floats:
    """Return 1 / (1 + exp(-value)) without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -values)), dtype=np.float64)


def _by_chance(gaps: Floats, count: int, seed: int, simulations: int) -> Floats:
    """Return (S,) calibration errors of outcomes drawn from the model's own probabilities.

    Sampling noise alone makes the error positive, the more so the fewer pairs there are.
    """
    size = np.abs(gaps)
    probability = sigmoid(size)
    rng = np.random.default_rng(seed)
    errors = []
    for _ in range(simulations):
        sign = np.where(rng.random(len(size)) < probability, 1.0, -1.0)
        errors.append(expected_error(reliability(size * sign, count)))
    return np.array(errors)
