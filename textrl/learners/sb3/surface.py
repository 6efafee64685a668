"""What SB3's callbacks, loggers and `evaluate_policy` ask of a learner beside learning and choosing."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.utils import safe_mean
from stable_baselines3.common.vec_env import VecEnv

from textrl.advice.guidance import Guidance
from textrl.learners.sb3.advice import AdviceColumns
from textrl.learners.sb3.environments import Environments


class Surface:
    """The part of a learner that only looks at SB3's object and its environments."""

    algorithm: Any
    environments: Environments
    guidance: Guidance | None

    @property
    def num_timesteps(self) -> int:
        """Environment steps so far, over all copies."""
        return int(self.algorithm.num_timesteps)

    @property
    def iteration(self) -> int:
        """What metrics are counted in: environment steps."""
        return self.num_timesteps

    @property
    def policy(self) -> Any:
        """SB3's policy."""
        return self.algorithm.policy

    @property
    def logger(self) -> Any:
        """The SB3-compatible logger in use, or None."""
        return getattr(self.algorithm, "_logger", None)

    @property
    def metrics(self) -> dict[str, float]:
        """What the newest episodes show: the environment's own rewards, and the guidance."""
        episodes = list(self.algorithm.ep_info_buffer or [])
        found = {} if self.guidance is None else self.guidance.metrics()
        if episodes:
            found["rollout/ep_rew_mean"] = float(safe_mean([episode["r"] for episode in episodes]))
            found["rollout/ep_len_mean"] = float(safe_mean([episode["l"] for episode in episodes]))
        return found

    def set_logger(self, logger: Any) -> None:
        """Use an SB3-compatible logger."""
        self.algorithm.set_logger(logger)

    def get_env(self) -> VecEnv:
        """Return the vector environment that is trained in; stepping it disturbs the training."""
        return self.environments.vec

    def get_vec_normalize_env(self) -> Any:
        """Return the running statistics, an SB3 `VecNormalize`, or None."""
        return self.environments.normalize

    def evaluation_env(self, n_envs: int = 1) -> VecEnv:
        """Return copies of the environment to evaluate in, as `evaluate_policy` wants them.

        Rewards are the environment's own. Observations are normalised as in training, by statistics that
        evaluation does not change.
        """
        fresh = self.environments.fresh(n_envs)
        trained = self.environments.vec
        if not isinstance(trained, AdviceColumns):
            return fresh
        # SB3's EvalCallback compares the wrappers of both environments.
        return AdviceColumns(fresh, trained.guidance, trained.kind)
