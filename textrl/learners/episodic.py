"""The loop and Stable-Baselines3's surface for learners that act one step at a time in one environment.

A subclass says how to act and how to learn from one step; this module steps the environment, tells the
guidance and the person what happened, logs each episode and keeps checkpoints between episodes. The
environment is reset with a seed that the learner draws, so its own random state need not be kept and a
resume repeats the run bit for bit.
"""

from __future__ import annotations

import itertools
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from textrl.errors import UserError
from textrl.learners.callbacks import Callback, Callbacks
from textrl.learners.episode_bar import EpisodeBar
from textrl.learners.episodic_parts import (
    HumanLoop,
    Running,
    Step,
    discrete_actions,
    separated,
    stacked,
)
from textrl.learners.surface import LearnerSurface

if TYPE_CHECKING:  # acting needs neither torch nor the checkpoint format
    from textrl.advice.guidance import Guidance

#: `rollout/ep_rew_mean` is the mean over this many episodes, as in Stable-Baselines3.
WINDOW = 100


class EpisodicLearner(LearnerSurface):
    """A learner that chooses an action, sees one step, learns from it, and so on.

    Attributes:
        env: The Gymnasium environment.
        settings: As given.
        guidance: Advice and how it is combined with the learner, or None.
        human: The person beside the loop, or None.
        n_actions: A. Actions are 0 .. A-1 everywhere here; the environment's own numbering may start
            elsewhere.
        rng: Draws the learner's actions and ties.
        num_timesteps: Environment steps so far.
        episodes: Episodes finished so far.
        episode_returns: Sum of the environment's rewards of each finished episode.
        episode_lengths: Steps of each finished episode.
        metrics: What was logged last.
    """

    label: ClassVar[str] = "learner"  # in messages, and beside the progress bar
    round_name: ClassVar[str] = "episode"

    def __init__(
        self,
        env: Any,
        settings: Any,
        *,
        guidance: Guidance | None = None,
        human: HumanLoop | None = None,
        checkpoint_dir: Path | None = None,
    ) -> None:
        """Check the environment and seed the generators.

        Args:
            env: One Gymnasium environment with a Discrete action space.
            settings: A frozen dataclass with at least the fields of `EpisodicSettings`.
            guidance: Advice to combine with.
            human: A person beside the loop.
            checkpoint_dir: Where checkpoints go; None keeps none.

        Raises:
            UserError: When the actions are not discrete, or `env` is a vector environment.
        """
        super().__init__(env, settings, checkpoint_dir)
        self.guidance, self.human = guidance, human
        self.n_actions, self._first_action = discrete_actions(env, self.label)
        # Start states have a generator of their own: agents that draw differently meet the same ones.
        self.rng, self._starts, self._predicting = (
            np.random.default_rng([settings.seed, stream]) for stream in range(3)
        )
        self.episodes = 0
        self.episode_returns: list[float] = []
        self.episode_lengths: list[int] = []
        self._running: Running | None = None
        self._vectorised: Any = None

    @abstractmethod
    def first(self, observation: Any) -> int:
        """An episode begins: return its first action, 0 .. A-1."""

    @abstractmethod
    def next(
        self,
        observation: Any,
        action: int,
        reward: float,
        next_observation: Any,
        terminated: bool,
        truncated: bool,
    ) -> int | None:
        """Learn from one step.

        Returns:
            The next action, or None where the episode is over.
        """

    @abstractmethod
    def decide(self, observation: Any, rng: np.random.Generator, *, deterministic: bool) -> int:
        """Return an action for `predict`: learn nothing, and draw from `rng` only."""

    @abstractmethod
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what was learnt, and what else `load_arrays` needs at an episode's end."""

    @abstractmethod
    def load_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Continue from `arrays`; `episodes` is already restored."""

    def figures(self) -> dict[str, float]:
        """Return the subclass's own metrics after an episode."""
        return {}

    @property
    def iteration(self) -> int:
        """What metrics and checkpoints are counted in: episodes."""
        return self.episodes

    def get_env(self) -> Any:
        """Return the environment as SB3's callbacks expect it: vectorised, with one member."""
        if self._vectorised is None:
            from stable_baselines3.common.vec_env import DummyVecEnv

            self._vectorised = DummyVecEnv([lambda: self.env])
        return self._vectorised

    def learn(
        self,
        total_timesteps: int | None = None,
        callback: Callback = None,
        progress_bar: bool = False,
        *,
        episodes: int | None = None,
    ) -> Self:
        """Train until `num_timesteps` reaches `total_timesteps`, or for a number of episodes in all.

        Args:
            total_timesteps: Environment steps, counted from the beginning of the run. An episode that
                they cut is continued by the next `learn`.
            callback: SB3's callback objects, called at every step, or a function of the learner, called
                after every episode; returning False stops.
            progress_bar: Show progress and the time left.
            episodes: Counted from the beginning of the run; resuming continues the count.

        Raises:
            UserError: When neither limit is given, or a return is not finite.
        """
        if total_timesteps is None and episodes is None:
            raise UserError("learn() needs total_timesteps or episodes.")
        # SB3's objects want every step, which costs more than a step of a linear learner; functions do not.
        every_step = isinstance(callback, Sequence) or hasattr(callback, "on_step")
        bar = EpisodeBar(progress_bar, self, total_timesteps, episodes)
        # Overflow need not warn at every step: what is not finite stops the run at the episode's end.
        quiet = np.errstate(over="ignore", invalid="ignore")
        with quiet, bar as progress, Callbacks(callback, self) as callbacks:
            while not self._done(total_timesteps, episodes):
                before, started = self.num_timesteps, time.perf_counter()
                steps = None if total_timesteps is None else total_timesteps - self.num_timesteps
                finished, go_on = self._steps(steps, callbacks if every_step else None)
                if finished:
                    self._log((self.num_timesteps - before) / (time.perf_counter() - started))
                    progress.show()
                    if not every_step:
                        go_on = callbacks.after_round()
                if not go_on:
                    break
                if finished:
                    self.keep(self.episodes)
        return self

    def _done(self, total_timesteps: int | None, episodes: int | None) -> bool:
        steps = total_timesteps is not None and self.num_timesteps >= total_timesteps
        return steps or (episodes is not None and self.episodes >= episodes)

    def open_episode(self) -> Running:
        """Begin the next episode, or return the one that is under way: what is seen, and what is done next.

        With `take_step` this is the loop of `learn` in the caller's hands, who may let time pass in between.
        """
        if self._running is None:
            self._running = self._begin()
        return self._running

    def take_step(self) -> Step:
        """Step once in the episode under way, or in a new one, and learn from it.

        Nothing is logged and no checkpoint is kept.

        Raises:
            UserError: When an episode's return or the learner's weights are no longer finite.
        """
        now = self.open_episode()
        self._running = None  # as in `_steps`
        with np.errstate(over="ignore", invalid="ignore"):
            step = self._advance(now)
        if not step.over:
            self._running = now
        return step

    def leave_episode(self, *, count: bool) -> None:
        """Give up the episode under way, if there is one.

        Args:
            count: Whether it counts as one of `episodes`, with the return that it has so far.
        """
        now, self._running = self._running, None
        if now is not None and count:
            self._end(now)

    def _begin(self) -> Running:
        observation, _ = self.env.reset(seed=int(self._starts.integers(2**31)))
        return Running(observation, self.first(observation))

    def _steps(self, limit: int | None, callbacks: Callbacks | None) -> tuple[bool, bool]:
        """Step to the end of the episode, or `limit` steps, or until a callback says stop.

        Returns:
            (Whether the episode ended, whether to go on.)
        """
        now = self._running or self._begin()
        self._running = None  # after an exception the episode is lost, not half a step of it repeated
        for _ in itertools.count() if limit is None else range(limit):
            if self.human is not None:
                self.human.shown(now.observation, now.action)
            if callbacks is not None:
                callbacks.before_round()
            step = self._advance(now)
            go_on = callbacks is None or callbacks.after_round(
                dones=np.array([step.over]),
                rewards=np.array([step.reward]),
                infos=[step.info],
                actions=np.array([self._first_action + step.action]),
                new_obs=stacked(step.after),
            )
            if step.over:
                return True, go_on
            if not go_on:
                self._running = now
                return False, False
        self._running = now
        return False, True

    def _advance(self, now: Running) -> Step:
        """Take the step that `now` stands before, learn from it, and let `now` stand before the next."""
        observation, action, guidance = now.observation, now.action, self.guidance
        after, paid, terminated, truncated, info = self.env.step(self._first_action + action)
        reward = float(paid)
        if self.human is not None:
            self.human.advance()
        if guidance is not None:
            training = self.human is not None and self.human.training
            guidance.step(observation, action, training=training)
        now.total += reward
        now.length += 1
        over = terminated or truncated
        if over:
            now.check(self.episodes + 1)
        following = self.next(observation, action, reward, after, terminated, truncated)
        now.observation = after
        self.num_timesteps += 1
        if over:
            self._end(now)
        else:
            assert following is not None  # as `next` promises
            now.action = following
        return Step(observation, action, reward, after, over, info)

    def _end(self, finished: Running) -> None:
        """Close an episode for everybody."""
        if self.human is not None:
            self.human.end_episode()
        if self.guidance is not None:
            self.guidance.end_episode()
        self.episodes += 1
        self.episode_returns.append(finished.total)
        self.episode_lengths.append(finished.length)

    def _log(self, steps_per_s: float) -> None:
        metrics = {
            "rollout/ep_rew": self.episode_returns[-1],
            "rollout/ep_rew_mean": float(np.mean(self.episode_returns[-WINDOW:])),
            "rollout/ep_len_mean": float(np.mean(self.episode_lengths[-WINDOW:])),
            "time/fps": steps_per_s,
            "time/episodes": float(self.episodes),
            "time/total_timesteps": float(self.num_timesteps),
        }
        for source in (self.guidance, self.human):
            metrics |= source.metrics() if source is not None else {}
        self.log(metrics | self.figures(), self.episodes)

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Choose an action for one observation or for a batch of them.

        Its random numbers are its own, so evaluating in between does not change the training.

        Args:
            observation: One observation of the environment's space, or B of them stacked.
            state: Unused.
            episode_start: Unused.
            deterministic: Without exploration.

        Returns:
            (actions in the environment's numbering, () or (B,) int64; None).
        """
        single, batch = separated(observation, self.env.observation_space)
        chosen = [self.decide(one, self._predicting, deterministic=deterministic) for one in batch]
        actions = self._first_action + np.array(chosen, dtype=np.int64)
        return (actions[0] if single else actions), None

    def save(self, path: str | Path) -> None:
        """Write a checkpoint folder; from an episode's end on, `restore` continues it bit for bit.

        An episode that is under way is not kept: a run continued from there begins a new one.
        """
        from textrl.learners.episodic_state import save

        save(self, path)

    def restore(self, path: str | Path) -> Self:
        """Continue from a checkpoint that `save` wrote.

        Raises:
            UserError: When the folder is damaged or belongs to other settings.
        """
        from textrl.learners.episodic_state import restore

        restore(self, path)
        self._running = None
        return self

    def generators(self) -> dict[str, np.random.Generator]:
        """Return the random generators that a checkpoint keeps, by name."""
        return {"actions": self.rng, "starts": self._starts, "predict": self._predicting}
