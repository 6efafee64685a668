"""What needs sb3-contrib at import: its algorithms with our mix-ins. Imported by the learners on use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sb3_contrib import ARS, QRDQN
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from torch import Tensor

from textrl.learners.sb3.policies import ChoosesWithBias, WithAdvice, biased
from textrl.learners.sb3.selection import GuidedSelection


class GuidedQRDQN(GuidedSelection, QRDQN):  # type: ignore[misc] # sb3-contrib is not type-checked here
    """QR-DQN with advice for its choices."""


class GuidedQRDQNPolicy(ChoosesWithBias, QRDQNPolicy):  # type: ignore[misc] # as above
    """QR-DQN's policy, whose greedy choice can be biased."""

    def action_values(self, obs: Tensor) -> Tensor:
        """Return Q, the mean of the quantiles, (B, A)."""
        values: Tensor = self.quantile_net(obs).mean(dim=1)
        return values


class BiasedMaskablePolicy(WithAdvice, MaskableActorCriticPolicy):  # type: ignore[misc] # as above
    """PPO's policy with action masks and action biasing; the mask has the last word."""

    combine = staticmethod(biased)


class _Stop(Exception):
    """Internal: a callback asked to stop."""


class StoppableARS(ARS):  # type: ignore[misc] # as above
    """ARS that says when an update is done, listens to callbacks, and logs the environment's own returns.

    sb3-contrib's ignores a callback's False, logs the returns that it compares, which a shaped reward has
    changed, and counts N steps for each step of one of N copies.

    Attributes:
        after_update: Called when the weights have been updated.
    """

    after_update: Callable[[], None] | None = None

    def learn(self, total_timesteps: int, callback: Any = None, **rest: Any) -> StoppableARS:
        """Learn as `ARS.learn`; a callback that returns False ends it before the update under way."""
        try:
            super().learn(total_timesteps, callback=callback, **rest)
        except _Stop:
            callback.on_training_end()
        return self

    def _do_one_update(self, callback: Any, async_eval: Any) -> None:
        super()._do_one_update(callback, async_eval)
        if self.after_update is not None:
            self.after_update()

    def evaluate_candidates(self, candidate_weights: Tensor, callback: Any, async_eval: Any) -> Tensor:
        """Return the return of each candidate; the log's window begins anew."""
        self._own_episodes: list[dict[str, Any]] = []
        returns: Tensor = super().evaluate_candidates(candidate_weights, callback, async_eval)
        if self._own_episodes:
            self.ep_info_buffer = self._own_episodes
        return returns

    def _trigger_callback(
        self, _locals: dict[str, Any], _globals: dict[str, Any], callback: Any, n_envs: int
    ) -> None:
        self.num_timesteps += 1  # the call is about one copy
        info = _locals["info"]
        if "own_episode" in info:
            self._own_episodes.append(info["own_episode"])
        callback.update_locals(_locals)
        if not callback.on_step():
            raise _Stop
