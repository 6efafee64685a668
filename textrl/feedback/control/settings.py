"""Every knob of a control session, and what it defaults to in the environments of the papers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from textrl.advice.betas import EligibilitySettings
from textrl.advice.techniques import Technique
from textrl.bench import papers
from textrl.errors import UserError
from textrl.features import FeatureSettings
from textrl.learners.sarsa.settings import SarsaSettings
from textrl.settings import build
from textrl.tamer.settings import TamerSettings

LearnerName = Literal["tamer", "tamer+rl", "sarsa"]
#: The weight of H where none is given. Control sharing's is the probability that H acts, cut at 1.
BETAS: Mapping[str, float] = {
    "action_biasing": 100.0,
    "control_sharing": 2.0,
    "q_augmentation": 10.0,
    "reward_shaping": 1.0,
}


@dataclass(frozen=True, kw_only=True)
class ControlSettings:
    """Settings of a control session; all of them stand in the session's config, so that a replay has them.

    Attributes:
        env: A Gymnasium id with Discrete actions.
        env_args: Arguments of the environment.
        max_episode_steps: Time limit of an episode instead of the environment's own, steps.
        learner: ``tamer`` acts on H alone; ``tamer+rl`` is SARSA(lambda), advised by H; ``sarsa`` learns
            from reward alone, and H, learnt beside it, does nothing.
        seed: Keys start states, exploration and ties.
        step_s: Seconds that a step stays on screen; the trainer can change it.
        pause_s: Seconds after an episode in which its last steps can still be rated.
        frames: Whether pictures are sent; without them the page has the state's numbers.
        width: Of a picture, pixels.
        technique: How H advises SARSA (``tamer+rl``).
        beta: Its weight; null takes 100 for action biasing, 2 for control sharing, 10 for Q augmentation
            and 1 for reward shaping.
        anneal: Multiplies the weight after every episode.
        simultaneous: Whether the weight follows where the trainer trained (the eligibility module); null
            does wherever the technique can.
        eligibility: The module's settings; null has those of Mountain Car, or of the papers' Cart Pole.
        features: What the learner and H see; null chooses by the observations.
        tamer: H and how it learns; null has the defaults, on `features`.
        sarsa: The base learner; null has those of the papers' Mountain Car or Cart Pole, on `features`.
    """

    env: str
    env_args: dict[str, Any] = field(default_factory=dict)
    max_episode_steps: int | None = None
    learner: LearnerName = "tamer"
    seed: int = 0
    step_s: float = 0.2
    pause_s: float = 1.0
    frames: bool = True
    width: int = 480
    technique: Technique = "action_biasing"
    beta: float | None = None
    anneal: float = 1.0
    simultaneous: bool | None = None
    eligibility: EligibilitySettings | None = None
    features: FeatureSettings | None = None
    tamer: TamerSettings | None = None
    sarsa: SarsaSettings | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        if not 0 < self.step_s < math.inf:
            raise ValueError(f"step_s is {self.step_s}; it must be above 0 seconds")
        if not 0 <= self.pause_s < math.inf:
            raise ValueError(f"pause_s is {self.pause_s}; it must be 0 seconds or more")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more")
        if not 64 <= self.width <= 1024:
            raise ValueError(f"width is {self.width}; it must be from 64 to 1024 pixels")
        if self.max_episode_steps is not None and self.max_episode_steps < 1:
            raise ValueError(f"max_episode_steps is {self.max_episode_steps}; it must be at least 1")
        if self.beta is not None and not 0 <= self.beta < math.inf:
            raise ValueError(f"beta is {self.beta}; it must be 0 or more")
        if not 0 <= self.anneal <= 1:
            raise ValueError(f"anneal is {self.anneal}; it must be between 0 and 1")
        if self.simultaneous and self.technique in ("reward_shaping", "q_augmentation"):
            raise ValueError(
                f"simultaneous does not go with {self.technique}: a reward or a value that moves by itself "
                "cannot be learnt; use action_biasing or control_sharing"
            )


def control_settings(config: Mapping[str, Any], where: str) -> ControlSettings:
    """Return the settings that a config holds.

    Args:
        config: As stored with the session, or as somebody gave it.
        where: What to call it in messages.

    Raises:
        UserError: On an unknown key, a wrong type or a refused value.
    """
    return build(ControlSettings, config, where=lambda key: where)


def completed(settings: ControlSettings, env_id: str, observation_space: Any) -> ControlSettings:
    """Return the settings with every choice made that was left open.

    Args:
        settings: As given.
        env_id: The environment's full id.
        observation_space: The environment's.
    """
    pole = "CartPole" in env_id
    features = settings.features or _features(env_id, observation_space)
    tamer = settings.tamer or TamerSettings(features=features)
    sarsa = settings.sarsa
    if sarsa is None:
        plain = papers.CART_POLE if pole else papers.MOUNTAIN_CAR_OPTIMISTIC
        if settings.learner == "tamer+rl" and not pole:
            plain = papers.MOUNTAIN_CAR_PESSIMISTIC
        given = {key: value for key, value in plain.items() if key != "features"}
        if features.kind in ("polynomial", "identity"):
            given["traces"] = "accumulating"
        sarsa = SarsaSettings(**given, features=features)
    can = settings.technique in ("action_biasing", "control_sharing")
    simultaneous = can if settings.simultaneous is None else settings.simultaneous
    eligibility = settings.eligibility
    if simultaneous and eligibility is None:
        eligibility = EligibilitySettings(features=features)
        if pole and settings.features is None:
            eligibility = build(EligibilitySettings, papers.POLE_DECAY, where=lambda key: key)
    beta = settings.beta
    if beta is None:
        beta = BETAS[settings.technique]
        if pole:
            beta = {"action_biasing": 200.0, "control_sharing": 1.0}.get(settings.technique, beta)
    return replace(
        settings,
        features=features,
        tamer=tamer,
        sarsa=replace(sarsa, seed=settings.seed),
        simultaneous=simultaneous,
        eligibility=eligibility if simultaneous else None,
        beta=beta,
    )


def _features(env_id: str, space: Any) -> FeatureSettings:
    """Choose features by what the observations are."""
    from gymnasium.spaces import Box, Discrete

    if isinstance(space, Discrete):
        return FeatureSettings(kind="one_hot")
    if "CartPole" in env_id:
        return build(FeatureSettings, papers.POLE_FEATURES, where=lambda key: key)
    if not isinstance(space, Box) or len(space.shape) != 1:
        raise UserError(
            f"The environment {env_id} shows {space}, which no built-in features take; use one whose "
            "observations are a one-dimensional Box or Discrete."
        )
    dimensions = space.shape[0]
    if dimensions <= 2:
        return FeatureSettings()
    if dimensions <= 4:
        return FeatureSettings(per_dimension={3: 12, 4: 8}[dimensions], width=0.13, span="unit")
    # A grid over more dimensions outgrows memory; of tiles only a few are active.
    return FeatureSettings(kind="tiles", tilings=8, tiles=4)
