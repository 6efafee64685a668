"""TAMER as a learner: myopic and greedy on H; the environment's reward is logged, and not learnt from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from textrl.advice.guidance import Guidance
from textrl.errors import UserError
from textrl.learners.episodic import EpisodicLearner
from textrl.learners.episodic_parts import TaughtLoop
from textrl.learners.tamer.settings import TamerLearnerSettings
from textrl.protocols import Signal
from textrl.settings import build
from textrl.tamer.human import Human
from textrl.tamer.models import LinearH
from textrl.tamer.settings import TamerSettings
from textrl.tamer.tamer import Tamer, choose

#: What further advice can change here: the scores that actions are chosen by, and the choice itself.
ACCEPTS = frozenset({"action_scores", "behaviour"})


class TamerLearner(EpisodicLearner):
    """a = argmax_a H(s, a); among equals the last action, else one at random.

    Attributes:
        tamer: H; the person's where there is one.
    """

    label: ClassVar[str] = "tamer"
    settings_class: ClassVar[type[Any]] = TamerLearnerSettings

    def __init__(
        self,
        env: Any,
        settings: TamerLearnerSettings,
        *,
        human: TaughtLoop | None = None,
        guidance: Guidance | None = None,
        checkpoint_dir: Path | None = None,
    ) -> None:
        """Take the person's H, or make one.

        Args:
            env: One Gymnasium environment with Discrete actions.
            settings: Every knob.
            human: The person who trains; without one H stays as it is.
            guidance: Further advice: action biasing or control sharing.
            checkpoint_dir: Where checkpoints go; None keeps none.

        Raises:
            UserError: When the environment, the weights, the person or the guidance do not fit.
        """
        settings = replace(settings, tamer=_settings(settings.tamer, human))
        super().__init__(env, settings, human=human, guidance=guidance, checkpoint_dir=checkpoint_dir)
        technique = None if guidance is None else guidance.settings.technique
        if technique in ("reward_shaping", "q_augmentation"):
            raise UserError(
                f"The learner tamer learns from no reward and no target, so {technique} would do nothing; "
                "use action_biasing or control_sharing."
            )
        if human is None:
            self.tamer = Tamer(settings.tamer or TamerSettings(), env.observation_space, self.n_actions)
        else:
            self.tamer = human.tamer
        if self.tamer.n_actions != self.n_actions:
            raise UserError(
                f"The person's TAMER rates {self.tamer.n_actions} actions, but the environment has "
                f"{self.n_actions}; build both from one environment."
            )
        if settings.weights is not None:
            self.tamer.load_weights(settings.weights)

    def first(self, observation: Any) -> int:
        """Choose the first action of an episode; there is no last one that could break a tie."""
        return self._choose(observation, None)

    def next(
        self,
        observation: Any,
        action: int,
        reward: float,
        next_observation: Any,
        terminated: bool,
        truncated: bool,
    ) -> int | None:
        """Choose the next action; H has learnt already, from what the person did."""
        return None if terminated or truncated else self._choose(next_observation, action)

    def decide(self, observation: Any, rng: np.random.Generator, *, deterministic: bool) -> int:
        """Act on H; ties are drawn, or with `deterministic` the first one is taken.

        In training the last action is kept where it is among the best (the published rule); what is
        asked here stands alone, and there is no last action.
        """
        ratings = self.tamer.rate(observation)
        if self.guidance is not None:
            shared = self.guidance.evaluate(observation, rng, deterministic=deterministic)
            if shared is not None:
                return shared
            ratings = self.guidance.scores(ratings, observation, acting=False)
        return int(ratings.argmax()) if deterministic else choose(ratings, None, rng)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return H where nobody trains it; a person's state has it otherwise."""
        model = self.tamer.model
        return {"weights": model.weights} if self.human is None and isinstance(model, LinearH) else {}

    def load_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take H."""
        if arrays:
            self.tamer.model.load_state_dict(arrays)

    def figures(self) -> dict[str, float]:
        """Return how many samples H has learnt."""
        return {"tamer/samples": float(self.tamer.samples)}

    @classmethod
    def load(cls, path: str | Path, env: Any, **parts: Any) -> Self:
        """Rebuild a learner from a checkpoint folder.

        Args:
            path: The folder.
            env: An environment of the kind it was trained in.
            parts: `human`, to go on training, and `guidance`. Without a person, H as it was trained acts
                and nobody adds to it.
        """
        from textrl import checkpoint

        loaded = checkpoint.load(path)
        if "human" in loaded.state and parts.get("human") is None:
            settings = build(
                cls.settings_class, loaded.config, where=lambda key: f"{path}/config.yaml, {key}"
            )
            tamer = Tamer(settings.tamer, env.observation_space, int(env.action_space.n))
            parts["human"] = Human(_Nobody(), tamer)
        return super().load(path, env, **parts)

    def _choose(self, observation: Any, last: int | None) -> int:
        ratings = self.tamer.rate(observation)
        if self.guidance is not None:
            shared = self.guidance.choose(observation)
            if shared is not None:
                return shared
            ratings = self.guidance.scores(ratings, observation)
        return choose(ratings, last, self.rng)


class _Nobody:
    """The feedback of a session that is over."""

    def poll(self, now_s: float) -> Sequence[Signal]:
        return ()


def _settings(given: TamerSettings | None, human: TaughtLoop | None) -> TamerSettings:
    """Return the settings that H has, which a checkpoint must name."""
    if human is None:
        return given or TamerSettings()
    if given is not None and given != human.tamer.settings:
        raise UserError(
            "The learner's settings 'tamer' differ from those of the person's TAMER; leave them out to use "
            "the person's."
        )
    return human.tamer.settings
