"""How long a person takes from seeing a step to pressing a key: distributions of the delay.

A delay has a cumulative distribution `cdf` and its running integral `cdf_integral`, which is all that
credit assignment needs (`textrl.tamer.credit`). Both take scalars or arrays of seconds and are 0 for
t <= 0: nobody rates a step before it is shown.

Densities in use: uniform [.2, .8] s by default, uniform [.2, .9] s for Cart Pole and Mountain Car (Vien
2013), Gamma(2, .28) and uniform [.2, 4] s (Warnell 2018, "Deep TAMER"; the latter for trainers who wait
for an outcome), the previous step in slow tasks (Knox and Stone's code).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from textrl.tamer.settings import DelaySettings

Array = NDArray[np.float64]
#: What a delay is counted in; a step counts as one however long it was on screen.
Unit = Literal["seconds", "steps"]


class Delay(Protocol):
    """A distribution over non-negative delays.

    Attributes:
        unit: What `t` is counted in.
    """

    unit: ClassVar[Unit]

    def cdf(self, t: ArrayLike) -> Array:
        """Return F(t), the probability of a delay of at most `t`."""
        ...

    def cdf_integral(self, t: ArrayLike) -> Array:
        """Return the integral of F from 0 to `t`."""
        ...


@dataclass(frozen=True)
class Uniform:
    """Every delay from `low` to `high` seconds is as likely.

    Attributes:
        low: The fastest press, seconds, 0 or more.
        high: The slowest press, seconds, above `low`.
    """

    low: float = 0.2
    high: float = 0.8
    unit: ClassVar[Unit] = "seconds"

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high < np.inf:
            raise ValueError(f"high is {self.high} and low {self.low}; 0 <= low < high must hold")

    def cdf(self, t: ArrayLike) -> Array:
        """Return F(t) = (t - low) / (high - low), clipped to [0, 1]."""
        rising = (np.asarray(t, np.float64) - self.low) / (self.high - self.low)
        return np.minimum(np.maximum(rising, 0.0), 1.0)

    def cdf_integral(self, t: ArrayLike) -> Array:
        """Return the integral: a parabola inside [low, high], then a line of slope 1."""
        late = np.asarray(t, np.float64) - self.low
        width = self.high - self.low
        inside = np.minimum(np.maximum(late, 0.0), width)
        return inside * inside / (2 * width) + np.maximum(late - width, 0.0)


@dataclass(frozen=True)
class Gamma:
    """A gamma distribution, mean ``shape * scale``.

    Attributes:
        shape: k, above 0.
        scale: theta in seconds, above 0.
    """

    shape: float = 2.0
    scale: float = 0.28
    unit: ClassVar[Unit] = "seconds"

    def __post_init__(self) -> None:
        if not (0 < self.shape < np.inf and 0 < self.scale < np.inf):
            raise ValueError(f"shape is {self.shape} and scale {self.scale}; both must be above 0")

    def cdf(self, t: ArrayLike) -> Array:
        """Return P(k, t / theta), the regularised lower incomplete gamma function."""
        return _gammainc(self.shape, np.asarray(t, np.float64) / self.scale)

    def cdf_integral(self, t: ArrayLike) -> Array:
        """Return t F(t; k) - k theta F(t; k + 1): by parts, with t f(t; k) = k theta f(t; k + 1)."""
        x = np.maximum(np.asarray(t, np.float64), 0.0) / self.scale
        inside = x * _gammainc(self.shape, x) - self.shape * _gammainc(self.shape + 1.0, x)
        return self.scale * inside


@dataclass(frozen=True)
class PreviousStep:
    """A press rates the step before the one on screen: the delay is one step exactly, whatever its length."""

    unit: ClassVar[Unit] = "steps"

    def cdf(self, t: ArrayLike) -> Array:
        """Return 1 from `t` = 1 step on."""
        return np.where(np.asarray(t, np.float64) >= 1.0, 1.0, 0.0)

    def cdf_integral(self, t: ArrayLike) -> Array:
        """Return max(t - 1, 0) steps."""
        return np.maximum(np.asarray(t, np.float64) - 1.0, 0.0)


@dataclass(frozen=True)
class Empirical:
    """A cumulative distribution given at points and linear between them, for example from a calibration.

    Attributes:
        times: Increasing, seconds, 0 or more.
        values: F at `times`: from 0, never falling, to 1.
    """

    times: tuple[float, ...]
    values: tuple[float, ...]
    unit: ClassVar[Unit] = "seconds"

    def __post_init__(self) -> None:
        times, values = np.array(self.times, np.float64), np.array(self.values, np.float64)
        if len(times) < 2 or len(times) != len(values):
            raise ValueError(
                f"times has {len(times)} and cdf {len(values)} numbers; give as many, at least two"
            )
        if not (np.isfinite(times).all() and times[0] >= 0 and (np.diff(times) > 0).all()):
            raise ValueError(f"times is {self.times}; it must increase from 0 s or later")
        if values[0] != 0 or values[-1] != 1 or not (np.diff(values) >= 0).all():
            raise ValueError(f"cdf is {self.values}; it must rise from 0 to 1")

    @functools.cached_property
    def _points(self) -> tuple[Array, Array, Array]:
        """Times, values, and the integral of F up to each time."""
        times, values = np.array(self.times, np.float64), np.array(self.values, np.float64)
        pieces = np.diff(times) * (values[1:] + values[:-1]) / 2
        return times, values, np.concatenate([[0.0], np.cumsum(pieces)])

    @classmethod
    def fit(cls, latencies: ArrayLike, points: int = 21) -> Empirical:
        """Return the distribution of measured delays, through `points` of their quantiles.

        Args:
            latencies: Delays in seconds, at least two different ones, all 0 or more.
            points: How many quantiles, two or more.

        Raises:
            ValueError: When there are too few.
        """
        levels = np.linspace(0.0, 1.0, points)
        times, first = np.unique(np.quantile(np.asarray(latencies, np.float64), levels), return_index=True)
        if len(times) < 2:
            raise ValueError("latencies are all the same; a distribution needs two different ones")
        # Of equal quantiles the highest level counts, except at the beginning, where F is 0.
        last = np.append(first[1:] - 1, points - 1)
        values = levels[last]
        values[0] = 0.0
        return cls(tuple(times.tolist()), tuple(values.tolist()))

    def cdf(self, t: ArrayLike) -> Array:
        """Return F(t) by linear interpolation."""
        times, values, _ = self._points
        return np.asarray(np.interp(np.asarray(t, np.float64), times, values))

    def cdf_integral(self, t: ArrayLike) -> Array:
        """Return the exact integral of the piecewise linear F."""
        times, values, areas = self._points
        given = np.asarray(t, np.float64)
        inside = np.clip(given, times[0], times[-1])
        piece = np.clip(np.searchsorted(times, inside, side="right") - 1, 0, len(times) - 2)
        trapezium = (inside - times[piece]) * (values[piece] + self.cdf(inside)) / 2
        return np.asarray(areas[piece] + trapezium + np.maximum(given - times[-1], 0.0))


def make_delay(settings: DelaySettings) -> Delay:
    """Return the distribution that the settings name."""
    if settings.kind == "uniform":
        return Uniform(settings.low, settings.high)
    if settings.kind == "gamma":
        return Gamma(settings.shape, settings.scale)
    if settings.kind == "previous_step":
        return PreviousStep()
    return Empirical(settings.times, settings.cdf)


def _gammainc(shape: float, x: Array) -> Array:
    """Return the regularised lower incomplete gamma function P(shape, x), 0 for x <= 0."""
    import torch  # here: the uniform default needs no torch

    positive = torch.from_numpy(np.atleast_1d(np.maximum(x, 0.0)))
    value: Array = torch.special.gammainc(torch.tensor(shape, dtype=torch.float64), positive).numpy()
    return value.reshape(np.shape(x))
