"""What features are, the scaling they share, and how settings become features."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from textrl.errors import UserError, did_you_mean
from textrl.features.settings import FeatureSettings

Floats = NDArray[np.float64]
#: A grid of more features than this is a mistake: 16 MB per vector.
MOST_FEATURES = 2_000_000
#: Bounds beyond this are a float's largest number, not a scale.
_UNBOUNDED = 1e30


@runtime_checkable
class Features(Protocol):
    """A map from observations to vectors.

    Attributes:
        size: F, how many features there are.
        constant: How many of the last features have the same value everywhere: 0 or 1.
        unit_interval: Whether all features lie in [0, 1], as replacing traces and the eligibility module
            need them.
    """

    size: int
    constant: int
    unit_interval: bool

    def __call__(self, observation: Any) -> Floats:
        """Return (F,) float64 of one observation; the array must not be written to."""
        ...

    def batch(self, observations: Any) -> Floats:
        """Return (B, F) float64 of B observations."""
        ...


@runtime_checkable
class SparseFeatures(Features, Protocol):
    """Features of which few differ from 0."""

    def active(self, observation: Any) -> tuple[NDArray[np.int64], Floats]:
        """Return (indices (K,), distinct; their values (K,)) of one observation."""
        ...


class Scaling:
    """Brings each dimension from its bounds to [0, 1]; what lies outside counts as on the bound.

    Attributes:
        low: (S,) lower bounds.
        high: (S,) upper bounds.
    """

    def __init__(self, low: Floats, high: Floats) -> None:
        self.low, self.high = low, high
        self._factor = 1.0 / (high - low)
        self._pairs = list(zip(low.tolist(), self._factor.tolist(), strict=True))

    def __call__(self, observation: Any) -> Floats:
        """Return (..., S) in [0, 1]."""
        scaled: Floats = np.subtract(observation, self.low, dtype=np.float64)
        scaled *= self._factor
        np.maximum(scaled, 0.0, out=scaled)
        np.minimum(scaled, 1.0, out=scaled)
        return scaled

    def one(self, values: list[float]) -> list[float]:
        """Return the S numbers of one observation; several times faster than arrays of a few numbers."""
        return [
            min(max((value - low) * factor, 0.0), 1.0)
            for value, (low, factor) in zip(values, self._pairs, strict=True)
        ]


def make_features(settings: FeatureSettings, observation_space: Any) -> Features:
    """Build features over an environment's observation space.

    Whoever asks for the same RBFs gets the same object: what a learner, H and the eligibility module ask
    about one state is then computed once.

    Args:
        settings: Which features.
        observation_space: Gymnasium's; a one-dimensional Box, Discrete for ``one_hot``, or a token
            environment's for ``tokens``.

    Raises:
        UserError: When the features do not fit the space, or need bounds that the space does not have.
    """
    from textrl.features.polynomial import Identity, OneHot, Polynomial
    from textrl.features.rbf import rbf
    from textrl.features.tiles import Tiles
    from textrl.features.tokens import Tokens

    kind = settings.kind
    if kind == "tokens":
        return Tokens.over(observation_space)
    if kind == "one_hot":
        return OneHot.over(observation_space)
    if kind == "identity":
        return Identity(_dimensions(observation_space, kind), settings.bias)
    if kind == "rbf":
        scaling = _scaling(observation_space, settings)
        return rbf(tuple(scaling.low.tolist()), tuple(scaling.high.tolist()), settings)
    if kind == "tiles":
        return Tiles(_scaling(observation_space, settings), settings)
    if kind == "polynomial":
        return Polynomial(_scaling(observation_space, settings), settings)
    known = ("rbf", "tiles", "polynomial", "identity", "one_hot", "tokens")
    raise UserError(f"There are no features '{kind}'.{did_you_mean(str(kind), known)}")


def check_size(per_dimension: int, dimensions: int, what: str, copies: int = 1) -> int:
    """Return ``copies * per_dimension ** dimensions``.

    Raises:
        UserError: When that is more than `MOST_FEATURES`.
    """
    size: int = copies * per_dimension**dimensions
    if size > MOST_FEATURES:
        raise UserError(
            f"{what} makes {size:.3g} features over {dimensions} dimensions; lower it to stay below "
            f"{MOST_FEATURES:,}."
        )
    return size


def _dimensions(space: Any, kind: str) -> int:
    """Return S of a one-dimensional Box."""
    from gymnasium.spaces import Box, Discrete

    from textrl.features.tokens import is_token_space

    if isinstance(space, Box) and len(space.shape) == 1:
        return int(space.shape[0])
    fix = "use kind: one_hot" if isinstance(space, Discrete) else "flatten it with FlattenObservation"
    fix = "use kind: tokens" if is_token_space(space) else fix
    raise UserError(
        f"Features of kind {kind} need a one-dimensional Box of observations, not {space}; {fix}."
    )


def _scaling(space: Any, settings: FeatureSettings) -> Scaling:
    """Return the scaling of a space, with the bounds that the settings put in place of its own."""
    dimensions = _dimensions(space, settings.kind)
    bounds = []
    for name, given in (("low", settings.low), ("high", settings.high)):
        bound = np.array(getattr(space, name) if given is None else given, dtype=np.float64)
        if bound.shape != (dimensions,):
            raise UserError(
                f"The features' '{name}' has {bound.size} entries, but observations have {dimensions}; "
                "give one for each."
            )
        if not np.all(np.abs(bound) < _UNBOUNDED):
            at = int(np.argmax(~(np.abs(bound) < _UNBOUNDED)))
            raise UserError(
                f"Features of kind {settings.kind} need finite bounds, but the observations' {name} is "
                f"{bound[at]:g} in dimension {at}; give the features' 'low' and 'high'."
            )
        bounds.append(bound)
    low, high = bounds
    if not np.all(low < high):
        at = int(np.argmax(~(low < high)))
        raise UserError(
            f"The features' low is {low[at]:g} in dimension {at}, not below high, which is {high[at]:g}."
        )
    return Scaling(low, high)
