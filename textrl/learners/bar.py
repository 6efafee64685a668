"""What a person sees while a learner trains: a bar, the time left, and a few words about how it goes."""

from __future__ import annotations

from collections.abc import Callable


class Bar:
    """A rich progress bar, or nothing."""

    def __init__(self, enabled: bool, label: str, total: int | None, at: Callable[[], int]) -> None:
        """Describe the bar.

        Args:
            enabled: Whether anything is shown.
            label: Of the learner.
            total: Where the bar ends.
            at: Where the learner is, in the same unit.
        """
        self.enabled, self.label, self.total, self.at = enabled, label, total, at

    def __enter__(self) -> Bar:
        if self.enabled:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn(self.label),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[say]}"),
            )
            self.bar.start()
            self.job = self.bar.add_task("", total=self.total, completed=self.at(), say="")
        return self

    def __exit__(self, *error: object) -> None:
        if self.enabled:
            self.bar.update(self.job, completed=self.at())
            self.bar.stop()

    def show(self) -> None:
        """Move the bar to where the learner is."""
        if self.enabled:
            self.bar.update(self.job, completed=self.at(), say=self.say())

    def say(self) -> str:
        """Return the words beside the bar; asked for only where something is shown."""
        return ""
