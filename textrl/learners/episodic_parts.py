"""What an episodic learner is put together from: settings, an environment, and a person beside the loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from textrl.errors import UserError

if TYPE_CHECKING:
    from textrl.tamer.tamer import Tamer


class EpisodicSettings(Protocol):
    """What every episodic learner's settings dataclass has."""

    @property
    def seed(self) -> int:
        """Keys all random numbers of the learner."""
        ...

    @property
    def checkpoint_every(self) -> int:
        """Episodes between checkpoints."""
        ...

    @property
    def keep_checkpoints(self) -> int:
        """How many checkpoints stay."""
        ...


class HumanLoop(Protocol):
    """A person beside the loop, real, simulated or replayed (`textrl.tamer.human.Human`)."""

    @property
    def training(self) -> bool:
        """Whether the person is training now; lets the eligibility module grow."""
        ...

    def shown(self, observation: Any, action: int) -> None:
        """A step begins: the person sees the observation and the action, 0 .. A-1."""
        ...

    def advance(self) -> None:
        """The step was on screen for its time: move the clock, deliver what the person did."""
        ...

    def end_episode(self) -> None:
        """The last step of an episode is over."""
        ...

    def metrics(self) -> Mapping[str, float]:
        """Return figures to log, such as ``human/signals_per_min``."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return numpy arrays, tensors and JSON data, nested in mappings with string keys and lists."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        ...


class TaughtLoop(HumanLoop, Protocol):
    """A person beside the loop who teaches TAMER."""

    @property
    def tamer(self) -> Tamer:
        """What learns from the person."""
        ...


@dataclass
class Running:
    """An episode under way; `learn` leaves one open where timesteps or a callback end it in between.

    Attributes:
        observation: What is seen now.
        action: What is done next.
        total: Sum of the rewards so far.
        length: Steps so far.
    """

    observation: Any
    action: int
    total: float = 0.0
    length: int = 0

    def check(self, number: int) -> None:
        """Refuse a return that is not finite.

        Args:
            number: Of the episode, from 1.

        Raises:
            UserError: Names the episode.
        """
        if not math.isfinite(self.total):
            raise UserError(
                f"Episode {number} has the return {self.total}: the environment paid a reward that is not "
                "finite; correct its reward."
            )


class Step(NamedTuple):
    """One step that was taken.

    Attributes:
        observation: Where.
        action: What was done, 0 .. A-1.
        reward: The environment's.
        after: What was seen then.
        over: Whether the episode ended, by the task or by its time limit.
        info: The environment's.
    """

    observation: Any
    action: int
    reward: float
    after: Any
    over: bool
    info: Any


def discrete_actions(env: Any, label: str) -> tuple[int, int]:
    """Return (how many actions, the environment's number of the first)."""
    from gymnasium.spaces import Discrete

    if getattr(env, "num_envs", None) is not None:
        raise UserError(f"The learner {label} steps one environment, not {type(env).__name__}; use gym.make.")
    space = getattr(env, "action_space", None)
    if not isinstance(space, Discrete):
        raise UserError(
            f"The learner {label} needs a Discrete action space, not {space}; continuous actions are for "
            "'sb3/ppo', 'sb3/a2c', 'contrib/trpo' and 'contrib/ars'."
        )
    return int(space.n), int(space.start)


def separated(observation: Any, space: Any) -> tuple[bool, Any]:
    """Take a batch of observations apart.

    Args:
        observation: One of the space, or B of them stacked; for a Dict space a mapping of arrays.
        space: Gymnasium's.

    Returns:
        (Whether it was a single one, all of them one after the other.)
    """
    if isinstance(observation, Mapping):
        arrays = {name: np.asarray(value) for name, value in observation.items()}
        name, first = next(iter(arrays.items()))
        if first.ndim == len(space[name].shape):
            return True, [arrays]
        return False, [{name: value[row] for name, value in arrays.items()} for row in range(len(first))]
    given = np.asarray(observation)
    single = given.ndim == len(space.shape)
    return single, given[None] if single else given


def stacked(observation: Any) -> Any:
    """Return one observation as a batch of one, as SB3's callbacks find it."""
    if isinstance(observation, Mapping):
        return {name: np.asarray(value)[None] for name, value in observation.items()}
    return np.asarray(observation)[None]
