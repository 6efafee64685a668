"""Numbers of a run and over seeds. Shapes: N episodes, S seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from textrl.evaluation.statistics import bootstrap_mean

#: "The last episodes" of a run are this many.
LAST = 50
#: "To reach" a return means that the mean over this many episodes does.
WINDOW = 100
#: A run's curve has at most this many points.
POINTS = 200


@dataclass(frozen=True)
class Summary:
    """A figure over seeds.

    Attributes:
        values: (S,) one for each seed.
        mean: Their mean.
        sem: Standard error of the mean; None for one seed.
        lo: Lower end of the 95 % bootstrap interval over seeds; None for one seed.
        hi: Upper end.
    """

    values: tuple[float, ...]
    mean: float
    sem: float | None
    lo: float | None
    hi: float | None


def summarise(values: ArrayLike) -> Summary:
    """Return mean, standard error and 95 % percentile bootstrap interval over seeds.

    Args:
        values: (S,) finite, at least one.
    """
    per_seed = np.asarray(values, dtype=np.float64)
    given = tuple(per_seed.tolist())
    if len(per_seed) == 1:  # says nothing about how far another seed would be
        return Summary(given, float(per_seed[0]), None, None, None)
    interval = bootstrap_mean(per_seed)
    sem = float(per_seed.std(ddof=1)) / math.sqrt(len(per_seed))
    return Summary(given, interval.value, sem, interval.lo, interval.hi)


def steps_to_reach(ends: Sequence[int], returns: Sequence[float], level: float) -> int | None:
    """Return the environment steps at which the moving mean over `WINDOW` episodes reaches `level`.

    Args:
        ends: (N,) environment steps at the end of each episode.
        returns: (N,) returns.
        level: What the mean of the last `WINDOW` returns must be at least.

    Returns:
        Steps, or None where it never does.
    """
    if len(returns) < WINDOW:
        return None
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(returns, dtype=np.float64))])
    means = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    reached = np.flatnonzero(means >= level)
    return int(ends[int(reached[0]) + WINDOW - 1]) if len(reached) else None


def thinned(ends: Sequence[int], returns: Sequence[float], points: int = POINTS) -> list[list[float]]:
    """Return a curve of at most `points` (steps, return): means over stretches of consecutive episodes.

    Args:
        ends: (N,) environment steps at the end of each episode.
        returns: (N,) returns.
        points: How many at most.
    """
    stretches = (
        [part for part in np.array_split(np.arange(len(returns)), min(points, len(returns))) if len(part)]
        if len(returns)
        else []
    )
    values = np.asarray(returns, dtype=np.float64)
    return [[int(ends[part[-1]]), float(values[part].mean())] for part in stretches]


def band(
    curves: Sequence[Sequence[Sequence[float]]], points: int = POINTS
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Return (steps, mean, lower, upper) of several seeds' curves on common steps.

    Each curve is interpolated linearly; the grid spans what all of them cover. The band is the 95 %
    interval of the mean under a normal distribution: a bootstrap at every point would draw the same.

    Args:
        curves: S curves of (steps, return).
        points: Size of the grid at most.
    """
    kept = [np.asarray(curve, dtype=np.float64) for curve in curves if len(curve)]
    if not kept:
        return [], [], [], []
    first, last = max(curve[0, 0] for curve in kept), min(curve[-1, 0] for curve in kept)
    if last < first:
        return [], [], [], []
    at = np.linspace(first, last, min(points, max(len(curve) for curve in kept)))
    return at.tolist(), *mean_band(np.stack([np.interp(at, curve[:, 0], curve[:, 1]) for curve in kept]))


def mean_band(values: NDArray[np.float64]) -> tuple[list[float], list[float], list[float]]:
    """Return (mean, lower, upper), each (N,), of (S, N) values; the band is the mean -+ 1.96 s.e.m."""
    mean = values.mean(axis=0)
    half = np.zeros_like(mean)
    if len(values) > 1:
        half = 1.96 * values.std(axis=0, ddof=1) / math.sqrt(len(values))
    return mean.tolist(), (mean - half).tolist(), (mean + half).tolist()
