"""Soft assignment to centroids: non-negative features of states that fill no box, such as hidden states.

    f_k(h) proportional to exp(cos(h, c_k) / tau),   sum_k f_k = 1

with centroids c_k of length 1, found by spherical k-means: k-means++ (Arthur and Vassilvitskii 2007), then
Lloyd's steps with the mean direction as centre (Dhillon and Modha 2001). It is what normalised Gaussian RBFs
become on the unit sphere, where |h - c|^2 = 2 - 2 cos(h, c).

What is less than `LEAST_SHARE` of the largest share is exactly 0. Were it kept, it would add up: the
eligibility module grows by a share at each step, and with its growth of .2 and its decay of .9998 a share of
.001 alone ends at full eligibility where nobody ever trained.

Shapes: ``N`` states, ``D`` width, ``K`` centroids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from textrl.errors import UserError
from textrl.features.base import Floats

#: A share that is smaller than this, relative to the state's largest, is none.
LEAST_SHARE = 1e-3
#: Lloyd's steps at most; some ten are enough.
_STEPS = 50
#: Two directions that are closer than this, as 1 - cosine, are one up to rounding.
_SAME = 1e-9
_SHORTEST = 1e-12
_LEAST_EXPONENT = float(np.log(LEAST_SHARE))


class Centroids:
    """K features, each a centroid's share of a state; they lie in [0, 1] and sum to 1.

    Attributes:
        size: K.
        centroids: (K, D) float64, of length 1.
        tau: Temperature of the assignment: the smaller, the harder.
    """

    constant = 0
    unit_interval = True

    def __init__(self, centroids: Any, tau: float) -> None:
        """Take the centroids as they are.

        Args:
            centroids: (K, D) of any length but 0.
            tau: Above 0.

        Raises:
            ValueError: When `tau` is not above 0.
        """
        if not 0 < tau < np.inf:
            raise ValueError(f"tau is {tau}; it must be above 0")
        self.centroids, self.tau = _units(centroids), float(tau)
        self.size = len(self.centroids)

    @classmethod
    def fit(cls, hidden: Any, k: int, seed: int, tau: float | None = None) -> Centroids:
        """Find the centroids of some states.

        Args:
            hidden: (N, D) states; only their directions count.
            k: K; where there are fewer different states, there are as many centroids as those.
            seed: Of k-means++.
            tau: None measures it, see `sharpness`.

        Raises:
            UserError: When there is no state, or one is not finite.
            ValueError: When `k` is less than 1 or `tau` not above 0.
        """
        if k < 1:
            raise ValueError(f"k is {k}; there must be at least 1 centroid")
        states = _units(hidden)
        if not np.isfinite(states).all():
            raise UserError("Centroids cannot be found: a hidden state is not finite; look at the model.")
        states = states[states.any(axis=1)]  # a state of length 0 has no direction
        if not len(states):
            raise UserError("Centroids cannot be found without hidden states; give at least one.")
        centroids = _lloyd(states, _spread(states, k, np.random.default_rng([seed, 0xCE27])))
        return cls(centroids, sharpness(states, centroids) if tau is None else tau)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Centroids:
        """Return what `state_dict` described, bit for bit."""
        made = cls.__new__(cls)
        made.centroids = np.array(np.asarray(state["centroids"]), np.float64)  # a tensor will do
        made.tau, made.size = float(state["tau"]), len(made.centroids)
        return made

    def state_dict(self) -> dict[str, Any]:
        """Return the centroids, a tensor, and the temperature."""
        import torch

        return {"centroids": torch.from_numpy(self.centroids.copy()), "tau": self.tau}

    def __call__(self, observation: Any) -> Floats:
        """Return (K,) float64 of a (D,) state."""
        features: Floats = self.batch(np.asarray(observation)[None])[0]
        return features

    def batch(self, observations: Any) -> Floats:
        """Return (B, K) float64 of (B, D) states."""
        return self._shares(_units(observations) @ self.centroids.T)

    def _shares(self, cosines: Floats) -> Floats:
        behind = (cosines - cosines.max(axis=1, keepdims=True)) / self.tau
        shares: Floats = np.where(behind < _LEAST_EXPONENT, 0.0, np.exp(behind))
        shares /= shares.sum(axis=1, keepdims=True)
        return shares


def sharpness(states: Floats, centroids: Floats) -> float:
    """Return the temperature at which a state belongs to its one or two nearest centroids.

    At gap / ln(1 / `LEAST_SHARE`) a centroid whose cosine is that gap below the nearest one's has no share;
    the gap is that of the third nearest centroid, which three quarters of the states exceed. A softer
    assignment forgets where a person trained, since every share counts as training there.

    Args:
        states: (N, D) of length 1.
        centroids: (K, D) of length 1.
    """
    cosines = np.sort(states @ centroids.T, axis=1)
    third = max(cosines.shape[1] - 3, 0)
    gap = float(np.quantile(cosines[:, -1] - cosines[:, third], 0.25))
    return max(gap, 1e-6) / -_LEAST_EXPONENT


def _spread(states: Floats, k: int, rng: np.random.Generator) -> Floats:
    """Return up to K of the (N, D) states, each drawn with the squared distance to those before it."""
    chosen = [int(rng.integers(len(states)))]
    distance = 1.0 - states @ states[chosen[0]]
    while len(chosen) < k:
        distance[distance < _SAME] = 0.0
        if not distance.any():
            break
        chosen.append(int(rng.choice(len(states), p=distance / distance.sum())))
        np.minimum(distance, 1.0 - states @ states[chosen[-1]], out=distance)
    return states[chosen]


def _lloyd(states: Floats, centroids: Floats) -> Floats:
    """Return centroids (K, D) that are the mean directions of their own states."""
    nearest = None
    for _ in range(_STEPS):
        found = (states @ centroids.T).argmax(axis=1)
        if nearest is not None and np.array_equal(found, nearest):
            break
        nearest = found
        sums = np.zeros_like(centroids)
        np.add.at(sums, nearest, states)
        # Without states of its own, or with opposite ones, a centroid stays where it is.
        moved = np.linalg.norm(sums, axis=1) > _SAME
        centroids = np.where(moved[:, None], _units(sums), centroids)
    return centroids


def _units(states: Any) -> Floats:
    """Return (N, D) float64 of length 1."""
    wide = np.asarray(states, np.float64)
    scaled: Floats = wide / np.maximum(np.linalg.norm(wide, axis=-1, keepdims=True), _SHORTEST)
    return scaled
