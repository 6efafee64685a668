"""What a person sees while PPO-ptx trains: a bar, the time left, the reward and the KL."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from textrl.learners.ppo_ptx.learner import PPOPTX


class IterationBar:
    """A rich progress bar over iterations or tokens, or nothing."""

    def __init__(self, enabled: bool, learner: PPOPTX, tokens: int | None, iterations: int | None) -> None:
        self.learner, self.by_iteration = learner, iterations is not None
        self.total = iterations if iterations is not None else tokens
        self.enabled = enabled and learner.accelerator.is_main_process

    def __enter__(self) -> IterationBar:
        if self.enabled:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("PPO-ptx"),
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
