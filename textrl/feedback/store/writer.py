"""One thread that stores events for everybody: all that wait are committed together.

Synchronising a disk takes milliseconds, however much is written, so that sharing it gives thousands of
durable events a second where one by one would give hundreds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from textrl.errors import UserError
from textrl.feedback.events import Event, NewEvent
from textrl.feedback.store.base import FeedbackStore, StoreError

_log = logging.getLogger(__name__)
Callback = Callable[[Event | Exception], None]
OnStorage = Callable[[bool, str], None]
#: Most events of one transaction: a bound on how long the first of them waits for the last.
MOST = 1_000
#: Seconds between attempts while the store cannot be written: the first, and the longest.
RETRY_S = (0.1, 1.0)


class GroupWriter:
    """Stores events in the order of `submit` and tells each sender when its event is on the disk.

    Callbacks run on the writer's thread in the order of seq, and must be quick; an event whose uuid was
    there already is given as it is stored, so that its seq may be an earlier one.
    """

    def __init__(self, store: FeedbackStore, on_storage: OnStorage | None = None) -> None:
        """Start the thread.

        Args:
            store: Where to. Nobody else may append to it.
            on_storage: Told (False, why) as soon as a commit fails, and (True, "") when one succeeds again.
        """
        self._store = store
        self._on_storage = on_storage or (lambda ok, sentence: None)
        self._waiting: deque[tuple[NewEvent, Callback]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._give_up_at = float("inf")  # monotonic seconds
        self._ok = True
        self._thread = threading.Thread(target=self._run, name="textrl-store", daemon=True)
        self._thread.start()

    @property
    def ok(self) -> bool:
        """Whether the last commit succeeded."""
        return self._ok

    def submit(self, event: NewEvent, callback: Callback) -> None:
        """Queue an event.

        Args:
            event: What to store.
            callback: Gets the stored event, or why it can never be stored.

        Raises:
            StoreError: When the writer was closed.
        """
        with self._wake:
            if self._closing:
                raise StoreError("The store is being closed; nothing more can be stored in it.")
            self._waiting.append((event, callback))
            self._wake.notify()

    def close(self, timeout_s: float = 10.0) -> None:
        """Store what waits and end the thread.

        Args:
            timeout_s: How long to keep trying where the store cannot be written; what then still waits is
                told so.
        """
        with self._wake:
            self._closing = True
            self._give_up_at = min(self._give_up_at, time.monotonic() + timeout_s)
            self._wake.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closing:
                    self._wake.wait()
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST))]
            if not group:
                return
            self._settle(group)

    def _settle(self, group: Sequence[tuple[NewEvent, Callback]]) -> None:
        """Commit a group, however often it takes."""
        pause = RETRY_S[0]
        while True:
            try:
                done: list[Event | Exception] = list(self._store.append([event for event, _ in group]))
            except StoreError as error:
                self._tell(False, str(error))
                if self._rest(pause):
                    done = [error] * len(group)
                else:
                    pause = min(2 * pause, RETRY_S[1])
                    continue
            except Exception as error:
                if len(group) > 1:
                    # One of them can never be stored; which, and that the others are, shows one by one.
                    for one in group:
                        self._settle([one])
                    return
                if not isinstance(error, UserError):
                    _log.exception("An event could not be stored")
                done = [error]
            else:
                self._tell(True, "")
            break
        for (event, callback), outcome in zip(group, done, strict=True):
            self._call(callback, _own(event, outcome))

    def _rest(self, seconds: float) -> bool:
        """Wait before the next attempt; return whether to give up instead."""
        left = self._give_up_at - time.monotonic()
        with self._wake:
            if left <= 0:
                return True
            # close() notifies, and so does submit(): only the time counts here.
            self._wake.wait_for(lambda: self._closing, timeout=min(seconds, left))
        if self._closing:
            time.sleep(max(0.0, min(RETRY_S[0], self._give_up_at - time.monotonic())))
        return False

    def _tell(self, ok: bool, sentence: str) -> None:
        if ok == self._ok:
            return
        self._ok = ok
        try:
            self._on_storage(ok, sentence)
        except Exception:
            _log.exception("Telling that the store %s failed", "works again" if ok else "fails")

    def _call(self, callback: Callback, outcome: Event | Exception) -> None:
        try:
            callback(outcome)
        except Exception:
            # One sender's mistake must not keep the others' events from being stored.
            _log.exception("The callback of a stored event failed")


def _own(event: NewEvent, outcome: Event | Exception) -> Event | Exception:
    """Refuse a uuid that somebody else used before: acknowledging it would lose this event."""
    if isinstance(outcome, Exception):
        return outcome
    mine = (event.session, event.annotator, event.kind)
    theirs = (outcome.session, outcome.annotator, outcome.kind)
    if mine != theirs:
        return UserError(f"The uuid '{event.uuid[:64]}' belongs to another event; make a fresh one for each.")
    return outcome
