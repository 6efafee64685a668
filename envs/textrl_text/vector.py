"""`TokenVectorEnv`: many episodes at once, scored together where they end together."""

from __future__ import annotations

from typing import Any, Unpack

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from textrl.errors import UserError
from textrl.mdp.task import TokenTask
from textrl_text.rows import EpisodeRows, Observation, check_options, token_spaces
from textrl_text.tasks import TaskArguments, task_from


class TokenVectorEnv(VectorEnv[Observation, NDArray[np.int64], NDArray[Any]]):
    """Write N texts, one token each a step.

    Observations, actions, rewards and episode ends are those of `textrl_text.scalar:TokenEnv`, with a
    leading axis of N.

    Autoreset is SAME_STEP: a row whose episode ends returns the first observation of its next episode,
    and the infos hold ``final_obs``, ``final_info`` and the masks ``_final_obs``, ``_final_info`` of
    those rows. Rows that end in one step are scored in one call of the rewards.

    Episodes are numbered over all rows: ``reset(seed=s)`` gives row i episode i, and a row that ends
    takes the next number that no row has had; rows that end together take theirs in row order. So the
    numbers that have been given out are always 0 ... n without a gap. ``reset()`` without a seed goes on
    counting; ``options={"episode": k}`` counts from k; ``options={"reset_mask": (N,) bool}`` restarts
    some rows only.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - as gymnasium declares it
        "render_modes": ["ansi"],
        "render_fps": 10,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        task: TokenTask | None = None,
        *,
        num_envs: int = 1,
        render_mode: str | None = None,
        **described: Unpack[TaskArguments],
    ) -> None:
        """Build N rows from a task or from the arguments that describe one.

        Raises:
            UserError: Where they do not make a task; see `textrl_text.tasks.make_task`.
        """
        self.task = task_from(task, described)
        self.rows = EpisodeRows(self.task, num_envs)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.single_observation_space, self.single_action_space = token_spaces(self.task)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode in every row, or in those of ``options["reset_mask"]``.

        Raises:
            UserError: On an unknown option or a mask of another shape or type.
        """
        super().reset(seed=seed)
        given = check_options(options, ["episode", "reset_mask"])
        rows = self._rows_to_reset(given.get("reset_mask"))
        if seed is not None:
            self.rows.reseed(seed)
        self.rows.begin(rows, given.get("episode"))
        infos: dict[str, Any] = {}
        for row in rows:
            infos = self._add_info(infos, self.rows.info(row), row)
        return self.rows.observation(), infos

    def _rows_to_reset(self, mask: Any) -> list[int]:
        if mask is None:
            return list(range(self.num_envs))
        if not isinstance(mask, np.ndarray) or mask.shape != (self.num_envs,) or mask.dtype != np.bool_:
            raise UserError(f"options['reset_mask'] must be a bool array of shape ({self.num_envs},).")
        if not mask.any():
            raise UserError("options['reset_mask'] is all False; give at least one row to reset.")
        return [int(row) for row in np.flatnonzero(mask)]

    def step(
        self, actions: NDArray[np.int64]
    ) -> tuple[Observation, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Write one token in every row."""
        done = self.rows.step(actions)
        infos: dict[str, Any] = {}
        finals = [int(row) for row in np.flatnonzero(done.ended)]
        for row in finals:
            final = {"final_obs": self.rows.observation(row), "final_info": done.infos[row]}
            infos = self._add_info(infos, final, row)
        self.rows.begin(finals)
        for row in range(self.num_envs):
            info = self.rows.info(row) if done.ended[row] else done.infos[row]
            infos = self._add_info(infos, info, row)
        return self.rows.observation(), done.rewards, done.ended, np.zeros_like(done.ended), infos

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which tokens each row may write next: (N, V) bool."""
        return np.stack([self.rows.action_mask(row) for row in range(self.num_envs)])

    def render(self) -> tuple[str, ...] | None:
        """Return the N texts."""
        if self.render_mode is None:
            gymnasium.logger.warn("render() shows nothing: build the environment with render_mode='ansi'.")
            return None
        return tuple(self.rows.text(row) for row in range(self.num_envs))
