"""Tile coding: several grids laid over each other with an offset (Sutton and Barto 2018, section 9.5.4)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textrl.features.base import Floats, Scaling, check_size
from textrl.features.settings import FeatureSettings


class Tiles:
    """Each grid says in which of its cells the state lies: `tilings` features are 1, the others 0.

    Grid t is shifted along dimension j by (k_j * t mod tilings) / tilings of a cell, where the k_j are the
    integers 1, 3, 5, ... (for 8 grids) that share no factor with `tilings`: the shifts along a dimension
    all differ, and they are not the same along two dimensions. A shifted grid needs one more cell along
    each dimension.

    Attributes:
        size: F = tilings * (tiles + 1)^S.
    """

    constant = 0
    unit_interval = True

    def __init__(self, scaling: Scaling, settings: FeatureSettings) -> None:
        """Lay the grids.

        Args:
            scaling: Of the S dimensions.
            settings: `tilings` and `tiles` count.
        """
        grids, dimensions = settings.tilings, len(scaling.low)
        cells = settings.tiles + 1
        self.size = check_size(cells, dimensions, f"{grids} tilings of {settings.tiles} tiles", grids)
        self._scaling, self._tiles, self._grids = scaling, settings.tiles, grids
        steps = np.array(_coprime(grids, dimensions))
        self._shift = (np.arange(grids)[:, None] * steps % grids) / grids  # (grids, S)
        self._stride = cells ** np.arange(dimensions - 1, -1, -1)  # the last dimension runs fastest
        self._first = np.arange(grids) * cells**dimensions
        self._ones = np.ones(grids)
        self._ones.setflags(write=False)

    def active(self, observation: Any) -> tuple[NDArray[np.int64], Floats]:
        """Return (indices, ones), both (tilings,)."""
        return self._indices(self._scaling(observation)), self._ones

    def __call__(self, observation: Any) -> Floats:
        """Return (F,) float64."""
        out = np.zeros(self.size)
        out[self._indices(self._scaling(observation))] = 1.0
        return out

    def batch(self, observations: Any) -> Floats:
        """Return (B, F) float64."""
        indices = self._indices(self._scaling(observations))
        out = np.zeros((len(indices), self.size))
        np.put_along_axis(out, indices, 1.0, axis=1)
        return out

    def _indices(self, scaled: Floats) -> NDArray[np.int64]:
        """Return (..., tilings) from (..., S) in [0, 1]."""
        cells = (scaled[..., None, :] * self._tiles + self._shift).astype(np.int64)
        indices: NDArray[np.int64] = cells @ self._stride + self._first
        return indices


def _coprime(number: int, count: int) -> list[int]:
    """Return the `count` smallest positive integers that share no factor with `number`."""
    found: list[int] = []
    candidate = 1
    while len(found) < count:
        if math.gcd(candidate, number) == 1:
            found.append(candidate)
        candidate += 1
    return found
