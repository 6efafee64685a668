"""What H and the policy look like over a state of two dimensions, as grids for the page's heat maps.

Shapes: ``R`` rows (second dimension, from its lower bound), ``C`` columns (first dimension), ``A`` actions.
Reading a map changes nothing, neither random numbers nor what is remembered of a state.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from textrl.feedback.control.learning import Learning
from textrl.learners.sarsa import Sarsa
from textrl.tamer.models import LinearH

Floats = NDArray[np.float64]
#: Points along each dimension.
ROWS = COLUMNS = 24
_NAMES = {"MountainCar": ("position, m", "velocity, m/step")}


class Maps:
    """The maps of one session; features of the grid are computed once.

    Attributes:
        axes: Name and bounds of the first and second dimension.
    """

    def __init__(self, learning: Learning, low: Floats, high: Floats) -> None:
        """Lay the grid.

        Args:
            learning: What is drawn.
            low: (2,) lower bounds.
            high: (2,) upper bounds.
        """
        self._learning = learning
        env_id = learning.settings.env
        names = next((names for key, names in _NAMES.items() if key in env_id), ("first", "second"))
        self.axes = [
            {"name": name, "low": float(low[i]), "high": float(high[i])} for i, name in enumerate(names)
        ]
        first, second = (np.linspace(low[i], high[i], n) for i, n in ((0, COLUMNS), (1, ROWS)))
        grid = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
        self._grid = grid.astype(np.float32)
        self._phi: dict[int, Floats] = {}

    @classmethod
    def over(cls, learning: Learning) -> Maps | None:
        """Return the maps of an environment, or None where its states have not two bounded dimensions."""
        from gymnasium.spaces import Box

        space = learning.env.observation_space
        if not isinstance(space, Box) or space.shape != (2,):
            return None
        features = learning.settings.features
        bounds = []
        for name in ("low", "high"):
            given = None if features is None else getattr(features, name)
            bounds.append(np.array(getattr(space, name) if given is None else given, np.float64))
        if not all((np.abs(bound) < 1e30).all() for bound in bounds):
            return None
        return cls(learning, bounds[0], bounds[1])

    def messages(self) -> list[dict[str, Any]]:
        """Return the map of max_a H and that of the greedy policy."""
        h = self._h()
        scores = self._scores(h)
        best = scores.argmax(axis=1)
        # Where nothing tells the actions apart there is no policy yet.
        best[scores.max(axis=1) == scores.min(axis=1)] = -1
        return [
            self._message("h", np.round(h.max(axis=1), 4)),
            self._message("policy", best),
        ]

    def _message(self, what: str, values: NDArray[Any]) -> dict[str, Any]:
        return {
            "type": "map",
            "what": what,
            "shape": [ROWS, COLUMNS],
            "values": values.tolist(),
            "axes": self.axes,
        }

    def _h(self) -> Floats:
        """Return H at every point, (R * C, A)."""
        model = self._learning.tamer.model
        if isinstance(model, LinearH):
            return self._features(model.encoder.features) @ model.weights.T
        return model.predict_batch(self._grid)

    def _scores(self, h: Floats) -> Floats:
        """Return what the greedy policy maximises at every point, (R * C, A)."""
        learner, guidance = self._learning.learner, self._learning.guidance
        if not isinstance(learner, Sarsa):
            return h
        q: Floats = self._features(learner.features) @ learner.linear.weights.T
        if guidance is None or guidance.settings.technique in ("reward_shaping", "control_sharing"):
            return q
        return q + guidance.weights(self._grid) * h

    def _features(self, features: Any) -> Floats:
        key = id(features)  # both live as long as the session
        if key not in self._phi:
            self._phi[key] = features.batch(self._grid)
        return self._phi[key]
