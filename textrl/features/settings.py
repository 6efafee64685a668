"""Which features a linear learner sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["rbf", "tiles", "polynomial", "identity", "one_hot", "tokens"]


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """Settings of the features; the defaults are those of TAMER's Mountain Car.

    Attributes:
        kind: ``rbf`` (a grid of Gaussians), ``tiles`` (tile coding), ``polynomial``, ``identity`` (the
            observation itself), ``one_hot`` (for Discrete observations) or ``tokens`` (for token
            environments: one-hot by step, column and token).
        per_dimension: Gaussians along each dimension (rbf).
        width: Width of a Gaussian relative to the spacing (rbf): its variance is ``width`` times the
            spacing of the centres, after scaling to `span`.
        span: What the bounds are scaled to (rbf, polynomial): [-1, 1] or [0, 1].
        bias: Value of a constant feature that comes last (rbf, polynomial, identity); 0 leaves it out.
        tilings: Overlapping grids (tiles); that many features are active, with value 1.
        tiles: Cells along each dimension of one grid (tiles).
        degree: Highest total degree of the monomials (polynomial).
        low: Lower bound of each dimension, instead of the space's; what lies below counts as on it.
        high: Upper bound of each dimension, instead of the space's; what lies above counts as on it.
    """

    kind: Kind = "rbf"
    per_dimension: int = 40
    width: float = 0.08
    span: Literal["symmetric", "unit"] = "symmetric"
    bias: float = 0.1
    tilings: int = 8
    tiles: int = 8
    degree: int = 2
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        for name, least in (("per_dimension", 2), ("tilings", 1), ("tiles", 1), ("degree", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not self.width > 0:
            raise ValueError(f"width is {self.width}; it must be above 0")
        if self.bias < 0:
            raise ValueError(f"bias is {self.bias}; it must be 0 or more")
        if self.low is not None and self.high is not None:
            if len(self.low) != len(self.high):
                raise ValueError(f"low has {len(self.low)} entries and high {len(self.high)}; give as many")
            for lower, upper in zip(self.low, self.high, strict=True):
                if not lower < upper:
                    raise ValueError(f"low holds {lower}, which is not below {upper} in high; exchange them")
