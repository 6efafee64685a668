"""Curves over seeds: means, intervals, peaks, and the fitted laws. Shapes: S seeds, N points of a curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from textrl.evaluation.overopt.fits import Fit, fit

Method = Literal["best_of_n", "ppo"]
METHODS: tuple[Method, ...] = ("best_of_n", "ppo")
Floats = NDArray[np.float64]
#: 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom, up to 10; beyond, the normal's is near.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Band:
    """A score over distance.

    Attributes:
        mean: (N,) over seeds.
        se: (N,) standard error of the mean; this and the interval are empty for one seed.
        lo: (N,) lower end of the mean's 95 % t interval.
        hi: (N,) upper end.
    """

    mean: list[float]
    se: list[float]
    lo: list[float]
    hi: list[float]


@dataclass(frozen=True)
class Curves:
    """Both scores of one proxy under one method.

    Attributes:
        d: (N,) mean distances sqrt(KL). PPO's may turn back at the end: once a policy says one thing only,
            it can move to a text that the initial policy finds likelier.
        gold: Gain of the gold score.
        proxy: Gain of the proxy's own score.
        summaries: For each seed where its gold score peaks and where it ends.
    """

    d: list[float]
    gold: Band
    proxy: Band
    summaries: list[dict[str, float]]


@dataclass(frozen=True)
class Shown:
    """Everything about one proxy that is drawn or tabulated."""

    name: str
    curves: dict[Method, Curves]
    fits: dict[Method, Fit | None]

    def plain(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.name,
            **{
                method: {
                    **asdict(self.curves[method]),
                    "fit": None if (law := self.fits[method]) is None else law.plain(),
                }
                for method in METHODS
            },
        }


def gather(name: str, results: Sequence[Mapping[str, Any]]) -> Shown:
    """Bring the seeds of one proxy together.

    Args:
        name: Of the proxy.
        results: Of `textrl.evaluation.overopt.trial.run_trial`, one for each seed.
    """
    curves, fits = {}, {}
    for method in METHODS:
        seeds = [[_point(point) for point in result[method]] for result in results]
        curves[method] = join(seeds)
        points = [point for seed in seeds for point in outward(seed) if point["d"] > 0]
        law = None
        if len(points) >= 3:
            d, gold = ([point[key] for point in points] for key in ("d", "gold"))
            law = fit("best_of_n" if method == "best_of_n" else "rl", d, gold)
        fits[method] = law
    return Shown(name, curves, fits)


def _point(point: Mapping[str, float]) -> dict[str, float]:
    return {"d": math.sqrt(point["kl"]), "proxy": point["proxy"], "gold": point["gold"]}


def join(seeds: Sequence[Sequence[Mapping[str, float]]]) -> Curves:
    """Average the curves of S seeds point by point; point k is the same n or the same iteration in all.

    Args:
        seeds: For each seed its N points in the order of optimisation, with ``d``, ``proxy`` and ``gold``.

    Raises:
        ValueError: When the seeds do not have equally many points.
    """
    if len({len(points) for points in seeds}) != 1:
        raise ValueError("the seeds of a curve need equally many points")
    values = {
        key: np.array([[point[key] for point in points] for points in seeds])
        for key in ("d", "gold", "proxy")
    }
    return Curves(
        d=values["d"].mean(0).tolist(),
        gold=_band(values["gold"]),
        proxy=_band(values["proxy"]),
        summaries=[summary(points) for points in seeds],
    )


def outward(points: Sequence[Mapping[str, float]]) -> Sequence[Mapping[str, float]]:
    """Return a seed's points up to the farthest one: a path that turns back is no function of d."""
    farthest = max(range(len(points)), key=lambda i: points[i]["d"])
    return points[: farthest + 1]


def summary(points: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return where one seed's gold score is highest, and where it ends."""
    top = max(points, key=lambda point: point["gold"])
    end = points[-1]
    return {
        "peak_d": top["d"],
        "peak_gold": top["gold"],
        "peak_proxy": top["proxy"],
        "end_d": end["d"],
        "end_gold": end["gold"],
        "end_proxy": end["proxy"],
    }


def drop(curves: Curves) -> tuple[list[float], list[float]]:
    """Return (S,) how much gold falls from its peak to the end, and (S,) how much the proxy rises there."""
    fall = [one["peak_gold"] - one["end_gold"] for one in curves.summaries]
    rise = [one["end_proxy"] - one["peak_proxy"] for one in curves.summaries]
    return fall, rise


def mean_interval(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Return (N,) mean, lower and upper end of its 95 % t interval, of (S, N) values; NaN ends for S = 1."""
    mean = values.mean(0)
    if len(values) < 2:
        nothing = np.full_like(mean, np.nan)
        return mean, nothing, nothing
    t = _T[len(values) - 2] if len(values) - 2 < len(_T) else 1.96
    half = t * values.std(0, ddof=1) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def interval(values: Sequence[float], digits: int) -> str:
    """Return the mean over seeds and its 95 % t interval for a cell of a table."""
    mean, lo, hi = (float(part[0]) for part in mean_interval(np.asarray(values, dtype=np.float64)[:, None]))
    if math.isnan(lo):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} [{lo:.{digits}f}, {hi:.{digits}f}]"


def _band(values: Floats) -> Band:
    """Return the band of (S, N) values."""
    mean, lo, hi = mean_interval(values)
    if len(values) < 2:
        return Band(mean.tolist(), [], [], [])
    error = values.std(0, ddof=1) / math.sqrt(len(values))
    return Band(mean.tolist(), error.tolist(), lo.tolist(), hi.tolist())
