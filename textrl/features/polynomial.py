"""Simple features: monomials of the state, the state itself, and one feature per discrete state."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textrl.errors import UserError
from textrl.features.base import MOST_FEATURES, Floats, Scaling
from textrl.features.settings import FeatureSettings


class Polynomial:
    """All products of the scaled dimensions with a total degree of 1 to `degree`; a bias comes last.

    Attributes:
        size: F.
        exponents: (F without the bias, S): the power of each dimension, by degree, then in the order of
            the dimensions.
    """

    unit_interval = False

    def __init__(self, scaling: Scaling, settings: FeatureSettings) -> None:
        """List the monomials.

        Args:
            scaling: Of the S dimensions.
            settings: `degree`, `span` and `bias` count.
        """
        dimensions = len(scaling.low)
        factors = [
            chosen
            for degree in range(1, settings.degree + 1)
            for chosen in itertools.combinations_with_replacement(range(dimensions), degree)
        ]
        self.exponents = np.array(
            [[chosen.count(dimension) for dimension in range(dimensions)] for chosen in factors]
        )
        self.constant = int(settings.bias > 0)
        self.size = len(factors) + self.constant
        self._scaling, self._bias = scaling, settings.bias
        self._symmetric = settings.span == "symmetric"

    def __call__(self, observation: Any) -> Floats:
        """Return (F,) float64."""
        features: Floats = self.batch(np.asarray(observation)[None])[0]
        return features

    def batch(self, observations: Any) -> Floats:
        """Return (B, F) float64."""
        scaled = self._scaling(observations)
        if self._symmetric:
            scaled = 2.0 * scaled - 1.0
        monomials: Floats = np.prod(scaled[:, None, :] ** self.exponents, axis=-1)
        return _with_bias(monomials, self._bias)


class Identity:
    """The observation as it is; a bias comes last.

    Attributes:
        size: F = S, plus 1 with a bias.
    """

    unit_interval = False

    def __init__(self, dimensions: int, bias: float) -> None:
        self.constant = int(bias > 0)
        self.size = dimensions + self.constant
        self._bias = bias

    def __call__(self, observation: Any) -> Floats:
        """Return (F,) float64."""
        features: Floats = self.batch(np.asarray(observation)[None])[0]
        return features

    def batch(self, observations: Any) -> Floats:
        """Return (B, F) float64."""
        return _with_bias(np.array(observations, dtype=np.float64), self._bias)


class OneHot:
    """One feature per discrete state.

    Attributes:
        size: F, how many states there are.
    """

    constant = 0
    unit_interval = True

    def __init__(self, states: int, first: int = 0) -> None:
        """Make ready.

        Args:
            states: How many there are.
            first: The smallest of them.

        Raises:
            UserError: When there are more states than a table should hold.
        """
        if states > MOST_FEATURES:
            raise UserError(f"one_hot features of {states:,} states are too many; use other features.")
        self.size, self._first = states, first
        self._one = np.ones(1)
        self._one.setflags(write=False)

    @classmethod
    def over(cls, space: Any) -> OneHot:
        """Return the features of a Discrete space.

        Raises:
            UserError: When the space is another one.
        """
        from gymnasium.spaces import Discrete

        if not isinstance(space, Discrete):
            raise UserError(
                f"Features of kind one_hot need Discrete observations, not {space}; use kind: rbf."
            )
        return cls(int(space.n), int(space.start))

    def active(self, observation: Any) -> tuple[NDArray[np.int64], Floats]:
        """Return (the state's index, 1), both (1,)."""
        return np.array([int(observation) - self._first]), self._one

    def __call__(self, observation: Any) -> Floats:
        """Return (F,) float64."""
        out = np.zeros(self.size)
        out[int(observation) - self._first] = 1.0
        return out

    def batch(self, observations: Any) -> Floats:
        """Return (B, F) float64."""
        states = np.asarray(observations, dtype=np.int64) - self._first
        out = np.zeros((len(states), self.size))
        out[np.arange(len(states)), states] = 1.0
        return out


def _with_bias(features: Floats, bias: float) -> Floats:
    if not bias:
        return features
    return np.concatenate([features, np.full((len(features), 1), bias)], axis=1)
