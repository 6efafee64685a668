"""Settings of ``kl``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class KLSettings:
    """How the weight of the penalty (beta, given under ``rewards:``) moves.

    Attributes:
        coefficient: "fixed" keeps beta; "adaptive" moves it towards `target` once per iteration.
        target: KL wanted under "adaptive", nats per sequence (6 in Ziegler et al. 2019).
        horizon: Episodes over which a steady error of 20 % moves beta by about 20 % (10,000 there).
    """

    coefficient: Literal["fixed", "adaptive"] = "fixed"
    target: float = 6.0
    horizon: int = 10_000

    def __post_init__(self) -> None:
        if not self.target > 0:
            raise ValueError(f"target is {self.target}; it must be above 0 nats per sequence")
        if self.horizon < 1:
            raise ValueError(f"horizon is {self.horizon}; it must be at least 1 episode")
