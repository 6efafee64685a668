"""Models of H(s, a), the reinforcement a person would give: linear, nearest neighbours, a table.

Shapes: ``A`` actions, ``F`` features. Every model starts at H = 0 everywhere, so that without feedback
there is no influence. The network of Deep TAMER is in `textrl.tamer.network`, since it needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from textrl.errors import UserError
from textrl.features import Features, make_features
from textrl.features.fading import LEAST_STEP

if TYPE_CHECKING:
    from textrl.tamer.settings import TamerSettings

Array = NDArray[np.float64]


class HModel(Protocol):
    """A regression of what a person gives on state and action."""

    def predict(self, observation: Any) -> Array:
        """Return H(s, .), (A,) float64; the array is the caller's."""
        ...

    def predict_batch(self, observations: Any) -> Array:
        """Return (B, A) float64 of B observations."""
        ...

    def learn(self, observation: Any, action: int, label: float, weight: float = 1.0) -> None:
        """Move H(s, a) towards `label`; `weight` multiplies the squared error."""
        ...

    def learn_window(
        self, observations: Sequence[Any], actions: Sequence[int], credits: Sequence[float], label: float
    ) -> None:
        """Move sum_j credits[j] H(observations[j], actions[j]) towards `label`."""
        ...

    def branch(self) -> HModel:
        """Return a copy that learns by itself, for samples that are thrown away again."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return numpy arrays and JSON data."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        ...


class Encoder:
    """Features of observations; the last ones are remembered, since a step is used several times.

    Attributes:
        size: F.
        features: What computes them.
    """

    _REMEMBERED = 64

    def __init__(self, features: Features) -> None:
        self.features, self.size = features, features.size
        self._known: dict[bytes, Array] = {}

    def __call__(self, observation: Any) -> Array:
        """Return (F,) float64 that must not be written to."""
        key = np.asarray(observation).tobytes()
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= self._REMEMBERED:
                del self._known[next(iter(self._known))]
            found = self._known[key] = self.features(observation)
        return found


class LinearH:
    """H(s, a) = w_a . phi(s), learnt by gradient steps on half the squared error.

    The step size stands differently in the sources (.001, .05 and .15); .05 is the default here, which is
    what the reference figures were measured with.

    Attributes:
        weights: (A, F).
    """

    def __init__(self, encoder: Encoder, n_actions: int, alpha: float) -> None:
        """Begin with H = 0.

        Args:
            encoder: phi.
            n_actions: A.
            alpha: Step size of a gradient step.
        """
        self.encoder, self.alpha = encoder, alpha
        self.weights = np.zeros((n_actions, encoder.size))

    def predict(self, observation: Any) -> Array:
        """Return H(s, .), (A,)."""
        rating: Array = self.weights @ self.encoder(observation)
        return rating

    def predict_batch(self, observations: Any) -> Array:
        """Return (B, A)."""
        rating: Array = self.encoder.features.batch(observations) @ self.weights.T
        return rating

    def learn(self, observation: Any, action: int, label: float, weight: float = 1.0) -> None:
        """w_a += alpha * weight * (label - w_a . phi) * phi."""
        phi, row = self.encoder(observation), self.weights[action]
        step = self.alpha * weight * (label - float(row @ phi))
        if not -LEAST_STEP < step < LEAST_STEP:
            row += step * phi

    def learn_window(
        self, observations: Sequence[Any], actions: Sequence[int], credits: Sequence[float], label: float
    ) -> None:
        """w_{a_j} += alpha * (label - sum_i c_i w_{a_i} . phi_i) * c_j * phi_j for every step j."""
        encoded = [self.encoder(observation) for observation in observations]
        rows = zip(credits, actions, encoded, strict=True)
        error = label - sum(c * float(self.weights[a] @ phi) for c, a, phi in rows)
        for c, a, phi in zip(credits, actions, encoded, strict=True):
            self.weights[a] += (self.alpha * error * c) * phi

    def branch(self) -> LinearH:
        """Return a copy with weights of its own."""
        copy = object.__new__(LinearH)
        copy.encoder, copy.alpha, copy.weights = self.encoder, self.alpha, self.weights.copy()
        return copy

    def state_dict(self) -> dict[str, Any]:
        """Return the weights."""
        return {"weights": self.weights.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`.

        Raises:
            UserError: When the weights belong to other features or actions.
        """
        _check_shape("weights of H", state["weights"], self.weights.shape)
        self.weights[:] = state["weights"]


