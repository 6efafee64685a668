"""Stores events for everybody, in two steps, so that a session need not wait for the disk.

One thread numbers events and puts them into the log, all that wait in one transaction. From then on they
outlive the process, and the session goes on with them. Another has the disk synchronised, which takes
milliseconds however much is written, and now and then a second: only acknowledgements wait for that.
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
from textrl.feedback.store.syncer import Answer, Durable, Syncer
from textrl.feedback.store.worker import RETRY_S, Worker

_log = logging.getLogger(__name__)
Logged = Callable[[Event | Exception], None]
OnStorage = Callable[[bool, str], None]
#: Most events of one transaction: a bound on how long the first of them waits for the last.
MOST = 1_000


class GroupWriter(Worker):
    """Stores events in the order of `submit` and tells each sender when its event is logged, and when safe.

    Callbacks run in the order of seq, and must be quick; an event whose uuid was there already is given as
    it is stored, so that its seq may be an earlier one.
    """

    def __init__(self, store: FeedbackStore, on_storage: OnStorage | None = None) -> None:
        """Start the threads.

        Args:
            store: Where to. Nobody else may append to it.
            on_storage: Told (False, why) as soon as storing fails, and (True, "") when it succeeds again.
        """
        super().__init__("textrl-store")
        self._store = store
        self._on_storage = on_storage or (lambda ok, sentence: None)
        self._waiting: deque[tuple[NewEvent, Logged, Durable | None]] = deque()
        self._failing: dict[str, str] = {}  # which thread -> why
        self._telling = threading.Lock()
        self._syncer = Syncer(store, lambda why: self._tell("disk", why))
        self._thread.start()

    @property
    def ok(self) -> bool:
        """Whether the last attempts to store succeeded."""
        return not self._failing

    def submit(self, event: NewEvent, logged: Logged, durable: Durable | None = None) -> None:
        """Queue an event; the two callbacks come from two threads, usually in this order.

        Args:
            event: What to store.
            logged: Gets the stored event when it is in the log, where a process that is killed leaves it, or
                why it can never be stored.
            durable: Gets it when it is on the disk, where it outlives the machine's power. Never called for
                an event that could not be stored.

        Raises:
            StoreError: When the writer was closed.
        """
        with self._wake:
            if self._closing:
                raise StoreError("The store is being closed; nothing more can be stored in it.")
            self._waiting.append((event, logged, durable))
            self._wake.notify()

    def ask(self, uuid: str, answer: Answer) -> None:
        """Look up what is stored under a uuid.

        Args:
            uuid: The event's.
            answer: Gets the event when it is on the disk, None where there is none, or why nobody can tell.
        """
        self._syncer.ask(uuid, answer)

    def close(self, timeout_s: float = 10.0) -> None:
        """Store what waits and end the threads.

        Args:
            timeout_s: How long to keep trying where the store cannot be written; what then still waits is
                told so.
        """
        give_up_at = time.monotonic() + timeout_s
        self.join(give_up_at)
        self._syncer.join(give_up_at)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._closing)
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST))]
            if not group:
                return
            self._settle(group)

    def _settle(self, group: Sequence[tuple[NewEvent, Logged, Durable | None]]) -> None:
        """Commit a group, however often it takes."""
        pause = RETRY_S[0]
        while True:
            try:
                done: list[Event | Exception] = list(self._store.append([event for event, *_ in group]))
            except StoreError as error:
                self._tell("log", str(error))
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
                self._tell("log", None)
            break
        outcomes = [_own(event, outcome) for (event, *_), outcome in zip(group, done, strict=True)]
        pairs = zip(outcomes, (durable for *_, durable in group), strict=True)
        kept = [(one, durable) for one, durable in pairs if isinstance(one, Event)]
        if kept:
            self._syncer.logged([(event, durable) for event, durable in kept if durable])
        for (_, logged, _), outcome in zip(group, outcomes, strict=True):
            self._call(logged, outcome)

    def _tell(self, who: str, why: str | None) -> None:
        """Pass on that a thread fails, or works again, where that changes what people must know."""
        with self._telling:
            before = self.ok
            if why is None:
                self._failing.pop(who, None)
            else:
                self._failing[who] = why
            if self.ok == before:
                return
            try:
                self._on_storage(self.ok, why or "")
            except Exception:
                _log.exception("Telling that the store %s failed", "works again" if self.ok else "fails")

    def _call(self, logged: Logged, outcome: Event | Exception) -> None:
        try:
            logged(outcome)
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
