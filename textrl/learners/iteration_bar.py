"""What a person sees while a language model trains: a bar, the time left, the reward and the KL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol


class Iterating(Protocol):
    """What the bar reads of a learner."""

    label: ClassVar[str]
    num_timesteps: int
    iteration: int

    @property
    def writes(self) -> bool:
        """Whether this process shows anything."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """What was logged last."""
        ...


class IterationBar:
    """A rich progress bar over iterations or tokens, or nothing."""

    def __init__(self, enabled: bool, learner: Iterating, tokens: int | None, iterations: int | None) -> None:
        self.learner, self.by_iteration = learner, iterations is not None
        self.total = iterations if iterations is not None else tokens
        self.enabled = enabled and learner.writes

    def __enter__(self) -> IterationBar:
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
            self.bar.stop()

    def _at(self) -> int:
        return self.learner.iteration if self.by_iteration else self.learner.num_timesteps

    def show(self) -> None:
        """Move the bar to where the learner is."""
        if self.enabled:
            m = self.learner.metrics
            say = f"reward {m['reward/total']:.2f}  KL {m['train/kl_ref']:.2f} nats"
            self.bar.update(self.job, completed=self._at(), say=say)
