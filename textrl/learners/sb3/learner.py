"""The surface that all algorithms of Stable-Baselines3 and sb3-contrib share here."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.vec_env import VecEnv

from textrl import checkpoint
from textrl.advice.guidance import Guidance
from textrl.errors import UserError
from textrl.learners.callbacks import Callback
from textrl.learners.episode_bar import EpisodeBar
from textrl.learners.sb3 import snapshot
from textrl.learners.sb3.advice import (
    AdviceColumns,
    Columns,
    Guided,
    check_guidance,
    check_parts,
    columns,
    widened,
)
from textrl.learners.sb3.building import build_algorithm, env_id, own_defaults
from textrl.learners.sb3.environments import Environments, Tape
from textrl.learners.sb3.hooks import Hooks
from textrl.learners.sb3.records import sb3_learners
from textrl.learners.sb3.settings import SB3Settings
from textrl.learners.sb3.surface import Surface
from textrl.learners.sb3.tokens import check_tokens, token_arguments
from textrl.learners.sb3.tuned import filled
from textrl.settings import build
from textrl.specs import LearnerSpec


class SB3Learner(Surface, ABC):
    """An algorithm of SB3 or sb3-contrib, with textrl's settings, advice and checkpoints.

    Building one seeds the global generators of Python, NumPy and torch, from which SB3 draws.

    Attributes:
        algorithm: SB3's own object.
        env: As given.
        settings: Without open values; see `textrl.learners.sb3.tuned`.
        guidance: Advice and how it is combined with the algorithm, or None.
        environments: The copies that are stepped, with what is wrapped around them.
        checkpoint_dir: Where checkpoints go; None keeps none.
    """

    #: Registered name.
    label: ClassVar[str]
    settings_class: ClassVar[type[SB3Settings]]
    #: For configs: a section ``human:`` is refused before anything is written.
    takes_person: ClassVar[bool] = False
    #: For configs: a length in episodes is refused before anything is written.
    counts_episodes: ClassVar[bool] = False
    #: Technique -> what its columns beside the observation hold; other techniques need none.
    advice_columns: ClassVar[Mapping[str, Columns]] = {}
    #: Whether `normalize` also scales rewards.
    _normalises_rewards: ClassVar[bool] = True

    def __init__(
        self,
        env: Any,
        settings: Any,
        *,
        guidance: Guidance | None = None,
        human: Any = None,
        rewards: Any = None,
        checkpoint_dir: Path | None = None,
    ) -> None:
        """Copy the environment and build the algorithm.

        Args:
            env: A Gymnasium environment, its id, or a `VecEnv` of SB3's. Where `n_envs` is above 1 the
                other copies are made from its id.
            settings: An instance of `settings_class`.
            guidance: Advice to combine with; what each learner accepts stands in its record.
            human: Refused: no person stands beside these learners.
            rewards: Refused unless empty: rewards come from the environment.
            checkpoint_dir: Where checkpoints go; None keeps none.

        Raises:
            UserError: When sb3-contrib is needed and absent, when the environment does not fit the
                algorithm or cannot be copied, or when the algorithm cannot take the guidance.
        """
        self.env, self.guidance, self.checkpoint_dir = env, guidance, checkpoint_dir
        algorithm = self._class()
        check_parts(self.spec(), human, rewards)
        if isinstance(env, VecEnv) and settings.n_envs is None:
            settings = dataclasses.replace(settings, n_envs=env.num_envs)
        self.settings = filled(settings, self.label, env_id(env), own_defaults(algorithm))
        check_guidance(guidance, self.spec(), env, normalize=bool(self.settings.normalize))
        self.environments = Environments(env, self.settings.n_envs or 1, self._wrap)
        check_tokens(
            self.environments.vec.observation_space,
            self.label,
            normalize=bool(self.settings.normalize),
            guided=guidance is not None,
        )
        if self.settings.normalize:
            self.environments.normalise(
                rewards=self._normalises_rewards, gamma=getattr(self.settings, "gamma", 0.99)
            )
        kind = self._columns_kind()
        self._count = 0
        if kind is not None and guidance is not None:
            wide = AdviceColumns(self.environments.vec, guidance, kind)
            self.environments.vec, self._count = wide, wide.count
        self.algorithm: Any = self._built(algorithm)
        self._between_rollouts = True
        self._last_checkpoint = 0
        self._own_random = snapshot.OwnRandom(self.algorithm, self.settings.seed)

    @classmethod
    def spec(cls) -> LearnerSpec:
        """Return the learner's record."""
        return next(spec for spec in sb3_learners() if spec.name == cls.label)

    @abstractmethod
    def _class(self) -> type[Any]:
        """Return the algorithm's class.

        Raises:
            UserError: When sb3-contrib is needed and absent.
        """

    def _policy(self) -> Any:
        """Return the policy: a name that the algorithm knows, or a class."""
        space = self.environments.vec.observation_space
        if isinstance(space, spaces.Dict):
            return "MultiInputPolicy"
        return "CnnPolicy" if is_image_space(space) else "MlpPolicy"

    def _policy_arguments(self) -> dict[str, Any]:
        """Return the arguments of the policy."""
        tokens = token_arguments(self.environments.vec.observation_space, self.settings.token_width)
        return tokens | ({} if self.settings.net_arch is None else {"net_arch": list(self.settings.net_arch)})

    def _wrap(self, tape: Tape) -> gymnasium.Env[Any, Any]:
        """Put the advice around one copy of the environment."""
        return tape if self.guidance is None else Guided(tape, self.guidance)

    def _technique(self) -> str | None:
        return None if self.guidance is None else self.guidance.settings.technique

    def _columns_kind(self) -> Columns | None:
        return self.advice_columns.get(self._technique() or "")

    def _built(self, algorithm: type[Any]) -> Any:
        """Return the algorithm on the environments.

        Raises:
            UserError: When SB3 refuses them or the settings.
        """
        return build_algorithm(
            algorithm,
            self._policy(),
            self._policy_arguments(),
            self.settings,
            self.environments.vec,
            self.label,
        )

    def learn(
        self,
        total_timesteps: int | None = None,
        callback: Callback = None,
        progress_bar: bool = False,
        *,
        episodes: int | None = None,
    ) -> Self:
        """Train until `num_timesteps` has grown to `total_timesteps`; whole updates may exceed it.

        Schedules and exploration follow `total_timesteps`, so a resume repeats a run only if both are
        asked for the same number.

        Args:
            total_timesteps: Environment steps, counted from the beginning of the run.
            callback: SB3's callback objects, or a function of the learner that is called after every step
                of the copies; returning False stops. A rollout that is stopped is not learnt from, and
                what follows begins new episodes.
            progress_bar: Show progress and the time left.
            episodes: Refused: the schedules of these algorithms need a number of steps.

        Raises:
            UserError: When `total_timesteps` is missing.
        """
        if total_timesteps is None or episodes is not None:
            raise UserError(
                f"The learner '{self.label}' counts in steps; give total_timesteps, not episodes."
            )
        remaining = total_timesteps - self.num_timesteps
        if remaining <= 0:
            return self
        bar = EpisodeBar(progress_bar, cast(Any, self), total_timesteps, None)
        with bar as progress:

            def show() -> None:
                if progress_bar and "rollout/ep_rew_mean" in self.metrics:
                    progress.show()

            hooks = Hooks(self, callback, show)
            self.algorithm.learn(remaining, callback=hooks, reset_num_timesteps=False)
        if hooks.stopped:
            self.algorithm._last_obs = None  # begins new episodes, here as after a resume
        self._between_rollouts = True
        return self

    def rollout_starts(self) -> None:
        """Take a checkpoint if one is due: between two rollouts everything is in the learner's state."""
        self._update_ended()
        self._between_rollouts = False
        self._log_guidance()

    def _log_guidance(self) -> None:
        if self.guidance is not None:
            for name, value in self.guidance.metrics().items():
                self.algorithm.logger.record(name, value)

    def _update_ended(self) -> None:
        self._between_rollouts = True
        every = self.settings.checkpoint_every
        if self.checkpoint_dir is None or self.num_timesteps // every == self._last_checkpoint // every:
            return
        self.save(self.checkpoint_dir / f"step_{self.num_timesteps:09d}")
        checkpoint.prune(self.checkpoint_dir, self.settings.keep_checkpoints)
        self._last_checkpoint = self.num_timesteps

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        *,
        guided: bool = True,
    ) -> tuple[Any, Any]:
        """Choose actions; draws from generators of its own, so the training does not notice.

        Args:
            observation: One observation or a batch, as `get_env` or `evaluation_env` give them: normalised
                where the training's are.
            state: Of a recurrent policy; None at the beginning.
            episode_start: (B,) whether an episode begins, for a recurrent policy.
            deterministic: Without exploration: the most probable or most valuable action.
            guided: Choose with the advice at its present weight; False shows the policy alone.

        Returns:
            (actions, state).
        """
        with self._own_random(draws=not deterministic):
            return self._predicted(observation, state, episode_start, deterministic, guided)

    def _predicted(
        self, observation: Any, state: Any, episode_start: Any, deterministic: bool, guided: bool
    ) -> tuple[Any, Any]:
        seen = self._with_columns(observation, guided)
        actions, state = self.algorithm.predict(seen, state, episode_start, deterministic)
        return actions, state

    def _with_columns(self, observation: Any, guided: bool) -> Any:
        """Return the observation as the policy wants it: with columns of advice, where it was built so."""
        kind = self._columns_kind()
        if kind is None or self.guidance is None:
            return observation
        given = np.asarray(observation)
        batch = np.atleast_2d(given)
        own = batch[:, : self.environments.vec.observation_space.shape[0] - self._count]
        advice = np.zeros((len(own), self._count), dtype=np.float32)
        if guided:
            advice = columns(self.guidance, kind, self.environments.original(own), self._count)
        wide = widened(own, advice)
        return wide[0] if given.ndim == 1 else wide

    def save(self, path: str | Path) -> None:
        """Write a checkpoint folder: tensors and JSON, nothing pickled.

        It holds the policy, its optimizer, the replay buffer, ARS's weights, the running statistics, the
        guidance, all counters, the generators of Python, NumPy and torch, and how each copy's episode
        began and what was done in it. Taken between two rollouts (which those of `checkpoint_dir` are, and
        any after `learn`) it lets a run go on **bit for bit**: `restore` in a fresh process, `learn` to the
        same `total_timesteps`, on the same hardware, versions and thread count. Episodes are replayed for
        this, so it holds for environments that draw from `np_random` alone and begin anew at `reset`, as
        Gymnasium's do; where a replay does not arrive, it says so in the log, and new episodes begin. The
        token environment numbers its episodes: its run goes on, but with other prompts.

        Not repeated are: the rest of a rollout, when a callback saves in the middle of one (what was
        collected of it is lost, and new episodes begin, except for transitions that DQN's buffer holds);
        episodes of a `VecEnv` that was given ready-made; SB3's ``train/`` figures of the update before the
        checkpoint, and times, in the first rows of the log; the random numbers of `predict`.
        """
        snapshot.save(self, path, between_rollouts=self._between_rollouts)

    def restore(self, path: str | Path) -> Self:
        """Continue from a checkpoint that `save` wrote.

        Raises:
            UserError: When the folder is damaged, or belongs to another learner, other settings, another
                environment or other guidance.
        """
        snapshot.restore(self, path)
        self._between_rollouts = True
        self._last_checkpoint = self.num_timesteps
        return self

    @classmethod
    def load(cls, path: str | Path, env: Any, *, guidance: Guidance | None = None) -> Self:
        """Rebuild a learner from a checkpoint folder.

        Args:
            path: The folder.
            env: An environment of the kind it was trained in, or its id.
            guidance: As the learner had it.

        Raises:
            UserError: As `restore`.
        """
        loaded = checkpoint.load(path)
        snapshot.check_learner(loaded, cls.label)
        settings = build(cls.settings_class, loaded.config, where=lambda key: f"{path}/config.yaml, {key}")
        return cls(env, settings, guidance=guidance).restore(path)
