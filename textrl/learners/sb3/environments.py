"""The copies of an environment that an algorithm steps, and what a resume needs of their episodes.

SB3 asks for its own `VecEnv`. Each copy is wrapped, from inside out:

    environment -> Monitor (its own rewards, for the log) -> Tape (what a resume replays) -> Guided (advice)

then come VecNormalize, where it is wanted, and the observations' advice (`textrl.learners.sb3.advice`). Token
environments write all texts in one `VecEnv` of their own, whose rows are scored together.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.error import Error as GymnasiumError
from numpy.typing import NDArray
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecNormalize

from textrl.errors import UserError
from textrl.learners.sb3.tokens import token_copies

_log = logging.getLogger(__name__)
_PLAIN = ""  # the one name of an observation that is no dict


class Tape(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Remembers how an episode began and what was done in it, so that a copy can be brought to its place.

    Gymnasium's environments draw from `np_random` alone and begin anew at `reset`; for those a replay
    ends in the same state, generator included.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation: Any = None
        self._start: dict[str, Any] | None = None
        self._actions: list[Any] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode and a new tape."""
        generator = self.unwrapped.np_random.bit_generator.state
        # A generator of another kind has arrays in its state, and options may be anything.
        known = generator["bit_generator"] == "PCG64" and not options
        self._start = {"seed": seed, "generator": generator} if known else None
        self._actions = []
        self.observation, info = self.env.reset(seed=seed, options=options)
        return self.observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and remember the action."""
        self._actions.append(action)
        self.observation, reward, terminated, truncated, info = self.env.step(action)
        return self.observation, reward, terminated, truncated, info

    def recorded(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """Return (how the episode began, its actions and its last observation), or None if unknown."""
        if self._start is None:
            return None
        arrays = {"actions": np.array(self._actions)}
        return self._start, arrays | {f"at/{k}": v for k, v in as_arrays(self.observation).items()}

    def replay(self, start: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Go where `recorded` was taken; returns whether the observation there is the same."""
        bits = np.random.PCG64()
        bits.state = cast(Any, dict(start["generator"]))
        # The generator is set on the environment itself: a wrapper's setter stops one level below.
        self.unwrapped.np_random = np.random.Generator(bits)
        self.reset(seed=start["seed"])
        for action in arrays["actions"]:
            self.step(action)
        here = as_arrays(self.observation)
        return all(
            f"at/{name}" in arrays and np.array_equal(value, arrays[f"at/{name}"])
            for name, value in here.items()
        )


