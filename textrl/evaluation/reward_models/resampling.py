"""Shares with intervals that respect what is independent: prompts, or single texts.

All pairs of one prompt resemble each other, so prompts are what is drawn with replacement. Where texts of
different prompts are compared, a pair has two ends, and every pair with a text in common resembles it: then
texts are drawn, and a pair counts as often as both of its ends were drawn (the bootstrap of a U-statistic;
Davison & Hinkley, Bootstrap Methods and their Application, 1997, ch. 3.8 on dependent pairs; for dyads e.g.
Snijders & Borgatti, "Non-parametric standard errors and tests for network statistics", Connections 22, 1999).

Shapes: ``P`` pairs (or rankings), ``C`` clusters, ``M`` figures, ``R`` resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from textrl.evaluation.statistics import Floats

Ints = NDArray[np.int64]
#: Weights held at one time: 32 MB.
_BLOCK = 4_000_000
#: Two-sided 95 %.
_Z = 1.959963984540054


@dataclass(frozen=True)
class Share:
    """A share (or mean) with its interval.

    Attributes:
        value: None where there is nothing to count.
        lo: Lower end of the 95 % interval; None where one cluster or none says nothing about others.
        hi: Upper end.
        n: What it stands on: how many pairs (rankings).
    """

    value: float | None
    lo: float | None
    hi: float | None
    n: float

    def plain(self) -> dict[str, float | None]:
        """Return a plain mapping for JSON."""
        return {"value": self.value, "lo": self.lo, "hi": self.hi, "n": self.n}


def wilson(successes: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of `n` > 0 independent trials.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    Half successes (ties) are allowed.
    """
    share, z2 = successes / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


class Shares:
    """Ratios of sums over pairs, all resampled together: the weights cost more than the sums."""

    def __init__(
        self, first: ArrayLike, second: ArrayLike | None = None, *, seed: int = 0, resamples: int = 1000
    ) -> None:
        """Keep the clusters.

        Args:
            first: (P,) cluster of one end.
            second: (P,) cluster of the other end; `first` where a pair lies within one cluster.
            seed: Of the draws.
            resamples: R.
        """
        ends = np.asarray(first, dtype=np.int64)
        self.first = ends
        self.second = ends if second is None else np.asarray(second, dtype=np.int64)
        self.seed, self.resamples = seed, resamples
        self._parts: dict[str, tuple[Floats, Floats]] = {}
        self._differences: set[str] = set()
        self._means: dict[str, tuple[str, ...]] = {}
        self._drawn: dict[str, Floats] | None = None

    def add(self, name: str, values: ArrayLike, counted: ArrayLike, *, difference: bool = False) -> None:
        """Ask for sum(counted * values) / sum(counted) over the pairs.

        Args:
            name: Of the figure; unique.
            values: (P,) in [0, 1], or any number for a `difference`; read only where `counted` is above 0.
            counted: (P,) bool, or weights.
            difference: The figure is no share, so that Wilson's interval does not apply.
        """
        weight = np.asarray(counted, dtype=np.float64)
        value = np.where(weight > 0, np.asarray(values, dtype=np.float64), 0.0) * weight
        if name in self:
            raise ValueError(f"the figure '{name}' was asked for already")
        self._parts[name], self._drawn = (value, weight), None
        if difference:
            self._differences.add(name)

    def __contains__(self, name: str) -> bool:
        """Whether a figure was asked for."""
        return name in self._parts or name in self._means

    def add_mean(self, name: str, *of: str) -> None:
        """Ask for the mean of figures that were added before, resampled together."""
        self._means[name] = of

    def get(self, name: str) -> Share:
        """Return a figure with its interval.

        The interval is Wilson's where the pairs that count are independent of each other, and where every
        resample gives the same (all right, or all wrong), of which the bootstrap would conclude certainty:
        then with the number of clusters for the number of trials. Else it is the percentile bootstrap.
        """
        if name in self._means:
            return self._mean(name)
        value, weight = self._parts[name]
        total = float(weight.sum())
        if total == 0:
            return Share(None, None, None, 0)
        share = float(value.sum() / total)
        ends = np.stack([self.first, self.second])[:, weight > 0]
        clusters = len(np.unique(ends))
        whole = name not in self._differences and bool(((weight == 0) | (weight == 1)).all())
        within = bool((ends[0] == ends[1]).all())
        if whole and within and clusters == ends.shape[1]:
            low, high = wilson(float(value.sum()), total)
            return Share(share, low, high, total)
        if clusters < 2:
            return Share(share, None, None, total)
        low, high = _percentiles(self._samples()[name])
        if whole and high - low < 1e-12:
            # Pairs across clusters: as many independent ones as texts could be dealt into pairs.
            trials = clusters if within else clusters / 2
            low, high = wilson(share * trials, trials)
        return Share(share, low, high, total)

    def _mean(self, name: str) -> Share:
        parts = [self.get(part) for part in self._means[name]]
        values = [part.value for part in parts if part.value is not None]
        n = float(sum(part.n for part in parts))
        if len(values) < len(parts):
            return Share(None, None, None, n)
        mean = float(np.mean(values))
        if any(part.lo is None for part in parts):
            return Share(mean, None, None, n)
        low, high = _percentiles(np.mean([self._samples()[part] for part in self._means[name]], axis=0))
        return Share(mean, low, high, n)

    def _samples(self) -> dict[str, Floats]:
        """Return each figure's (R,) resampled values; NaN where a resample has nothing to count."""
        if self._drawn is None:
            names = list(self._parts)
            tops = np.stack([self._parts[name][0] for name in names], axis=1)  # (P, M)
            feet = np.stack([self._parts[name][1] for name in names], axis=1)
            sums = self._resample(np.concatenate([tops, feet], axis=1))
            top, foot = sums[:, : len(names)], sums[:, len(names) :]
            with np.errstate(invalid="ignore", divide="ignore"):
                ratio = np.where(foot > 0, top / np.where(foot > 0, foot, 1.0), np.nan)
            self._drawn = {name: ratio[:, i] for i, name in enumerate(names)}
        return self._drawn

    def _resample(self, columns: Floats) -> Floats:
        """Return (R, 2M) sums of the (P, 2M) columns under weights of drawn clusters."""
        _, flat = np.unique(np.concatenate([self.first, self.second]), return_inverse=True)
        first, second = flat[: len(self.first)], flat[len(self.first) :]
        count = int(flat.max()) + 1
        within = bool((first == second).all())
        if within:  # summed once for each cluster, so that many pairs cost no more than many clusters
            table = np.zeros((count, columns.shape[1]))
            np.add.at(table, first, columns)
            columns = table
        rng = np.random.default_rng(self.seed)
        out = np.empty((self.resamples, columns.shape[1]))
        size = max(1, _BLOCK // max(len(columns), count))
        for start in range(0, self.resamples, size):
            rows = min(size, self.resamples - start)
            drawn = rng.integers(count, size=(rows, count)) + np.arange(rows)[:, None] * count
            times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count).astype(np.float64)
            if not within:
                times = np.where(first == second, times[:, first], times[:, first] * times[:, second])
            out[start : start + rows] = times @ columns
        return out


def _percentiles(drawn: Floats) -> tuple[float, float]:
    kept = drawn[np.isfinite(drawn)]
    low, high = np.quantile(kept, [0.025, 0.975])
    return float(low), float(high)
