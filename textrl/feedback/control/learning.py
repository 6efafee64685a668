"""Put together what a control session learns with: the environment, H, the learner and the trainer's seat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textrl.advice.guidance import Guidance, GuidanceSettings
from textrl.errors import UserError, did_you_mean
from textrl.feedback.control.settings import ControlSettings, completed
from textrl.learners.episodic import EpisodicLearner
from textrl.learners.episodic_parts import discrete_actions
from textrl.learners.sarsa import Sarsa
from textrl.learners.tamer import TamerLearner, TamerLearnerSettings
from textrl.tamer import Tamer


class Seat:
    """The trainer beside the learner's loop, as the learner sees them.

    What the trainer does reaches H through events, between two steps; within a step nothing happens here.

    Attributes:
        tamer: What learns from the trainer.
    """

    def __init__(self, tamer: Tamer) -> None:
        self.tamer = tamer

    @property
    def training(self) -> bool:
        """Whether the trainer is training now."""
        return self.tamer.is_training

    def shown(self, observation: Any, action: int) -> None:
        """Nothing: the page says when it showed the step."""

    def advance(self) -> None:
        """Nothing: the session's ticks are the clock."""

    def end_episode(self) -> None:
        """Nothing: the page says when the last step left the screen."""

    def metrics(self) -> Mapping[str, float]:
        """Return no figures: the panel has them."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return H; a session itself is rebuilt from its log."""
        return {"tamer": self.tamer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take H."""
        self.tamer.load_state_dict(state["tamer"])


@dataclass(frozen=True)
class Learning:
    """The parts of a session that learn.

    Attributes:
        settings: With every choice made.
        env: The environment.
        learner: What acts.
        tamer: H, and the steps that presses may still reach.
        guidance: How H advises the learner; None where it does not.
    """

    settings: ControlSettings
    env: Any
    learner: EpisodicLearner
    tamer: Tamer
    guidance: Guidance | None

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything that was learnt, and how much of it there was."""
        learner, tamer = self.learner, self.tamer
        advice = None
        if self.guidance is not None:
            state = self.guidance.state_dict()
            advice = {"beta": state["beta"], "eligibility": state["eligibility"]}
        return {
            "learner": learner.arrays(),
            "h": tamer.model.state_dict(),
            "advice": advice,
            "counts": [learner.num_timesteps, learner.episodes, tamer.samples, tamer.presses],
        }


def make_env(settings: ControlSettings, render_mode: str | None) -> Any:
    """Make the environment.

    Raises:
        UserError: When there is none of that name, it cannot be built, or its actions are not discrete.
    """
    import gymnasium
    from gymnasium.error import DependencyNotInstalled
    from gymnasium.error import Error as GymnasiumError

    from textrl.registry import get_registry

    registry = get_registry()
    registry.register_envs()
    arguments = dict(settings.env_args)
    if settings.max_episode_steps is not None:
        arguments["max_episode_steps"] = settings.max_episode_steps
    if render_mode is not None:
        arguments["render_mode"] = render_mode
    try:
        env = gymnasium.make(settings.env, **arguments)
    except DependencyNotInstalled as error:
        raise UserError(f"The environment {settings.env} lacks a package: {error}.") from error
    except (GymnasiumError, ModuleNotFoundError) as error:
        known = [*registry.specs("env"), *gymnasium.registry]
        raise UserError(
            f"There is no environment '{settings.env}'.{did_you_mean(settings.env, known)}"
        ) from error
    except TypeError as error:
        raise UserError(
            f"The environment {settings.env} cannot be built with these arguments ({error})."
        ) from error
    discrete_actions(env, settings.learner)  # refuses continuous ones by name
    return env


def build_learning(settings: ControlSettings, env: Any) -> Learning:
    """Build H, the learner, and what lies between them.

    Raises:
        UserError: When the features do not fit the observations.
    """
    spec = getattr(env, "spec", None)
    settings = completed(settings, settings.env if spec is None else spec.id, env.observation_space)
    assert settings.tamer is not None  # `completed` has filled them in
    assert settings.sarsa is not None
    assert settings.beta is not None
    n_actions = int(env.action_space.n)
    tamer = Tamer(settings.tamer, env.observation_space, n_actions)
    guidance = None
    learner: EpisodicLearner
    if settings.learner == "tamer":
        own = TamerLearnerSettings(tamer=settings.tamer, seed=settings.seed)
        learner = TamerLearner(env, own, human=Seat(tamer))
    else:
        if settings.learner == "tamer+rl":
            how = GuidanceSettings(
                technique=settings.technique,
                source="h",
                beta=settings.beta,
                anneal=settings.anneal,
                eligibility=settings.eligibility,
            )
            guidance = Guidance(how, tamer, env.observation_space, n_actions, seed=settings.seed)
        learner = Sarsa(env, settings.sarsa, guidance=guidance, human=Seat(tamer))
    return Learning(settings, env, learner, tamer, guidance)
