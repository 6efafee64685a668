"""What a person sees while a learner on control trains: a bar, the time left, the mean return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol


class Counting(Protocol):
    """What the bar reads of a learner."""

    label: ClassVar[str]
    num_timesteps: int
    episodes: int

    @property
    def metrics(self) -> Mapping[str, float]:
        """What was logged last."""
        ...


class EpisodeBar:
    """A rich progress bar over episodes or environment steps, or nothing."""

    def __init__(self, enabled: bool, learner: Counting, steps: int | None, episodes: int | None) -> None:
        self.enabled, self.learner, self.by_episode = enabled, learner, episodes is not None
        self.total = episodes if episodes is not None else steps

    def __enter__(self) -> EpisodeBar:
        if self.enabled:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn(self.learner.label),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[say]}"),
            )
            self.bar.start()
            self.job = self.bar.add_task("", total=self.total, completed=self._at(), say="")
        return self

    def __exit__(self, *error: object) -> None:
        if self.enabled:
            self.bar.update(self.job, completed=self._at())
            self.bar.stop()

    def _at(self) -> int:
        return self.learner.episodes if self.by_episode else self.learner.num_timesteps

    def show(self) -> None:
        """Move the bar to where the learner is."""
        if self.enabled:
            mean = self.learner.metrics.get("rollout/ep_rew_mean")  # unknown before an episode has ended
            say = "" if mean is None else f"return {mean:.1f}"
            self.bar.update(self.job, completed=self._at(), say=say)
