"""Numbers that are multiplied again and again by less than 1, and must never become subnormal.

Below 2.2e-308 a double loses digits and its arithmetic costs twenty times as much; so does a product that
falls below it. Traces and eligibilities fade like that, and so do errors where nothing is left to learn.
What is smaller than `NOTHING` is therefore set to 0 in time, and a step smaller than `LEAST_STEP` is not
taken: beside them in every sum stand numbers some hundred orders of magnitude larger.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Smaller than this is 0.
NOTHING = 1e-150
#: No feature that is not 0 is smaller than this. Two of them, times a step that was taken, make 1e-290.
LEAST_FEATURE = 1e-80
#: A weight moves by at least this times a feature or trace, or not at all.
LEAST_STEP = 1e-130
#: How far numbers may shrink between two sweeps.
_SHRINK = 1e-10


class Fading:
    """Says when numbers that shrink by known factors must be swept.

    Attributes:
        left: By how much they have shrunk since the last sweep; a part of the state, since a run that is
            resumed must sweep when the other would have.
    """

    def __init__(self) -> None:
        self.left = 1.0

    def by(self, factor: float) -> bool:
        """Note that all of them were multiplied by `factor`, in [0, 1]; returns whether to sweep now."""
        if factor == 0.0:  # they are exactly 0
            return False
        self.left *= factor
        if self.left > _SHRINK:
            return False
        self.left = 1.0
        return True


def sweep(values: NDArray[np.float64]) -> None:
    """Set what is smaller than `NOTHING` to 0, in place."""
    values[np.abs(values) < NOTHING] = 0.0
