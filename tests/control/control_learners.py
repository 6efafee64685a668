"""Learners on Mountain Car, and what it means that two of them are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from control_world import Rule, mountain_car

from textrl.advice import Guidance, GuidanceSettings
from textrl.features import FeatureSettings
from textrl.learners.sarsa import Sarsa, SarsaSettings


def car(
    technique: str | None = None,
    beta: float = 0.0,
    *,
    advice: Any = None,
    anneal: float = 1.0,
    **changes: Any,
) -> Sarsa:
    """SARSA on Mountain Car with small features and much exploration, so that every part has work."""
    base: dict[str, Any] = {"features": FeatureSettings(per_dimension=10), "epsilon": 0.2}
    env = mountain_car()
    guidance = None
    if technique is not None:
        settings = GuidanceSettings(technique=technique, source="rule", beta=beta, anneal=anneal)  # type: ignore[arg-type]
        guidance = Guidance(settings, advice or Rule(), env.observation_space, 3)
    return Sarsa(env, SarsaSettings(**(base | changes)), guidance=guidance)


class Watched:
    """Wraps a learner's environment and writes down the actions taken."""

    def __init__(self, made: Sarsa) -> None:
        self.actions: list[int] = []
        inner = made.env.step

        def step(action: int) -> Any:
            self.actions.append(action)
            return inner(action)

        made.env.step = step


def same(one: Sarsa, two: Sarsa) -> None:
    assert np.array_equal(one.linear.weights, two.linear.weights)
    assert one.episode_returns == two.episode_returns
    assert one.episode_lengths == two.episode_lengths
    assert (one.num_timesteps, one.episodes) == (two.num_timesteps, two.episodes)
    for name, rng in one.generators().items():
        assert rng.bit_generator.state == two.generators()[name].bit_generator.state
    if one.guidance is not None and two.guidance is not None:
        for mine, theirs in zip(
            one.guidance.state_dict().values(), two.guidance.state_dict().values(), strict=True
        ):
            np.testing.assert_equal(mine, theirs)
