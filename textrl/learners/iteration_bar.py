"""The progress bar of a language model's learner: the reward and the KL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from textrl.learners.bar import Bar


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


class IterationBar(Bar):
    """Counts iterations or tokens."""

    def __init__(self, enabled: bool, learner: Iterating, tokens: int | None, iterations: int | None) -> None:
        self.learner = learner
        super().__init__(
            enabled and learner.writes,
            learner.label,
            tokens if iterations is None else iterations,
            lambda: learner.num_timesteps if iterations is None else learner.iteration,
        )

    def say(self) -> str:
        """Return the last iteration's reward and KL."""
        m = self.learner.metrics
        return f"reward {m['reward/total']:.2f}  KL {m['train/kl_ref']:.2f} nats"
