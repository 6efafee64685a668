"""How strongly advice counts: one number that shrinks by the episode, or a weight for each state.

Shapes: ``A`` actions, ``F`` features that are not constant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textrl.errors import UserError
from textrl.features import Features, FeatureSettings
from textrl.features.fading import NOTHING, Fading, sweep

Floats = NDArray[np.float64]


class Annealed:
    """One weight for all states, multiplied by a factor after every episode.

    Attributes:
        beta: The weight now.
    """

    def __init__(self, beta: float, factor: float = 1.0) -> None:
        self.beta, self._factor = beta, factor

    def end_episode(self) -> None:
        """Shrink."""
        self.beta *= self._factor
        if self.beta < NOTHING:
            self.beta = 0.0


@dataclass(frozen=True, kw_only=True)
class EligibilitySettings:
    """Settings of the eligibility module; the defaults are those of Mountain Car.

    Attributes:
        features: Of the module; their widths may differ from the learner's.
        growth: What a visit adds to a feature's eligibility, times the feature.
        decay: What is left of the eligibilities after a step.
        episode_decay: What is left of them after an episode.
    """

    features: FeatureSettings = field(default_factory=FeatureSettings)
    growth: float = 0.2
    decay: float = 0.9998
    episode_decay: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        for name in ("growth", "decay", "episode_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 0 and 1")


class Eligibility:
    """The eligibility module of simultaneous TAMER+RL (Knox and Stone, AAMAS 2012), in its plain form.

    beta = scale * (e . f) / ||f||_1, where f are features in [0, 1] without constant ones. While a person
    trains, every step raises the eligibilities of what was active, e_i := min(1, e_i + growth * f_i),
    whether or not a key was pressed; every step, always, lets all of them decay after that.

    Attributes:
        e: (A, F) eligibilities per action, or (1, F) for states only.
    """

    def __init__(
        self, features: Features, settings: EligibilitySettings, *, scale: float, n_actions: int | None
    ) -> None:
        """Begin with no eligibility.

        Args:
            features: Non-negative ones.
            settings: Growth and decay.
            scale: beta where everything is fully eligible, c_s.
            n_actions: A, for a weight per state and action; None for one per state.

        Raises:
            UserError: When the features do not lie in [0, 1].
        """
        if not features.unit_interval:
            raise UserError(
                f"The eligibility module needs features in [0, 1], not those of {type(features).__name__}; "
                "use kind rbf, tiles or one_hot."
            )
        self.settings, self.scale, self._features = settings, scale, features
        self._per_action = n_actions is not None
        self._count = features.size - features.constant
        self.e = np.zeros((n_actions or 1, self._count))
        self._work = np.empty_like(self.e)
        self._row = np.empty(self._count)
        self._is_zero = True  # all of it, so that nothing need decay
        self._fading = Fading()

    def step(self, observation: Any, action: int, *, training: bool) -> None:
        """A step was taken: grow while a person trains, then decay."""
        if training:
            self.grow(observation, action)
        self.decay()

    def grow(self, observation: Any, action: int) -> None:
        """Raise the eligibilities of what is active, up to 1."""
        row = self.e[action if self._per_action else 0]
        np.multiply(self._active(observation), self.settings.growth, out=self._row)
        row += self._row
        np.minimum(row, 1.0, out=row)
        self._is_zero = False

    def decay(self) -> None:
        """Let a step pass."""
        self._fade(self.settings.decay)

    def end_episode(self) -> None:
        """Let the pause between episodes pass."""
        self._fade(self.settings.episode_decay)

    def beta(self, observation: Any) -> float | Floats:
        """Return the weight of advice here: (A,), or a number for states only, in [0, scale]."""
        if self._is_zero:
            return np.zeros(len(self.e)) if self._per_action else 0.0
        f = self._active(observation)
        # Both sums add up in the same order: full eligibility gives the quotient 1 exactly, and never more.
        norm = float(np.add.reduce(f))
        np.multiply(self.e, f, out=self._work)
        weights: Floats = np.add.reduce(self._work, axis=1)
        if norm > 0.0:
            weights /= norm
        weights *= self.scale
        return weights if self._per_action else float(weights[0])

    def betas(self, observations: Any) -> Floats:
        """Return `beta` of B observations, (B, A), or (B, 1) for states only, up to rounding."""
        f = self._features.batch(observations)[:, : self._count]
        norm = f.sum(axis=1, keepdims=True)
        weights: Floats = f @ self.e.T
        return weights * (self.scale / np.where(norm > 0.0, norm, 1.0))

    def state_dict(self) -> dict[str, Any]:
        """Return the eligibilities."""
        return {"e": self.e.copy(), "left": self._fading.left}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.e[:] = state["e"]
        self._fading.left = float(state.get("left", 1.0))
        self._is_zero = not self.e.any()

    def _fade(self, factor: float) -> None:
        if self._is_zero:
            return
        self.e *= factor
        if self._fading.by(factor) or factor == 0.0:
            sweep(self.e)
            self._is_zero = not self.e.any()

    def _active(self, observation: Any) -> Floats:
        features: Floats = self._features(observation)[: self._count]
        return features
