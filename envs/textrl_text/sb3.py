"""The token environment for Stable-Baselines3 and sb3-contrib.

    model = MaskablePPO(
        "MultiInputPolicy",
        TokenVecEnv(task, num_envs=8),
        policy_kwargs={"features_extractor_class": OneHotTokens},
    )

MaskablePPO stores float32 masks of the vocabulary's width: keep vocabularies small there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from textrl.errors import UserError
from textrl.mdp.task import TokenTask
from textrl_text.rows import EpisodeRows, Observation, token_spaces

try:
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise UserError(
        "TokenVecEnv needs Stable-Baselines3; run pip install stable-baselines3 in the environment."
    ) from error


class OneHotTokens(BaseFeaturesExtractor):  # type: ignore[misc]
    """One-hot tokens, zero where none stands: (B, L * V) features.

    SB3 feeds ids as numbers by default, though token 5 is not closer to 6 than to 50; a policy that must
    read the prompt then tends to stop at one answer for all prompts.
    """

    def __init__(self, observation_space: spaces.Dict) -> None:
        """Take the sizes from the space."""
        ids = observation_space["input_ids"]
        assert isinstance(ids, spaces.Box)
        self.vocab_size = int(ids.high.max()) + 1
        super().__init__(observation_space, features_dim=ids.shape[0] * self.vocab_size)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return (B, L * V) float32."""
        hot = torch.nn.functional.one_hot(observations["input_ids"].long(), self.vocab_size).float()
        return (hot * observations["attention_mask"].float().unsqueeze(-1)).flatten(1)


class TokenVecEnv(VecEnv):  # type: ignore[misc]
    """N rows of a token task behind SB3's own interface.

    SB3 resets in the same step: ``dones`` come with the next episode's first observation, and that
    row's info holds ``terminal_observation``, ``TimeLimit.truncated`` (always False: both ends of an
    episode belong to the task) and Monitor's ``episode`` record, so no Monitor is needed around it.
    Episodes are numbered as in `textrl_text.vector:TokenVectorEnv`.
    """

    def __init__(self, task: TokenTask, num_envs: int = 1, render_mode: str | None = None) -> None:
        """Make N rows; see `TokenTask` for everything else."""
        self.task = task
        self.rows = EpisodeRows(task, num_envs)
        self.render_mode = render_mode
        self._actions: Any = None
        self._returns = np.zeros(num_envs)
        self._started_s = np.zeros(num_envs)
        super().__init__(num_envs, *token_spaces(task))

    def reset(self) -> Observation:
        """Start an episode in every row; ``seed()`` before it starts numbering again."""
        if self._seeds[0] is not None:
            self.rows.reseed(self._seeds[0])
        self.rows.begin(range(self.num_envs), self._options[0].get("episode"))
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0
        self._started_s[:] = time.perf_counter()
        self.reset_infos = [self.rows.info(row) for row in range(self.num_envs)]
        return self.rows.observation()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Observation, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Write one token in every row."""
        lengths = self.rows.lengths + 1
        done = self.rows.step(self._actions)
        self._returns += done.rewards
        ended = [int(row) for row in np.flatnonzero(done.ended)]
        now_s = time.perf_counter()
        for info in done.infos:
            info["TimeLimit.truncated"] = False
        for row in ended:
            done.infos[row]["terminal_observation"] = self.rows.observation(row)
            done.infos[row]["episode"] = {
                "r": float(self._returns[row]),
                "l": int(lengths[row]),
                "t": now_s - self._started_s[row],
            }
        self.rows.begin(ended)
        self._returns[ended] = 0
        self._started_s[ended] = now_s
        for row in ended:
            self.reset_infos[row] = self.rows.info(row)
        return self.rows.observation(), done.rewards.astype(np.float32), done.ended.copy(), done.infos

    def action_masks(self, row: int) -> NDArray[np.bool_]:
        """Return which tokens one row may write next: (V,) bool."""
        return self.rows.action_mask(row)

    def render(self, mode: str | None = None) -> tuple[str, ...]:
        """Return the N texts."""
        return tuple(self.rows.text(row) for row in range(self.num_envs))

    def close(self) -> None:
        """Do nothing: there is nothing to let go of."""

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """Return an attribute, once per row: the rows share this object."""
        value = getattr(self, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Set an attribute for all rows."""
        setattr(self, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: int | Iterable[int] | None = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method with the number of each row."""
        method = getattr(self, method_name)
        return [method(row, *method_args, **method_kwargs) for row in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: int | Iterable[int] | None = None) -> list[bool]:
        """Say whether a wrapper's work is done; Monitor's is, by `step_wait`."""
        return [issubclass(Monitor, wrapper_class) for _ in self._get_indices(indices)]
