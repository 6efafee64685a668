"""A person at a keyboard: presses are stamped when they happen and wait in a queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textrl.protocols import Signal
from textrl.tamer.human import WallClock
from textrl_human.settings import RealtimeSettings


class Realtime:
    """Takes presses from any thread; a window, a terminal or a web page calls `press` or `key`.

    Attributes:
        clock: The wall's clock, for `textrl.tamer.human.Human`; presses are stamped on it.
    """

    live: ClassVar[bool] = True

    def __init__(self, settings: RealtimeSettings) -> None:
        """Begin with an empty queue."""
        self.clock = WallClock()
        self._values = settings.values()
        self._toggle = settings.toggle
        self._lock = threading.Lock()
        self._waiting: deque[Signal] = deque()

    def press(self, value: float) -> None:
        """The person gives `value` now."""
        self._add("press", float(value))

    def train(self, on: bool | None = None) -> None:
        """The person switches training on or off now; None switches it over, whatever it is."""
        self._add("training", float(bool(on)), {"toggle": True} if on is None else {})

    def key(self, character: str) -> bool:
        """The person presses a key; returns whether it means anything."""
        if character == self._toggle:
            self.train()
            return True
        if character in self._values:
            self.press(self._values[character])
            return True
        return False

    def poll(self, now_s: float) -> Sequence[Signal]:
        """Return what was done up to `now_s` and not returned before, oldest first."""
        given = []
        with self._lock:
            while self._waiting and self._waiting[0].time_s <= now_s:
                given.append(self._waiting.popleft())
        return given

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: a press that was not heard when the session was saved is not part of it."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Forget what was pressed before the session went on: it was stamped at another time."""
        with self._lock:
            self._waiting.clear()

    def _add(self, kind: str, value: float, payload: Mapping[str, Any] | None = None) -> None:
        # Stamped under the lock, so that the queue is in the order of its stamps.
        with self._lock:
            now_s = self.clock.now_s
            self._waiting.append(Signal(kind=kind, value=value, time_s=now_s, payload=payload or {}))
