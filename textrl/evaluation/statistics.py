"""Accuracy of a scorer on pairs, and bootstrap intervals over prompts.

Several samples of one prompt resemble each other, so the prompt is what is resampled, never the
single sample (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8: resample the unit
that is independent). Shapes: N prompts, S samples of each prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided interval."""

    value: float
    lo: float
    hi: float

    def plain(self) -> dict[str, float]:
        """Return a plain mapping for a summary."""
        return {"value": self.value, "lo": self.lo, "hi": self.hi}

    def __str__(self) -> str:
        return f"{self.value:+.2f} [{self.lo:+.2f}, {self.hi:+.2f}]"


def bootstrap_mean(
    values: ArrayLike, *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> Interval:
    """Percentile bootstrap of a mean over prompts.

    Args:
        values: (N,) one value a prompt, or (N, S) values averaged within each prompt first.
        seed: Seeds the resampling.
        resamples: How many times the prompts are drawn with replacement.
        level: Coverage of the interval.

    Raises:
        ValueError: Without any prompt, or where a value is not finite.
    """
    matrix = np.asarray(values, dtype=np.float64)
    per_prompt = matrix.reshape(len(matrix), -1).mean(axis=1) if matrix.size else matrix.reshape(0)
    if per_prompt.size == 0 or not np.isfinite(per_prompt).all():
        raise ValueError(f"a bootstrap needs finite values of at least one prompt, got shape {matrix.shape}")
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    # In blocks, since 10,000 x 1,000 indices at once would take 80 MB.
    for start in range(0, resamples, 500):
        size = min(500, resamples - start)
        drawn = rng.integers(len(per_prompt), size=(size, len(per_prompt)))
        means[start : start + size] = per_prompt[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(per_prompt.mean()), float(low), float(high))


def paired_gain(before: ArrayLike, after: ArrayLike, *, seed: int = 0, resamples: int = 10_000) -> Interval:
    """Mean of `after` minus `before` with a 95 % bootstrap interval over prompts.

    Args:
        before: (N,) or (N, S) scores; the number of samples may differ between the two.
        after: (N,) or (N, S') scores of the same prompts in the same order.
        seed: Seeds the resampling.
        resamples: Bootstrap resamples.
    """
    first, second = _scores(before), _scores(after)
    _same_prompts(first, second)
    return bootstrap_mean(second.mean(axis=1) - first.mean(axis=1), seed=seed, resamples=resamples)


def win_rate(
    before: ArrayLike, after: ArrayLike, *, seed: int = 0, resamples: int = 10_000, tie: float = 1e-6
) -> Interval:
    """How often a sample of `after` scores higher than one of `before` for the same prompt.

    All S x S' pairs of a prompt are compared; a tie counts as half a win. The interval is a 95 %
    bootstrap over prompts.

    Args:
        before: (N,) or (N, S) scores.
        after: (N,) or (N, S') scores of the same prompts in the same order.
        seed: Seeds the resampling.
        resamples: Bootstrap resamples.
        tie: Scores this close are a tie: the same text scored in another batch differs by rounding.
    """
    first, second = _scores(before), _scores(after)
    _same_prompts(first, second)
    gap = second[:, :, None] - first[:, None, :]
    wins = np.where(np.abs(gap) <= tie, 0.5, (gap > 0).astype(np.float64))
    return bootstrap_mean(wins.reshape(len(wins), -1), seed=seed, resamples=resamples)


def pair_accuracy(scores: ArrayLike, truth: ArrayLike, *, margin: float = 1.0) -> float:
    """Share of pairs with truths at least `margin` apart that the scores order the same way.

    Equal scores count as half. NaN where no pair is that far apart.

    Args:
        scores: (N,) what the scorer says.
        truth: (N,) what people say.
        margin: Smallest difference of truth that counts as a pair.
    """
    said, meant = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    pairs = meant[:, None] - meant[None, :] >= margin
    gap = (said[:, None] - said[None, :])[pairs]
    return float(((gap > 0) + 0.5 * (gap == 0)).mean()) if gap.size else float("nan")


def pearson(scores: ArrayLike, truth: ArrayLike) -> float:
    """Correlation of two (N,) arrays; NaN where one of them does not vary."""
    said, meant = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    said, meant = said - said.mean(), meant - meant.mean()
    scale = float(np.sqrt((said**2).sum() * (meant**2).sum()))
    return float((said * meant).sum() / scale) if scale > 0 else float("nan")


def _scores(values: ArrayLike) -> Floats:
    matrix = np.asarray(values, dtype=np.float64)
    return matrix[:, None] if matrix.ndim == 1 else matrix


def _same_prompts(first: Floats, second: Floats) -> None:
    if len(first) != len(second):
        raise ValueError(f"the two sets of scores are of {len(first)} and {len(second)} prompts")
