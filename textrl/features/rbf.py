"""A grid of Gaussian bumps over the state, as in the author's TAMER code for Mountain Car and Cart Pole."""

from __future__ import annotations

import functools
import math
import threading
from typing import Any

import numpy as np

from textrl.features.base import Floats, Scaling, check_size
from textrl.features.fading import LEAST_FEATURE
from textrl.features.settings import FeatureSettings

#: A bump's exponent stops here: far too small to show in any sum of double precision, and large enough for
#: fast arithmetic (`textrl.features.fading`).
_LEAST_EXPONENT = math.log(LEAST_FEATURE)


class RBF:
    """phi_i = exp(-d_i^2 / 2v), with the centres on a regular grid that includes the bounds.

    States are scaled to [-1, 1] (``span: symmetric``) or [0, 1] (``unit``); with n centres per dimension
    and relative width w the variance is v = w * (length of the span) / (n - 1), for Mountain Car
    2 * .08 / 39 = .0041026. The last dimension runs fastest; a bias feature comes last.

    Attributes:
        size: F = n^S, plus 1 with a bias.
        variance: v.
    """

    unit_interval: bool

    def __init__(self, scaling: Scaling, settings: FeatureSettings) -> None:
        """Place the centres.

        Args:
            scaling: Of the S dimensions.
            settings: `per_dimension`, `width`, `span` and `bias` count.
        """
        n, dimensions = settings.per_dimension, len(scaling.low)
        self._grid = check_size(n, dimensions, f"per_dimension: {n}")
        self.constant = int(settings.bias > 0)
        self.size = self._grid + self.constant
        self.unit_interval = settings.bias <= 1
        self._scaling, self._bias = scaling, settings.bias
        length = 2.0 if settings.span == "symmetric" else 1.0
        self.variance = settings.width * length / (n - 1)
        # Distances are taken on [0, 1], where they are `length` times smaller.
        self._centres = np.linspace(0.0, 1.0, n)
        self._factor = np.array(-0.5 * length**2 / self.variance)
        self._least = np.array(_LEAST_EXPONENT / dimensions)
        self._scratch = _Scratch(dimensions, n)
        # The last answer. It is replaced as a whole, since several threads may ask.
        self._known: tuple[list[float], Floats] | None = None

    def __call__(self, observation: Any) -> Floats:
        """Return (F,) float64, which must not be written to: who asks about the same state again gets it."""
        values, known = np.asarray(observation).tolist(), self._known
        if known is not None and known[0] == values:
            return known[1]
        scratch = self._scratch
        for dimension, value in enumerate(self._scaling.one(values)):
            scratch.state[dimension, 0] = value
        bumps = self._along(scratch.state, scratch.bumps)
        out = np.empty(self.size)
        dimensions, n = bumps.shape
        if dimensions == 1:
            out[:n] = bumps[0]
        else:
            column = scratch.first
            for middle in range(1, dimensions - 1):
                column = (column * bumps[middle]).reshape(-1, 1)
            # An outer product: of numpy's ways, a matrix product of a column and a row is the fastest.
            np.dot(column, scratch.last, out=out[: self._grid].reshape(-1, n))
        if self.constant:
            out[-1] = self._bias
        out.flags.writeable = False
        self._known = values, out
        return out

    def batch(self, observations: Any) -> Floats:
        """Return (B, F) float64."""
        scaled = self._scaling(observations)[..., None]
        bumps = self._along(scaled, np.empty((*scaled.shape[:2], len(self._centres))))
        count = len(bumps)
        grid: Floats = bumps[:, 0]
        for dimension in range(1, bumps.shape[1]):
            grid = (grid[:, :, None] * bumps[:, dimension, None, :]).reshape(count, -1)
        if not self.constant:
            return grid
        return np.concatenate([grid, np.full((count, 1), self._bias)], axis=1)

    def _along(self, scaled: Floats, out: Floats) -> Floats:
        """Return (..., S, n) in `out`: the Gaussians of each dimension, whose products are the grid's."""
        np.subtract(self._centres, scaled, out=out)
        np.multiply(out, out, out=out)
        np.multiply(out, self._factor, out=out)
        np.maximum(out, self._least, out=out)
        return np.exp(out, out=out)


class _Scratch(threading.local):
    """A thread's own numbers of one observation, and views of them.

    Making views anew costs as much as the arithmetic.
    """

    def __init__(self, dimensions: int, n: int) -> None:
        self.state, self.bumps = np.empty((dimensions, 1)), np.empty((dimensions, n))
        self.first, self.last = self.bumps[0][:, None], self.bumps[-1:]


@functools.lru_cache(maxsize=16)
def rbf(low: tuple[float, ...], high: tuple[float, ...], settings: FeatureSettings) -> RBF:
    """Return the features over bounds; the same object for the same arguments.

    Args:
        low: S lower bounds.
        high: S upper bounds.
        settings: See `RBF`.
    """
    return RBF(Scaling(np.array(low), np.array(high)), settings)
