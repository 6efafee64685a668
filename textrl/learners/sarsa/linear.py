"""Linear action values with eligibility traces, in place.

Shapes: ``A`` actions, ``F`` features. Everything is float64. A step over 3 x 1601 weights costs a few
microseconds, so nothing here allocates.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from textrl.features.fading import LEAST_STEP, Fading, sweep

Floats = NDArray[np.float64]


class LinearQ:
    """Q(s, a) = w_a . phi(s), and a trace for each weight.

    Attributes:
        weights: (A, F).
        traces: (A, F).
    """

    def __init__(
        self,
        n_actions: int,
        size: int,
        *,
        decay: float,
        traces: Literal["replacing", "accumulating"] = "replacing",
        initial_weight: float = 0.0,
    ) -> None:
        """Set all weights.

        Args:
            n_actions: A.
            size: F.
            decay: What is left of a trace after a step, lambda * gamma.
            traces: See `visit`.
            initial_weight: Of every feature.
        """
        self.weights = np.full((n_actions, size), initial_weight)
        self.traces = np.zeros((n_actions, size))
        self._decay, self._replacing = decay, traces == "replacing"
        self._step = np.empty((n_actions, size))
        self._fading = Fading()

    def q(self, phi: Floats) -> Floats:
        """Return the values of all actions, (A,), from the features, (F,)."""
        values: Floats = self.weights.dot(phi)
        return values

    def value(self, phi: Floats, action: int) -> float:
        """Return the value of one action."""
        return float(self.weights[action].dot(phi))

    def forget(self) -> None:
        """An episode begins: no trace is left of the last one."""
        self.traces.fill(0.0)
        self._fading.left = 1.0

    def visit(self, phi: Floats, action: int) -> None:
        """Let all traces decay, and mark those of an action.

        Replacing: e = max(phi, decay * e), where phi is 0 for the other actions, and no feature is below 0.
        Accumulating: e = phi + decay * e (Sutton and Barto 2018, sections 12.2 and 12.5).
        """
        traces, row = self.traces, self.traces[action]
        np.multiply(traces, self._decay, out=traces)
        if self._fading.by(self._decay):
            sweep(traces)
        (np.maximum if self._replacing else np.add)(row, phi, out=row)

    def update(self, step: float) -> None:
        """w += step * e, where `step` is alpha * delta."""
        if -LEAST_STEP < step < LEAST_STEP:
            return
        np.multiply(self.traces, step, out=self._step)
        np.add(self.weights, self._step, out=self.weights)
