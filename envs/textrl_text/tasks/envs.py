"""The scalar and the vector environment of a text task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from textrl.rewards import RewardSum
from textrl_text.catalog import Difficulty
from textrl_text.scalar import TokenEnv
from textrl_text.tasks.arguments import Rewards, built_rewards
from textrl_text.tasks.base import TextTask
from textrl_text.tasks.facts import TaskFacts
from textrl_text.vector import TokenVectorEnv


class TextTaskEnv(TokenEnv):
    """A token environment whose task is known; each task documents its own.

    Attributes:
        recipe: What makes the task.
    """

    recipe: ClassVar[TextTask[Any]]

    def __init__(
        self,
        difficulty: Difficulty = "small",
        seed: int = 0,
        *,
        masks: bool = False,
        rewards: Rewards | None = None,
        first_episode: int = 0,
        episode_stride: int = 1,
        render_mode: str | None = None,
        **sizes: Any,
    ) -> None:
        """Make the task and its environment.

        Args:
            difficulty: ``tiny``, ``small`` or ``medium``.
            seed: Keys the order of the prompts.
            masks: Whether the task's rules close tokens.
            rewards: Paid beside the task's own.
            first_episode: See `TokenEnv`.
            episode_stride: See `TokenEnv`.
            render_mode: See `TokenEnv`.
            sizes: Of the task, where they are not the difficulty's.

        Raises:
            UserError: Where they do not make a task.
        """
        self.difficulty, self.masks, self.sizes = difficulty, masks, sizes
        task = self.recipe.make(difficulty, seed, masks=masks, rewards=_sum(rewards), **sizes)
        super().__init__(
            task, first_episode=first_episode, episode_stride=episode_stride, render_mode=render_mode
        )

    def facts(self) -> TaskFacts:
        """Return what is known about the task, its own rewards alone."""
        return self.recipe.facts(self.difficulty, masks=self.masks, **self.sizes)

    def policy(self, seed: int = 0) -> Path:
        """Return the folder of the language model that learning starts from.

        Args:
            seed: Draws the first weights, unless they are the prior's.
        """
        return self.recipe.policy(self.difficulty, seed, **self.sizes)

    def policy_label(self) -> str:
        """Return the name under which a config can give that language model."""
        sizes = {name: size for name, size in self.sizes.items() if size is not None}
        return self.recipe.policy_label(self.difficulty, sizes)


class TextTaskVectorEnv(TokenVectorEnv):
    """Many episodes of a text task at once; see the scalar environment and `TokenVectorEnv`.

    Attributes:
        recipe: What makes the task.
    """

    recipe: ClassVar[TextTask[Any]]

    def __init__(
        self,
        difficulty: Difficulty = "small",
        seed: int = 0,
        *,
        num_envs: int = 1,
        masks: bool = False,
        rewards: Rewards | None = None,
        render_mode: str | None = None,
        **sizes: Any,
    ) -> None:
        """Make N rows of the task; see `TextTaskEnv`."""
        task = self.recipe.make(difficulty, seed, masks=masks, rewards=_sum(rewards), **sizes)
        super().__init__(task, num_envs=num_envs, render_mode=render_mode)


def _sum(rewards: Rewards | None) -> RewardSum | None:
    return rewards if rewards is None or isinstance(rewards, RewardSum) else built_rewards(rewards)
