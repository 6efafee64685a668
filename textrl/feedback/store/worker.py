"""A thread that works off what others hand it, and keeps trying while the disk does not let it."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod

#: Seconds between attempts while the store cannot be written: the first, and the longest.
RETRY_S = (0.1, 1.0)


class Worker(ABC):
    """A thread with a condition to wake it, and an end for which it does not wait for ever."""

    def __init__(self, name: str) -> None:
        """Make the thread; `_start` starts it."""
        self._wake = threading.Condition()
        self._closing = False
        self._give_up_at = float("inf")  # monotonic seconds
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def join(self, give_up_at: float) -> None:
        """Work off what waits and end the thread.

        Args:
            give_up_at: Monotonic seconds after which a failing attempt is the last.
        """
        with self._wake:
            self._closing = True
            self._give_up_at = min(self._give_up_at, give_up_at)
            self._wake.notify()
        self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """Work until `join`."""

    def _rest(self, seconds: float) -> bool:
        """Wait before the next attempt; return whether to give up instead."""
        left = self._give_up_at - time.monotonic()
        with self._wake:
            if left <= 0:
                return True
            # join() notifies, and so does who brings work: only the time counts here.
            self._wake.wait_for(lambda: self._closing, timeout=min(seconds, left))
        if self._closing:
            time.sleep(max(0.0, min(RETRY_S[0], self._give_up_at - time.monotonic())))
        return False
