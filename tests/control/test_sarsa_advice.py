"""The identities of TAMER+RL: what a weight of 0 leaves alone, and what Q augmentation is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from control_learners import Watched, car
from control_world import Floats, Rule, mountain_car

from textrl.learners.sarsa import Sarsa

TECHNIQUES = ["reward_shaping", "q_augmentation", "action_biasing", "control_sharing"]


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_beta_0_is_the_plain_learner_bit_for_bit(technique: str) -> None:
    plain, guided = car(), car(technique, 0.0)
    watched = Watched(plain), Watched(guided)
    plain.learn(episodes=4)
    guided.learn(episodes=4)
    assert watched[0].actions == watched[1].actions
    assert np.array_equal(plain.linear.weights, guided.linear.weights)
    assert plain.rng.bit_generator.state == guided.rng.bit_generator.state
    assert plain.episode_returns == guided.episode_returns


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_beta_above_0_is_not(technique: str) -> None:
    plain, guided = car().learn(episodes=2), car(technique, 1.0).learn(episodes=2)
    assert not np.allclose(plain.linear.weights, guided.linear.weights)


class LookAhead(Sarsa):
    """Look-ahead advice (Wiewiora, Cottrell and Elkan, ICML 2003), written without guidance.

    The reward is shaped by the potential Phi(s, a) = beta H(s, a): r + gamma Phi(s', a') - Phi(s, a), with
    Phi = 0 at a terminal state, and actions are chosen by Q + Phi. Q itself is learnt plainly.
    """

    beta, rule = 0.0, Rule()

    def _explore(self, scores: Floats, rng: np.random.Generator) -> int:
        return super()._explore(scores + self.beta * self.rule.rate(self._here), rng)

    def first(self, observation: Any) -> int:
        self._here = observation
        return super().first(observation)

    def next(self, observation: Any, action: int, reward: float, after: Any, *ends: bool) -> int | None:
        self._here = after
        phi, before = self._phi, self.beta * float(self.rule.rate(observation)[action])
        q = self.linear.value(phi, action)
        shaped, following = reward - before, None
        terminated, truncated = ends
        if not terminated:
            self._phi = self.features(after)
            values = self.linear.q(self._phi)
            following = self._explore(values, self.rng)
            shaped += self.settings.gamma * self.beta * float(self.rule.rate(after)[following])
            shaped += self.settings.gamma * float(values[following])
        self.linear.visit(phi, action)
        self.linear.update(self.settings.alpha * (shaped - q))
        return None if terminated or truncated else following


class Fixed:
    """Smooth advice with another value for each action and state."""

    def rate(self, observation: Any) -> Floats:
        position, velocity = (float(value) for value in observation)
        return np.array([np.sin(5 * position) / 9 - 40 * velocity, -0.1, position / 9 + 40 * velocity])


@pytest.mark.parametrize("gamma", [1.0, 0.97])
def test_q_augmentation_is_look_ahead_advice(gamma: float) -> None:
    augmented = car("q_augmentation", 3.0, advice=Fixed(), gamma=gamma)
    look_ahead = LookAhead(mountain_car(), augmented.settings)
    look_ahead.beta, look_ahead.rule = 3.0, Fixed()  # type: ignore[assignment]
    watched = Watched(augmented), Watched(look_ahead)
    augmented.learn(episodes=8)
    look_ahead.learn(episodes=8)
    assert min(augmented.episode_lengths) < 200, "some episodes must end at the goal"
    assert watched[0].actions == watched[1].actions
    np.testing.assert_allclose(augmented.linear.weights, look_ahead.linear.weights, atol=1e-9, rtol=0)
    assert np.abs(augmented.linear.weights).max() > 0.1


def test_advice_that_is_right_helps_at_once() -> None:
    plain, guided = car(epsilon=0.0), car("action_biasing", 100.0, epsilon=0.0)
    assert np.mean(guided.learn(episodes=5).episode_returns) > -140
    assert np.mean(plain.learn(episodes=5).episode_returns) < -180


def test_the_reward_that_is_logged_is_the_environments() -> None:
    shaped = car("reward_shaping", 5.0).learn(episodes=2)
    assert all(
        -total == length for total, length in zip(shaped.episode_returns, shaped.episode_lengths, strict=True)
    )
