"""The thread that waits for the disk, so that nothing else has to."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from textrl.feedback.events import Event
from textrl.feedback.store.base import FeedbackStore
from textrl.feedback.store.worker import RETRY_S, Worker

T = TypeVar("T")
_log = logging.getLogger(__name__)
Durable = Callable[[Event], None]
Answer = Callable[[Event | Exception | None], None]
#: Seconds after which the disk is synchronised although nobody waits for it: ticks, and a session's end.
QUIET_S = 0.5


class Syncer(Worker):
    """Tells senders that their events are on the disk: all that wait share one synchronisation."""

    def __init__(self, store: FeedbackStore, tell: Callable[[str | None], None]) -> None:
        """Start the thread.

        Args:
            store: What to synchronise.
            tell: Told after each attempt why it failed; None after one that did not.
        """
        super().__init__("textrl-sync")
        self._store, self._tell = store, tell
        self._waiting: list[tuple[Event, Durable]] = []
        self._asked: list[tuple[str, Answer]] = []
        self._logged = False  # whether anything was, since the disk was synchronised
        self._thread.start()

    def logged(self, waiting: Sequence[tuple[Event, Durable]]) -> None:
        """Events are in the log; these of them are to be told of, in their order."""
        with self._wake:
            self._logged = True
            self._waiting += waiting
            self._wake.notify()

    def ask(self, uuid: str, answer: Answer) -> None:
        """Look up what is stored under a uuid.

        Args:
            uuid: The event's.
            answer: Gets the event when it is on the disk, None where there is none, or why nobody can tell.
        """
        with self._wake:
            self._asked.append((uuid, answer))
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._logged or self._asked or self._closing)
                self._wake.wait_for(lambda: self._waiting or self._asked or self._closing, timeout=QUIET_S)
                waiting, self._waiting = self._waiting, []
                asked, self._asked = self._asked, []
                logged, self._logged = self._logged or bool(asked), False
                closing = self._closing
            found = [(answer, self._found(uuid)) for uuid, answer in asked]
            if logged and not self._synchronised():
                return
            for event, durable in waiting:
                _call(durable, event)
            for answer, outcome in found:
                _call(answer, outcome)
            if closing:
                return

    def _found(self, uuid: str) -> Event | Exception | None:
        try:
            return self._store.find(uuid)
        except (
            Exception
        ) as error:  # the answer says so; others' acknowledgements must not end with this thread
            return error

    def _synchronised(self) -> bool:
        """Synchronise the disk, however often it takes; return whether it succeeded before the end."""
        pause = RETRY_S[0]
        while True:
            try:
                self._store.sync()
            except Exception as error:  # whatever it is, nothing may be called durable
                self._tell(" ".join(str(error).split()))
                if self._rest(pause):
                    return False
                pause = min(2 * pause, RETRY_S[1])
            else:
                self._tell(None)
                return True


def _call(callback: Callable[[T], None], outcome: T) -> None:
    try:
        callback(outcome)
    except Exception:
        # One sender's mistake must not keep the others from hearing of theirs.
        _log.exception("The callback of a durable event failed")
