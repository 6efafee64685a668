"""Axes: ranges, round tick values, logarithms and smoothing for the report's figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from textrl.report.text import num


@dataclass(frozen=True)
class Axis:
    """Maps values to 0..1 along one axis.

    Attributes:
        lo: Value at 0, hi: value at 1 (their log10 where `log`).
        ticks: Round values inside the range.
    """

    lo: float
    hi: float
    ticks: tuple[float, ...]
    log: bool = False

    def at(self, value: float) -> float:
        """Return the position of `value`, clamped to the axis."""
        if self.log:
            value = math.log10(max(value, 1e-300))
        return min(1.0, max(0.0, (value - self.lo) / (self.hi - self.lo)))

    def labels(self) -> list[tuple[float, str]]:
        """Return (position, text) of every tick, with just enough decimals to tell them apart."""
        if self.log:
            return [(self.at(tick), num(tick)) for tick in self.ticks]
        gap = min((b - a for a, b in zip(self.ticks, self.ticks[1:], strict=False)), default=1.0)
        if gap < 1e-4:
            return [(self.at(tick), num(tick)) for tick in self.ticks]
        digits = max(0, math.ceil(-math.log10(gap) - 1e-9))
        if digits < 4 and abs(gap * 10**digits - round(gap * 10**digits)) > 1e-6:  # steps of 0.25
            digits += 1
        return [(self.at(tick), num(tick, digits=digits)) for tick in self.ticks]


def axis(
    values: Sequence[float],
    *,
    include: Sequence[float] = (),
    pad: float = 0.04,
    log: bool = False,
    count: int = 4,
) -> Axis:
    """Return an axis that holds `values` and `include`, with about `count` ticks.

    `log` asks for a logarithmic axis where the values span a factor of fifty.
    """
    everything = [*values, *include] or [0.0, 1.0]
    if log and needs_log(everything):
        return _log_axis(everything)
    lo, hi = min(everything), max(everything)
    if hi - lo <= 1e-12 * max(1.0, abs(lo), abs(hi)):
        around = abs(hi) * 0.1 or 1.0
        lo, hi = lo - around, hi + around
    margin = (hi - lo) * pad
    # A range that starts at zero keeps zero on its edge: nothing can lie below it.
    low = lo if lo == 0 else lo - margin
    high = hi if hi == 0 else hi + margin
    return Axis(low, high, tuple(_ticks(low, high, count)))


def _log_axis(values: Sequence[float]) -> Axis:
    lo, hi = math.log10(min(values)), math.log10(max(values))
    lo, hi = lo - 0.05 * (hi - lo) - 0.02, hi + 0.05 * (hi - lo) + 0.02
    stride = max(1, math.ceil((hi - lo) / 4))
    ticks = [10.0**p for p in range(math.ceil(lo), math.floor(hi) + 1) if p % stride == 0]
    if len(ticks) < 2:
        ticks = [m * 10.0**p for p in range(math.floor(lo), math.ceil(hi) + 1) for m in (1, 2, 5)]
        ticks = [tick for tick in ticks if lo <= math.log10(tick) <= hi]
    return Axis(lo, hi, tuple(ticks), log=True)


def _ticks(lo: float, hi: float, count: int) -> list[float]:
    rough = (hi - lo) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(lo / step - 1e-9)
    last = math.floor(hi / step + 1e-9)
    # Integers times the step, so that zero is zero and not 1e-17.
    return [k * step for k in range(first, last + 1)]


def needs_log(values: Sequence[float]) -> bool:
    """Whether positive values span more than a factor of fifty."""
    return bool(values) and min(values) > 0 and max(values) / min(values) > 50


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Return the centred running mean; at both ends the window is what is left of it."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    half, count = width // 2, len(values)
    windows = ((max(0, i - half), min(count, i + half + 1)) for i in range(count))
    return [(sums[stop] - sums[start]) / (stop - start) for start, stop in windows]


def thin(points: Sequence[tuple[float, float]], limit: int) -> list[tuple[float, float]]:
    """Keep the lowest and the highest point of each bucket, so that no spike disappears."""
    if len(points) <= limit:
        return list(points)
    size = math.ceil(2 * len(points) / limit)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        bucket = points[start : start + size]
        low, high = min(bucket, key=lambda p: p[1]), max(bucket, key=lambda p: p[1])
        kept.extend(sorted({low, high}))
    return kept
