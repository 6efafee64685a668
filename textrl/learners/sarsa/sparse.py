"""Linear action values where few features differ from 0: only what an episode touched is worked on.

The same numbers as `textrl.learners.sarsa.linear`, at a cost that does not grow with the table. Shapes:
``A`` actions, ``F`` features, ``K`` active features.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from textrl.features.fading import LEAST_STEP, Fading

Floats = NDArray[np.float64]
Active = tuple[NDArray[np.int64], Floats]
#: Traces below this leave the list in time: what they add to a weight is lost in rounding.
_NOTHING = 1e-30


class SparseQ:
    """Q(s, a) = sum over active features of w_a,i phi_i, and a trace for each weight touched.

    Attributes:
        weights: (A, F).
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
        """Set all weights; the arguments are those of `LinearQ`."""
        self.weights = np.full((n_actions, size), initial_weight)
        self._flat = self.weights.reshape(-1)
        self._decay, self._replacing = decay, traces == "replacing"
        self._fading = Fading()
        self._places = np.empty(1024, np.int64)  # of the traces in `_flat`; all distinct
        self._traces = np.empty(1024)
        self._slots: dict[int, int] = {}  # place -> index in both

    @property
    def traces(self) -> Floats:
        """The traces as a new table, (A, F)."""
        table = np.zeros(self._flat.shape)
        count = len(self._slots)
        table[self._places[:count]] = self._traces[:count]
        return table.reshape(self.weights.shape)

    def q(self, active: Active) -> Floats:
        """Return the values of all actions, (A,), from (indices (K,), values (K,))."""
        indices, values = active
        result: Floats = self.weights[:, indices].dot(values)
        return result

    def value(self, active: Active, action: int) -> float:
        """Return the value of one action."""
        indices, values = active
        return float(self.weights[action, indices].dot(values))

    def forget(self) -> None:
        """An episode begins: no trace is left of the last one."""
        self._slots.clear()
        self._fading.left = 1.0

    def visit(self, active: Active, action: int) -> None:
        """Let all traces decay, and mark those of an action; see `LinearQ.visit`."""
        traces = self._traces[: len(self._slots)]
        np.multiply(traces, self._decay, out=traces)
        if self._fading.by(self._decay):
            self._sweep()
        first = action * self.weights.shape[1]
        for index, value in zip(active[0].tolist(), active[1].tolist(), strict=True):
            slot = self._slots.get(first + index)
            if slot is None:
                self._add(first + index, value)
            elif self._replacing:
                self._traces[slot] = max(value, self._traces[slot])
            else:
                self._traces[slot] += value

    def update(self, step: float) -> None:
        """w += step * e, where `step` is alpha * delta."""
        if -LEAST_STEP < step < LEAST_STEP:
            return
        count = len(self._slots)
        self._flat[self._places[:count]] += step * self._traces[:count]

    def _add(self, place: int, trace: float) -> None:
        count = len(self._slots)
        if count == len(self._places):
            self._places, self._traces = (
                np.concatenate([array, np.empty_like(array)]) for array in (self._places, self._traces)
            )
        self._places[count], self._traces[count] = place, trace
        self._slots[place] = count

    def _sweep(self) -> None:
        count = len(self._slots)
        kept = np.abs(self._traces[:count]) >= _NOTHING
        places, traces = self._places[:count][kept], self._traces[:count][kept]
        self._places[: len(places)], self._traces[: len(places)] = places, traces
        self._slots = {place: slot for slot, place in enumerate(places.tolist())}
