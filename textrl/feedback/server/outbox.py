"""What waits to be sent to one socket: frames give way, acknowledgements do not."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

#: Kind -> how many may wait; when one more comes, the oldest of them is dropped. Each of these shows a whole
#: state that the next one replaces. Other kinds are never dropped.
KEEP: Mapping[str, int] = {"frame": 2, "map": 2, "panel": 2}


class Overflow(Exception):
    """The reader is so slow that even what must not be dropped has piled up."""


class Outbox:
    """A queue in order, bounded. Only the event loop's thread uses it.

    Attributes:
        dropped: Messages that gave way.
    """

    def __init__(self, limit_bytes: int) -> None:
        """Begin empty.

        Args:
            limit_bytes: Characters that may wait, those of droppable kinds apart.
        """
        self.dropped = 0
        self._limit = limit_bytes
        self._held = 0
        self._queue: deque[list[str | None]] = deque()  # [kind, text]; text None once dropped
        self._waiting: dict[str, deque[list[str | None]]] = {kind: deque() for kind in KEEP}
        self._some = asyncio.Event()

    def put(self, kind: str, text: str) -> None:
        """Add a message.

        Raises:
            Overflow: When too much waits that must not be dropped.
        """
        entry: list[str | None] = [kind, text]
        if kind in KEEP:
            line = self._waiting[kind]
            if len(line) >= KEEP[kind]:
                line.popleft()[1] = None
                self.dropped += 1
            line.append(entry)
        else:
            self._held += len(text)
            if self._held > self._limit:
                raise Overflow
        self._queue.append(entry)
        self._some.set()

    async def get(self) -> str:
        """Return the next message, when there is one."""
        while True:
            while self._queue:
                kind, text = self._queue.popleft()
                if text is None or kind is None:
                    continue
                if kind in KEEP:
                    self._waiting[kind].popleft()
                else:
                    self._held -= len(text)
                return text
            self._some.clear()
            await self._some.wait()