class KNNH:
    """H(s, a) = the weighted mean label of the k samples of action a that are nearest in feature space.

    An action without samples is rated 0. Beyond `capacity` the oldest samples are forgotten.
    """

    def __init__(self, encoder: Encoder, n_actions: int, neighbours: int, capacity: int) -> None:
        """Begin without samples.

        Args:
            encoder: The space in which distances are taken.
            n_actions: A.
            neighbours: k.
            capacity: Most samples per action.
        """
        self.encoder, self.n_actions = encoder, n_actions
        self.neighbours, self.capacity = neighbours, capacity
        # One row per sample: its features, its label, its weight. Branches share the arrays.
        self._stored = [np.zeros((0, encoder.size + 2)) for _ in range(n_actions)]
        self._count = [0] * n_actions
        self._own: list[list[Array]] | None = None  # samples of a branch

    def predict(self, observation: Any) -> Array:
        """Return H(s, .), (A,)."""
        phi = self.encoder(observation)
        return np.array([self._rate(phi, action) for action in range(self.n_actions)])

    def predict_batch(self, observations: Any) -> Array:
        """Return (B, A)."""
        return np.stack([self.predict(observation) for observation in observations])

    def learn(self, observation: Any, action: int, label: float, weight: float = 1.0) -> None:
        """Store a sample."""
        row = np.append(self.encoder(observation), (label, weight))
        if self._own is not None:
            self._own[action].append(row)
            return
        rows, count = self._stored[action], self._count[action]
        if len(rows) < self.capacity and count == len(rows):
            grown = np.zeros((min(max(2 * count, 64), self.capacity), rows.shape[1]))
            grown[:count] = rows
            self._stored[action] = rows = grown
        rows[count % self.capacity] = row
        self._count[action] = count + 1

    def learn_window(
        self, observations: Sequence[Any], actions: Sequence[int], credits: Sequence[float], label: float
    ) -> None:
        """Refuse: a sum over steps has no gradient to follow here.

        Raises:
            UserError: Always.
        """
        raise UserError("The model knn cannot learn the loss window; use aggregate or importance.")

    def branch(self) -> KNNH:
        """Return a view of the same samples that stores new ones apart."""
        copy = object.__new__(KNNH)
        copy.__dict__.update(self.__dict__)
        copy._own = [[] for _ in range(self.n_actions)]
        return copy

    def state_dict(self) -> dict[str, Any]:
        """Return the samples."""
        stored = [self._rows(action).copy() for action in range(self.n_actions)]
        return {"samples": stored, "count": list(self._count)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`.

        Raises:
            UserError: When the samples belong to other features or actions.
        """
        _check_shape("actions of H", state["samples"], (self.n_actions,))
        for rows in state["samples"]:
            _check_shape("samples of H", rows, (len(rows), self.encoder.size + 2))
        self._stored = [np.array(rows, np.float64) for rows in state["samples"]]
        self._count = [int(count) for count in state["count"]]

    def _rows(self, action: int) -> Array:
        return self._stored[action][: min(self._count[action], self.capacity)]

    def _rate(self, phi: Array, action: int) -> float:
        rows = self._rows(action)
        if self._own is not None and self._own[action]:
            rows = np.concatenate([rows, self._own[action]])
        if not len(rows):
            return 0.0
        distance = ((rows[:, :-2] - phi) ** 2).sum(1)
        # A stable sort: among samples as near, the older ones, on every machine.
        nearest = rows[np.argsort(distance, kind="stable")[: self.neighbours]]
        total = float(nearest[:, -1].sum())
        return float(nearest[:, -2] @ nearest[:, -1]) / total if total > 0 else 0.0


class TableH:
    """H(a), one number per action whatever the state; it grows with the actions that are rated.

    Attributes:
        values: (actions so far,).
    """

    def __init__(self, alpha: float, size: int = 0) -> None:
        """Begin with H = 0.

        Args:
            alpha: Share of the error that a sample takes away.
            size: Actions to begin with.
        """
        self.alpha = alpha
        self.values = np.zeros(size)

    def predict(self, observation: Any = None) -> Array:
        """Return H(.), (actions so far,)."""
        return self.values.copy()

    def predict_batch(self, observations: Any) -> Array:
        """Return (B, actions so far)."""
        return np.repeat(self.values[None], len(observations), axis=0)

    def learn(self, observation: Any, action: int, label: float, weight: float = 1.0) -> None:
        """H(a) += alpha * weight * (label - H(a))."""
        self._reach(action)
        self.values[action] += self.alpha * weight * (label - self.values[action])

    def learn_window(
        self, observations: Sequence[Any], actions: Sequence[int], credits: Sequence[float], label: float
    ) -> None:
        """H(a_j) += alpha * (label - sum_i c_i H(a_i)) * c_j for every step j."""
        self._reach(max(actions))
        error = label - sum(c * float(self.values[a]) for c, a in zip(credits, actions, strict=True))
        for c, a in zip(credits, actions, strict=True):
            self.values[a] += self.alpha * error * c

    def branch(self) -> TableH:
        """Return a copy with values of its own."""
        copy = TableH(self.alpha)
        copy.values = self.values.copy()
        return copy

    def state_dict(self) -> dict[str, Any]:
        """Return the values."""
        return {"values": self.values.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.values = np.array(state["values"], np.float64)

    def _reach(self, action: int) -> None:
        if action >= len(self.values):
            self.values = np.concatenate([self.values, np.zeros(action + 1 - len(self.values))])


def make_model(settings: TamerSettings, observation_space: Any, n_actions: int) -> HModel:
    """Build H over an environment's spaces.

    Raises:
        UserError: When the features do not fit the observations.
    """
    encoder = Encoder(make_features(settings.features, observation_space))
    if settings.model == "linear":
        return LinearH(encoder, n_actions, settings.alpha)
    if settings.model == "knn":
        return KNNH(encoder, n_actions, settings.neighbours, settings.capacity)
    from textrl.tamer.network import NetworkH

    return NetworkH(encoder, n_actions, settings)


def _check_shape(what: str, value: Any, wanted: tuple[int, ...]) -> None:
    found = (len(value),) if isinstance(value, list | tuple) else np.shape(value)
    if found != wanted:
        raise UserError(
            f"The {what} in the checkpoint have the shape {found}, here it is {wanted}; resume with the same "
            "features and environment."
        )
