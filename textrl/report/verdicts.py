"""What a diagnosis rule is and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from textrl.report.reading import RunData, Stage

Level = Literal["alarm", "notice", "quiet"]


@dataclass(frozen=True)
class Verdict:
    """What a rule found, with the figures in it; `quiet` means that it found nothing wrong."""

    level: Level
    text: str


@dataclass(frozen=True)
class Finding:
    """A verdict under its rule's title, with the threshold it was held against."""

    level: Level
    title: str
    text: str
    threshold: str


#: A rule returns None when there is nothing for it to read.
StageRule = Callable[[Stage], Verdict | None]
RunRule = Callable[[RunData], Verdict | None]


def judged(bad: bool, level: Level, text: str) -> Verdict:
    """Return a verdict of `level` where something is `bad`, else a quiet one."""
    return Verdict(level if bad else "quiet", text)
