"""What a person sees while a grid of jobs runs: a bar, jobs done, the time left, what is under way."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

#: Where nobody watches a bar, one line every so many seconds.
_LINE_EVERY_S = 60.0


class Display:
    """A rich progress bar on stderr, weighted by what the jobs are expected to cost; a context manager."""

    def __init__(self, title: str, costs: Mapping[str, float], *, done: int = 0) -> None:
        """Make ready.

        Args:
            title: Beside the bar.
            costs: Job name -> expected cost, of the jobs that are to be done.
            done: Jobs that were finished before.
        """
        self._title, self._costs, self._before = title, dict(costs), done
        self._shares: dict[str, float] = {}
        self._finished = 0
        self._said_s = time.monotonic()
        self._progress: Any = None

    def __enter__(self) -> Display:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self._console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[now]}", markup=False),
            console=self._console,
            # Jobs differ in length a hundredfold, so the speed is that of the whole run.
            speed_estimate_period=1e9,
            disable=not self._console.is_terminal,
        )
        self._progress.start()
        self._task = self._progress.add_task(
            self._title, total=sum(self._costs.values()), count=self._count(), now=""
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def at(self, name: str, share: float) -> None:
        """A job has come so far, in [0, 1]."""
        self._shares[name] = share

    def finished(self, name: str) -> None:
        """A job is over."""
        self._shares[name] = 1.0
        self._finished += 1

    def tick(self) -> None:
        """Draw."""
        done = sum(self._costs[name] * share for name, share in self._shares.items())
        under_way = [f"{name} {share:.0%}" for name, share in self._shares.items() if share < 1]
        self._progress.update(self._task, completed=done, count=self._count(), now=", ".join(under_way[:2]))
        now_s = time.monotonic()
        if not self._console.is_terminal and now_s - self._said_s >= _LINE_EVERY_S:
            self._said_s = now_s
            share = done / (sum(self._costs.values()) or 1.0)
            self._console.print(f"{self._title}: {self._count()}, {share:.0%} of the work", markup=False)

    def _count(self) -> str:
        total = self._before + len(self._costs)
        return f"{self._before + self._finished}/{total} jobs"
