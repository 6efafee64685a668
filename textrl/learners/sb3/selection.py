"""DQN and QR-DQN that ask for advice when they choose what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3 import DQN

from textrl.advice.guidance import Guidance
from textrl.learners.sb3.advice import columns


class GuidedSelection:
    """Biases or replaces actions while data is collected; a mix-in before SB3's algorithm.

    Attributes:
        guidance: Advice by action biasing or control sharing, or None.
    """

    guidance: Guidance | None = None

    def _sample_action(
        self: Any, learning_starts: int, action_noise: Any = None, n_envs: int = 1
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Choose for all copies; random exploration draws what it would without advice."""
        guidance: Guidance | None = self.guidance
        choose = super()._sample_action  # type: ignore[misc] # of SB3's class, which comes next
        if guidance is None:
            actions, stored = choose(learning_starts, action_noise, n_envs)
            return actions, stored
        # Normalised observations are the network's; advice is about the environment's own.
        own = self._last_obs if self._vec_normalize_env is None else self._last_original_obs
        if guidance.settings.technique == "action_biasing":
            with self.policy.biased(columns(guidance, "bias", own, int(self.action_space.n))):
                actions, stored = choose(learning_starts, action_noise, n_envs)
            return actions, stored
        actions, _ = choose(learning_starts, action_noise, n_envs)
        actions = replaced(actions, [guidance.choose(observation) for observation in own])
        return actions, actions


class GuidedDQN(GuidedSelection, DQN):  # type: ignore[misc] # SB3 is not type-checked here
    """DQN with advice for its choices."""


def replaced(actions: NDArray[Any], chosen: list[int | None]) -> NDArray[Any]:
    """Return (N,) actions with those that somebody else chose put in."""
    taken = np.array(actions)
    for index, other in enumerate(chosen):
        if other is not None:
            taken[index] = other
    return taken
