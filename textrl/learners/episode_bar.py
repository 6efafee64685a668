"""The progress bar of a learner on control: the mean return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from textrl.learners.bar import Bar


class Counting(Protocol):
    """What the bar reads of a learner."""

    label: ClassVar[str]
    num_timesteps: int
    episodes: int

    @property
    def metrics(self) -> Mapping[str, float]:
        """What was logged last."""
        ...


class EpisodeBar(Bar):
    """Counts episodes or environment steps."""

    def __init__(self, enabled: bool, learner: Counting, steps: int | None, episodes: int | None) -> None:
        self.learner = learner
        super().__init__(
            enabled,
            learner.label,
            steps if episodes is None else episodes,
            lambda: learner.num_timesteps if episodes is None else learner.episodes,
        )

    def say(self) -> str:
        """Return the mean return, unknown before an episode has ended."""
        mean = self.learner.metrics.get("rollout/ep_rew_mean")
        return "" if mean is None else f"return {mean:.1f}"