class Environments:
    """What an algorithm steps.

    Attributes:
        vec: The outermost `VecEnv`.
        id: Gymnasium id, where there is one.
        normalize: The running statistics, or None.
        tapes: One for each copy; none where a `VecEnv` was given, or writes tokens.
    """

    def __init__(self, env: Any, n_envs: int, wrap: Callable[[Tape], gymnasium.Env[Any, Any]]) -> None:
        """Make the copies.

        Args:
            env: A Gymnasium environment, which becomes the first copy, or its id, or a `VecEnv` of SB3's.
            n_envs: How many copies.
            wrap: Puts the advice around one.

        Raises:
            UserError: When `env` is none of these, or cannot be copied.
        """
        self.tapes: list[Tape] = []
        self.normalize: VecNormalize | None = None
        self._first: Any = None
        self._spec = _spec_of(env)
        self.id: str | None = getattr(self._spec, "id", None)
        if isinstance(env, VecEnv):
            if env.num_envs != n_envs:
                raise UserError(f"n_envs is {n_envs}, but the vector environment given has {env.num_envs}.")
            self.vec: VecEnv = env
            return
        self._first = env if isinstance(env, gymnasium.Env) else self._copy()
        together = token_copies(self._first, n_envs)
        if together is not None:
            self.vec = together
            return
        copies = [self._first, *(self._copy() for _ in range(n_envs - 1))]
        self.tapes = [Tape(monitored(copy)) for copy in copies]
        wrapped = [wrap(tape) for tape in self.tapes]
        self.vec = DummyVecEnv([lambda one=one: one for one in wrapped])

    def normalise(self, *, rewards: bool, gamma: float) -> None:
        """Add running statistics of the observations and, if wanted, of the discounted returns."""
        self.normalize = VecNormalize(self.vec, norm_reward=rewards, gamma=gamma)
        self.vec = self.normalize

    def original(self, observations: NDArray[Any]) -> NDArray[Any]:
        """Return (B, S) observations as the environment gives them, where they were normalised."""
        if self.normalize is None:
            return observations
        original: NDArray[Any] = self.normalize.unnormalize_obs(observations)
        return original.astype(observations.dtype)

    def fresh(self, n_envs: int) -> VecEnv:
        """Return new copies without advice, for an evaluation; their normalisation follows the training's.

        Raises:
            UserError: When the environment cannot be copied.
        """
        vec: VecEnv | None = token_copies(self._first, n_envs)
        vec = vec or DummyVecEnv([lambda: monitored(self._copy()) for _ in range(n_envs)])
        if self.normalize is not None:
            vec = VecNormalize(vec, training=False, norm_reward=False)
            # The same object: what the training sees later, the evaluation knows too.
            vec.obs_rms = self.normalize.obs_rms
        return vec

    def tapes_state(self) -> tuple[list[Any], dict[str, NDArray[Any]]] | None:
        """Return how all episodes stand, or None where one of them cannot be replayed."""
        recorded = [tape.recorded() for tape in self.tapes]
        if not recorded or None in recorded:
            return None
        known = [found for found in recorded if found is not None]
        arrays = {f"{i}/{name}": array for i, (_, named) in enumerate(known) for name, array in named.items()}
        return [start for start, _ in known], arrays

    def replay(self, starts: list[Any], arrays: Mapping[str, NDArray[Any]]) -> bool:
        """Bring all copies to where `tapes_state` was taken; returns whether they got there."""
        reached = len(starts) == len(self.tapes)
        for index, (tape, start) in enumerate(zip(self.tapes, starts, strict=False)):
            prefix = f"{index}/"
            own = {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            reached = tape.replay(start, own) and reached
        if not reached:
            _log.warning(
                "The environments (%s) did not come back to where the checkpoint was taken; "
                "the training goes on with new episodes.",
                self.id,
            )
        return reached

    def _copy(self) -> gymnasium.Env[Any, Any]:
        if self._spec is None:
            raise UserError(
                "The environment has no Gymnasium id by which copies of it can be made; register it, or "
                "train with n_envs 1 and evaluate in an environment of your own."
            )
        return make(self._spec)


def make(env: Any) -> gymnasium.Env[Any, Any]:
    """Make an environment from its id or spec; textrl's own are registered first.

    Raises:
        UserError: When Gymnasium does not know it.
    """
    from textrl.registry import get_registry

    get_registry().register_envs()
    try:
        return gymnasium.make(env)
    except (GymnasiumError, ValueError) as error:  # ValueError: a wrapper that kept no arguments
        name = getattr(env, "id", env)
        raise UserError(f"The environment {name} cannot be made: {str(error).rstrip('.')}.") from error


def innermost(vec: VecEnv) -> VecEnv:
    """Return the `VecEnv` inside all wrappers."""
    while isinstance(vec, VecEnvWrapper):
        vec = vec.venv
    return vec


def as_arrays(observation: Any) -> dict[str, NDArray[Any]]:
    """Return an observation, or a batch of them, by name; a single array has the name ''."""
    if isinstance(observation, Mapping):
        return {str(name): np.asarray(value) for name, value in observation.items()}
    return {_PLAIN: np.asarray(observation)}


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Undo `as_arrays`."""
    return arrays[_PLAIN] if _PLAIN in arrays else dict(arrays)


def monitored(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Return the environment with SB3's record of its episodes around it."""
    if is_wrapped(env, Monitor):
        return env
    wrapped: gymnasium.Env[Any, Any] = Monitor(env)
    return wrapped


def monitored_outside(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """Return the environment with a further Monitor around it, whose record is the one that SB3 reads."""
    wrapped: gymnasium.Env[Any, Any] = Monitor(env)
    return wrapped


def _spec_of(env: Any) -> Any:
    """Return by what copies of `env` can be made: its spec, or None.

    Raises:
        UserError: When it is no environment.
    """
    if isinstance(env, str):
        try:
            from textrl.registry import get_registry

            get_registry().register_envs()
            return gymnasium.spec(env)
        except GymnasiumError as error:
            raise UserError(f"There is no environment '{env}': {str(error).rstrip('.')}.") from error
    if isinstance(env, gymnasium.Env):
        # SB3's own wrapper keeps no arguments to be made again with, and every copy gets one anyway.
        while isinstance(env, Monitor):
            env = env.env
        return env.spec
    if isinstance(env, VecEnv):
        return None
    raise UserError(
        "An algorithm of Stable-Baselines3 needs a Gymnasium environment or its id, not "
        f"{type(env).__name__}; copies are made by the setting n_envs."
    )
