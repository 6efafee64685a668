"""SARSA(lambda): on-policy control, one linear value per action, epsilon-greedy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from textrl.advice.guidance import Guidance
from textrl.advice.techniques import greedy
from textrl.errors import UserError
from textrl.features import SparseFeatures, make_features
from textrl.learners.episodic import EpisodicLearner
from textrl.learners.episodic_parts import HumanLoop
from textrl.learners.sarsa.linear import LinearQ
from textrl.learners.sarsa.settings import SarsaSettings
from textrl.learners.sarsa.sparse import SparseQ

Floats = NDArray[np.float64]
#: From so many weights on, features of which few are active are worked on as such.
_LARGE = 10_000
#: More weights than these are not held: 1 GB.
MOST_WEIGHTS = 125_000_000


class Sarsa(EpisodicLearner):
    """SARSA(lambda), alone or combined with advice.

    After the step (s, a, r, s'), with a' chosen from the values before the update,

        delta = r + gamma Q(s', a') - Q(s, a);  e: see `LinearQ.visit`;  w += alpha delta e.

    A terminal s' counts 0. A truncated one counts like any other: the time limit is not part of the state.

    Attributes:
        features: What a state becomes, (F,).
        linear: Weights and traces, a `LinearQ` or, for a large table with few active features, a `SparseQ`.
        epsilon: Of the episode under way.
    """

    label: ClassVar[str] = "sarsa"
    settings_class: ClassVar[type[Any]] = SarsaSettings

    def __init__(
        self,
        env: Any,
        settings: SarsaSettings,
        *,
        guidance: Guidance | None = None,
        human: HumanLoop | None = None,
        checkpoint_dir: Path | None = None,
    ) -> None:
        """Build the features and set the weights.

        Args:
            env: One Gymnasium environment with Discrete actions.
            settings: Every knob.
            guidance: Advice to combine with; any technique.
            human: A person beside the loop.
            checkpoint_dir: Where checkpoints go; None keeps none.

        Raises:
            UserError: When the actions are not discrete, the features do not fit the observations, or there
                would be more than `MOST_WEIGHTS`.
        """
        super().__init__(env, settings, guidance=guidance, human=human, checkpoint_dir=checkpoint_dir)
        self.features = make_features(settings.features, env.observation_space)
        count = self.n_actions * self.features.size
        if count > MOST_WEIGHTS:
            raise UserError(
                f"{self.n_actions:,} actions with {self.features.size:,} features each are {count:,} "
                f"weights, {8 * count / 1e9:.1f} GB; take fewer features or a smaller vocabulary to stay "
                f"below {MOST_WEIGHTS:,}."
            )
        large = count >= _LARGE
        self._seen: Any = self.features  # what `linear` takes for a state
        kind: Any = LinearQ
        if large and isinstance(self.features, SparseFeatures):
            self._seen, kind = self.features.active, SparseQ
        self.linear: Any = kind(
            self.n_actions,
            self.features.size,
            decay=settings.lam * settings.gamma,
            traces=settings.traces,
            initial_weight=settings.initial_weight,
        )
        self.epsilon = settings.epsilon
        self._alpha, self._gamma = settings.alpha, settings.gamma
        self._phi: Any = None

    def first(self, observation: Any) -> int:
        """Begin an episode: forget the traces, choose an action."""
        settings = self.settings
        self.epsilon = max(settings.epsilon_min, settings.epsilon * settings.epsilon_decay**self.episodes)
        self.linear.forget()
        self._phi = self._seen(observation)
        return self._choose(self.linear.q(self._phi), observation)

    def next(
        self,
        observation: Any,
        action: int,
        reward: float,
        next_observation: Any,
        terminated: bool,
        truncated: bool,
    ) -> int | None:
        """Update after one step, and choose the next action."""
        linear, guidance, phi = self.linear, self.guidance, self._phi
        # Taken anew: the update after the step before has moved it.
        predicted = linear.value(phi, action)
        if guidance is not None:
            reward = guidance.reward(reward, observation, action)
            predicted = guidance.value(predicted, observation, action)
        target, following = reward, None
        if not terminated:
            self._phi = self._seen(next_observation)
            next_values = linear.q(self._phi)
            following = self._choose(next_values, next_observation)
            value = float(next_values[following])
            if guidance is not None:
                value = guidance.value(value, next_observation, following)
            target += self._gamma * value
        linear.visit(phi, action)
        linear.update(self._alpha * (target - predicted))
        if not (terminated or truncated):
            return following
        if not math.isfinite(np.add.reduce(linear.weights, axis=None)):
            raise UserError(
                f"The weights of SARSA are no longer finite in episode {self.episodes + 1} (alpha is "
                f"{self._alpha:g}); lower alpha, which is not divided by the number of active features."
            )
        return None

    def decide(self, observation: Any, rng: np.random.Generator, *, deterministic: bool) -> int:
        """Act as in training, from another generator; `deterministic` leaves out exploration."""
        scores = self.linear.q(self._seen(observation))
        if self.guidance is not None:
            shared = self.guidance.evaluate(observation, rng, deterministic=deterministic)
            if shared is not None:
                return shared
            scores = self.guidance.scores(scores, observation, acting=False)
        if deterministic:
            return int(scores.argmax())
        return self._explore(scores, rng)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the weights; traces do not outlive an episode."""
        return {"weights": self.linear.weights}

    def load_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take the weights."""
        self.linear.weights[:] = arrays["weights"]

    def figures(self) -> dict[str, float]:
        """Return epsilon of the episode that ended."""
        return {"rollout/epsilon": self.epsilon}

    def _choose(self, q: Floats, observation: Any) -> int:
        """Choose what the training does next."""
        if self.guidance is not None:
            shared = self.guidance.choose(observation)
            if shared is not None:
                return shared
            q = self.guidance.scores(q, observation)
        return self._explore(q, self.rng)

    def _explore(self, scores: Floats, rng: np.random.Generator) -> int:
        if self.epsilon > 0.0 and rng.random() < self.epsilon:
            return int(rng.integers(self.n_actions))
        return greedy(scores, rng)
