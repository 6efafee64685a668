"""What both tasks can show: a line of text always, pictures where pygame is installed."""

from __future__ import annotations

import importlib.util
from typing import Any

WIDTH = 61  # odd, so that the middle of a track has a column of its own


def metadata(frames_per_second: int) -> dict[str, Any]:
    """Return an environment's metadata; Gymnasium draws its pictures with pygame, an extra of its own."""
    pictures = ["human", "rgb_array"] if importlib.util.find_spec("pygame") else []
    return {"render_modes": ["ansi", *pictures], "render_fps": frames_per_second}


def track(position: float, low: float, high: float, mark: str, goal: float | None = None) -> str:
    """Return a line with `mark` at `position` and a flag at `goal`, all in metres."""
    cells = ["-"] * WIDTH
    for place, sign in ((goal, "F"), (position, mark)):
        if place is not None:
            column = round((place - low) / (high - low) * (WIDTH - 1))
            cells[min(max(column, 0), WIDTH - 1)] = sign
    return "".join(cells)
