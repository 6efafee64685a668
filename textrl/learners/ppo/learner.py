"""The loop: step the copies, judge, update, log, keep checkpoints, until the steps are used up."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from textrl import checkpoint, streams
from textrl.errors import UserError
from textrl.learners.callbacks import Callback, Callbacks
from textrl.learners.episode_bar import EpisodeBar
from textrl.learners.ppo.networks import ActorCritic
from textrl.learners.ppo.segments import Segments, Stepper, judge
from textrl.learners.ppo.settings import PPOSettings
from textrl.learners.ppo.update import Updater
from textrl.learners.sb3.advice import check_parts
from textrl.learners.sb3.environments import Environments
from textrl.learners.surface import LearnerSurface, check_same_settings
from textrl.settings import to_plain
from textrl.specs import LearnerSpec
from textrl.training_state import pack_optimizer, unpack_optimizer

#: `rollout/ep_rew_mean` is the mean over this many episodes, as in Stable-Baselines3.
WINDOW = 100


class PPO(LearnerSurface):
    """PPO with a small network, in environments of vectors and discrete actions.

    Its advantages and losses are the functions that train language models in `ppo_ptx`; here they are
    checked against Stable-Baselines3 (``tests/ppo_core``). It runs on a CPU, and leaves torch's global
    random generator alone: initialisation, actions and the order of the data are keyed by the seed.

    Attributes:
        environments: The copies that are stepped.
        network: Policy and value network.
        updater: The optimizer and what it does.
        iteration: Updates so far.
        episodes: Episodes finished so far.
    """

    label: ClassVar[str] = "ppo"
    settings_class: ClassVar[type[Any]] = PPOSettings
    takes_person: ClassVar[bool] = False  # a config with a section ``human:`` is refused at once
    counts_episodes: ClassVar[bool] = False  # and a length in episodes

    def __init__(
        self,
        env: Any,
        settings: PPOSettings,
        *,
        human: Any = None,
        rewards: Any = None,
        checkpoint_dir: Path | None = None,
    ) -> None:
        """Copy the environment and make the networks.

        Args:
            env: A Gymnasium environment, its id, or a `VecEnv` of SB3's with `n_envs` members. Where
                `n_envs` is above 1 the other copies are made from its id.
            settings: Every knob.
            human: Refused: no person stands beside this learner.
            rewards: Refused unless empty: rewards come from the environment.
            checkpoint_dir: Where checkpoints go; None keeps none.

        Raises:
            UserError: When the environment cannot be copied, or its observations are no vectors of numbers
                or its actions are not discrete.
        """
        super().__init__(env, settings, checkpoint_dir)
        check_parts(self.spec(), human, rewards)
        self.environments = Environments(env, settings.n_envs, lambda tape: tape)
        vec = self.environments.vec
        observed, actions = _sizes(vec.observation_space, vec.action_space)
        self._first_action = int(vec.action_space.start)
        self.network = ActorCritic(observed, actions, settings.net_arch, settings.seed)
        self.updater = Updater(self.network, settings)
        self.stepper = Stepper(self.environments, self._first_action, settings.seed)
        self._seed_environments()
        self.iteration = self.episodes = 0
        self._recent: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._predicting = torch.Generator().manual_seed(
            int(streams.stream(settings.seed, streams.PREDICTIONS).integers(2**63))
        )

    @classmethod
    def spec(cls) -> LearnerSpec:
        """Return the learner's record."""
        from textrl.builtin import textrl_learners

        return next(spec for spec in textrl_learners() if spec.name == cls.label)

    def get_env(self) -> Any:
        """Return the vector environment that is trained in; stepping it disturbs the training."""
        return self.environments.vec

    def get_vec_normalize_env(self) -> Any:
        """Return the `VecNormalize` among the wrappers of a vector environment that was given, or None.

        Its statistics are its owner's: checkpoints do not hold them.
        """
        return unwrap_vec_normalize(self.environments.vec)

    def learn(
        self,
        total_timesteps: int | None = None,
        callback: Callback = None,
        progress_bar: bool = False,
        *,
        episodes: int | None = None,
    ) -> Self:
        """Train until `num_timesteps` has grown to `total_timesteps`; whole updates may exceed it.

        Linear schedules follow `total_timesteps`, so a resume repeats a run only if both are asked for the
        same number.

        Args:
            total_timesteps: Environment steps over all copies, counted from the beginning of the run.
            callback: SB3's callback objects, called at every step of the copies, or a function of the
                learner, called after every update; returning False stops. A segment that is stopped is
                not learnt from.
            progress_bar: Show progress and the time left.
            episodes: Refused: schedules need a number of steps.

        Raises:
            UserError: When `total_timesteps` is missing, or a reward, a loss or a gradient is not finite.
        """
        if total_timesteps is None or episodes is not None:
            raise UserError("The learner 'ppo' counts in steps; give total_timesteps, not episodes.")
        every_step = isinstance(callback, Sequence) or hasattr(callback, "on_step")
        bar = EpisodeBar(progress_bar, self, total_timesteps, None)
        with bar as progress, Callbacks(callback, self) as callbacks:
            while self.num_timesteps < total_timesteps:
                started = time.perf_counter()
                segments = self._collect(callbacks if every_step else None)
                if segments is None:
                    break
                self._update(segments, total_timesteps, started)
                progress.show()
                if not every_step and not callbacks.after_round():
                    break
                self.keep(self.iteration)
        return self

    def _collect(self, callbacks: Callbacks | None) -> Segments | None:
        """Step the copies, and count; None where a callback says stop."""
        copies = self.settings.n_envs
        before = self.num_timesteps // copies

        def after_step(seen: dict[str, Any]) -> bool:
            self.num_timesteps += copies
            finished = [info["episode"] for info in seen["infos"] if "episode" in info]
            self._recent.extend((float(episode["r"]), float(episode["l"])) for episode in finished)
            self.episodes += len(finished)
            if callbacks is None:
                return True
            callbacks.before_round()
            return callbacks.after_round(**seen)

        return self.stepper.collect(self.network, self.settings.n_steps, before, after_step)

    def _update(self, segments: Segments, total_timesteps: int, started: float) -> None:
        """Judge, train and log."""
        collected = time.perf_counter()
        experience = judge(self.network, segments, self.settings)
        remaining = max(0.0, 1.0 - self.num_timesteps / total_timesteps)
        metrics = self.updater.update(experience, self.iteration, remaining)
        finished = time.perf_counter()
        self.iteration += 1
        if self._recent:
            returns, lengths = zip(*self._recent, strict=True)
            metrics["rollout/ep_rew_mean"] = float(np.mean(returns))
            metrics["rollout/ep_len_mean"] = float(np.mean(lengths))
        metrics |= {
            "time/fps": segments.actions.numel() / (finished - started),
            "time/collect_s": collected - started,
            "time/update_s": finished - collected,
            "time/episodes": float(self.episodes),
            "time/total_timesteps": float(self.num_timesteps),
        }
        self.log(metrics, self.iteration)

    @torch.no_grad()
    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Choose an action for one observation or for a batch of them.

        Its random numbers are its own, so evaluating in between does not change the training.

        Args:
            observation: (S,) or (B, S).
            state: Unused.
            episode_start: Unused.
            deterministic: Take the most probable action.

        Returns:
            (actions in the environment's numbering, () or (B,) int64; None).
        """
        given = np.asarray(observation)
        logprobs = self.network.policy(torch.as_tensor(np.atleast_2d(given), dtype=self.network.dtype))
        if deterministic:
            chosen = logprobs.argmax(-1)
        else:
            chosen = torch.multinomial(logprobs.exp(), 1, generator=self._predicting).squeeze(1)
        actions = self._first_action + chosen.numpy()
        return (actions[0] if given.ndim == 1 else actions), None

    def save(self, path: str | Path) -> None:
        """Write a checkpoint folder from which `restore` continues bit for bit, between two updates.

        It holds the networks, the optimizer, the counters, and how each copy's episode began and what was
        done in it. Episodes are replayed, so this holds for environments that draw from `np_random` alone,
        as Gymnasium's do; where a replay does not arrive, the log says so and new episodes begin. What was
        collected of a segment that a callback stopped or saved in the middle of is lost, and so are the
        random numbers of `predict`.
        """
        tensors = {"network": dict(self.network.state_dict())}
        state: dict[str, Any] = {
            "num_timesteps": self.num_timesteps,
            "iteration": self.iteration,
            "episodes": self.episodes,
            "recent": [list(episode) for episode in self._recent],
        }
        tensors["optimizer"], state["optimizer"] = pack_optimizer(self.updater.optimizer)
        tapes = self.environments.tapes_state()
        if tapes is not None and self.stepper.observation is not None:
            state["starts"], arrays = tapes
            tensors["tapes"] = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
            tensors["seen"] = {"observation": torch.from_numpy(self.stepper.observation.copy())}
        checkpoint.save(path, config=to_plain(self.settings), tensors=tensors, state=state)

    def restore(self, path: str | Path) -> Self:
        """Continue from a checkpoint that `save` wrote.

        Raises:
            UserError: When the folder is damaged, or belongs to other settings or another environment.
        """
        loaded = checkpoint.load(path)
        check_same_settings(path, loaded.config, self.settings)
        weights = loaded.tensors["network"]
        shapes = {name: tensor.shape for name, tensor in self.network.state_dict().items()}
        if shapes != {name: tensor.shape for name, tensor in weights.items()}:
            raise UserError(f"{path} belongs to an environment with other spaces; resume in the same one.")
        self.network.load_state_dict(weights)
        unpack_optimizer(
            self.updater.optimizer, loaded.tensors.get("optimizer", {}), loaded.state["optimizer"]
        )
        self.num_timesteps = loaded.state["num_timesteps"]
        self.iteration, self.episodes = loaded.state["iteration"], loaded.state["episodes"]
        self._recent = deque(((r, length) for r, length in loaded.state["recent"]), maxlen=WINDOW)
        self._continue_episodes(loaded)
        return self

    def _continue_episodes(self, loaded: checkpoint.Checkpoint) -> None:
        """Bring the copies to where they were, or begin new episodes."""
        self.stepper.observation = None
        if "starts" in loaded.state:
            arrays = {name: tensor.numpy().copy() for name, tensor in loaded.tensors["tapes"].items()}
            if self.environments.replay(loaded.state["starts"], arrays):
                self.stepper.observation = loaded.tensors["seen"]["observation"].numpy().copy()
                # Their first seeds were for the first reset, which lies behind them now.
                self.environments.vec._reset_seeds()
                return
        self._seed_environments()

    def _seed_environments(self) -> None:
        # Runs with neighbouring seeds share no start states, and episodes that begin anew in the middle of
        # a run have other seeds than its first ones: the third number of the key is 0 at its beginning.
        random = np.random.default_rng([self.settings.seed, streams.STARTS, self.num_timesteps])
        self.environments.vec.seed(int(random.integers(2**31 - self.settings.n_envs)))


def _sizes(observations: Any, actions: Any) -> tuple[int, int]:
    """Return (S, A).

    Raises:
        UserError: When the spaces are of another kind.
    """
    if not (isinstance(observations, spaces.Box) and len(observations.shape) == 1):
        raise UserError(
            f"The learner 'ppo' needs observations that are vectors of numbers, not {observations}; "
            "use 'sb3/ppo' for others, or 'ppo_ptx' for text."
        )
    if not isinstance(actions, spaces.Discrete):
        raise UserError(f"The learner 'ppo' needs a Discrete action space, not {actions}; use 'sb3/ppo'.")
    return int(observations.shape[0]), int(actions.n)
