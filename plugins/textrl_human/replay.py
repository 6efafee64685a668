"""A recorded session as feedback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textrl.protocols import Signal
from textrl.tamer.log import read_log
from textrl_human.settings import ReplaySettings
from textrl_human.tamerproject import is_tamerproject_log, read_tamerproject_log


class Replay:
    """Gives what a person did in a recorded session, at the times at which they did it.

    Played beside the same learner, environment and seeds it teaches the same H bit for bit. To replay what
    was shown as well, without an environment, hand `events` to ``Tamer.observe``.

    Attributes:
        events: The whole log.
    """

    def __init__(self, settings: ReplaySettings) -> None:
        """Read the log.

        Raises:
            UserError: When it cannot be read, or a line is wrong; names file and line.
        """
        path = Path(settings.path)
        self.events = read_tamerproject_log(path) if is_tamerproject_log(path) else read_log(path)
        # What the schedule did is not the person's: the session in which this is replayed has its own.
        self._given = [
            signal
            for signal in self.events
            if signal.kind in ("press", "training") and signal.payload.get("by") != "schedule"
        ]
        self._next = 0

    def poll(self, now_s: float) -> Sequence[Signal]:
        """Return presses and switches up to `now_s` that were not returned before, oldest first."""
        begin = self._next
        while self._next < len(self._given) and self._given[self._next].time_s <= now_s:
            self._next += 1
        return self._given[begin : self._next]

    def state_dict(self) -> dict[str, Any]:
        """Return how far the replay is."""
        return {"next": self._next}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._next = int(state["next"])
