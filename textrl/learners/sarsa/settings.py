"""Every knob of SARSA(lambda)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from textrl.features import FeatureSettings


@dataclass(frozen=True, kw_only=True)
class SarsaSettings:
    """Settings of the learner; the defaults are those of the author's Mountain Car, "optimistic".

    Attributes:
        alpha: Step size. It is not divided by the number of active features: with tile coding, where
            `tilings` features are 1, divide it yourself (Sutton and Barto's .5 over 8 tilings is .0625).
        lam: lambda, how far a TD error reaches back.
        gamma: Discount.
        traces: ``replacing``, e = max(phi, lambda gamma e), or ``accumulating``, e = phi + lambda gamma e.
        epsilon: Probability of a uniformly random action, in the first episode.
        epsilon_decay: Multiplies epsilon after every episode.
        epsilon_min: epsilon stays at or above this.
        initial_weight: Of every feature, the bias too. -10 is the "pessimistic" agent of AAMAS 2010.
        features: What a state is described by; every action has weights of its own.
        checkpoint_every: Episodes between checkpoints.
        keep_checkpoints: How many of them to keep.
        seed: Keys start states, exploration and ties.
    """

    alpha: float = 0.15
    lam: float = 0.84
    gamma: float = 1.0
    traces: Literal["replacing", "accumulating"] = "replacing"
    epsilon: float = 0.00625
    epsilon_decay: float = 0.99
    epsilon_min: float = 0.0
    initial_weight: float = 0.0
    features: FeatureSettings = field(default_factory=FeatureSettings)
    checkpoint_every: int = 100
    keep_checkpoints: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        if not self.alpha > 0:
            raise ValueError(f"alpha is {self.alpha}; it must be above 0")
        for name in ("lam", "gamma", "epsilon", "epsilon_decay", "epsilon_min"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 0 and 1")
        for name in ("checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more")
        if self.traces == "replacing" and self.features.kind in ("polynomial", "identity"):
            raise ValueError(
                f"traces is replacing, which needs features of 0 or more, and {self.features.kind} has "
                "negative ones; use accumulating"
            )
