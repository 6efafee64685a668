"""The scaling laws of Gao et al. (2022, arXiv 2210.10760, section 3.1), fitted to measured scores.

With d = sqrt(KL(pi || pi_initial)) and R the gold score's gain over the initial policy,

    best-of-n:               R(d) = d (alpha - beta d)
    reinforcement learning:  R(d) = d (alpha - beta log d)

Both are linear in alpha and beta, so least squares has one solution. R(0) = 0 by construction.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Form = Literal["best_of_n", "rl"]
FORMS: tuple[Form, ...] = ("best_of_n", "rl")


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes:
        form: Which of the two.
        alpha: Slope at the beginning (at d = 1 in the second form).
        beta: How fast it is lost.
        r2: Share of the measured gains' variation that the law explains; below 0 where a constant is better.
        rmse: Root of the mean squared distance, in the units of the score.
        points: Points that were fitted.
    """

    form: Form
    alpha: float
    beta: float
    r2: float
    rmse: float
    points: int

    def at(self, d: ArrayLike) -> NDArray[np.float64]:
        """Return the gain that the law gives at (N,) distances."""
        gains: NDArray[np.float64] = _columns(self.form, d) @ np.array([self.alpha, self.beta])
        return gains

    @property
    def peak(self) -> float | None:
        """The distance d of the law's maximum, or None where it has none at a d above 0."""
        if self.beta <= 0:
            return None
        if self.form == "best_of_n":
            return self.alpha / (2 * self.beta) if self.alpha > 0 else None
        exponent = self.alpha / self.beta - 1
        return math.exp(exponent) if exponent < 700 else None  # beyond a float

    def plain(self) -> dict[str, float | str | None]:
        """Return plain data."""
        return {**asdict(self), "peak": self.peak}


def fit(form: Form, distances: ArrayLike, gains: ArrayLike) -> Fit:
    """Fit a law by least squares.

    Args:
        form: Which law.
        distances: (N,) sqrt(KL); points at 0 say nothing and are left out.
        gains: (N,) gold score less that of the initial policy.

    Raises:
        ValueError: With fewer than three points above 0, or anything not finite.
    """
    d, y = np.asarray(distances, dtype=np.float64), np.asarray(gains, dtype=np.float64)
    if d.shape != y.shape or not (np.isfinite(d).all() and np.isfinite(y).all()) or (d < 0).any():
        raise ValueError("a fit needs as many finite gains as finite distances of 0 and more")
    d, y = d[d > 0], y[d > 0]
    if len(d) < 3:
        raise ValueError(f"a fit of two numbers needs three points above 0, got {len(d)}")
    columns = _columns(form, d)
    solution, *_ = np.linalg.lstsq(columns, y, rcond=None)
    residual = y - columns @ solution
    total = float(((y - y.mean()) ** 2).sum())
    r2 = 1 - float((residual**2).sum()) / total if total > 0 else math.nan
    rmse = math.sqrt(float((residual**2).mean()))
    return Fit(form, float(solution[0]), float(solution[1]), r2, rmse, len(d))


def _columns(form: Form, distances: ArrayLike) -> NDArray[np.float64]:
    """Return the (N, 2) matrix that alpha and beta multiply."""
    d = np.asarray(distances, dtype=np.float64)
    # d log d tends to 0 as d does.
    lost = d * d if form == "best_of_n" else d * np.log(np.where(d > 0, d, 1.0))
    return np.stack([d, -lost], axis=-1)
