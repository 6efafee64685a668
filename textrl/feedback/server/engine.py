"""One session at work: a thread that applies stored events in order, and makes ticks when they are due.

The machine is touched by this thread only. An event comes here when it is in the log, so whatever the
machine has seen is there, and a fresh machine that is fed the log is in the same state. Whether the disk has
it yet is the acknowledgement's affair: a slow disk must not hold up frames.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from textrl.errors import UserError
from textrl.feedback.events import SERVER, Event, NewEvent, server_event
from textrl.feedback.machine import Machine
from textrl.feedback.server.clock import SessionClock
from textrl.feedback.server.hub import OWNERS, Client, Hub
from textrl.feedback.server.protocol import PROTOCOL, error
from textrl.feedback.store import GroupWriter, SessionInfo

_log = logging.getLogger(__name__)
#: Applied events between two digests of what was learnt.
DIGEST_EVERY = 1000
#: Seconds for which an event waits to be acknowledged before it is applied. A disk usually takes less, and
#: the work of applying it would hold the acknowledgement up; a slow disk must not hold up frames.
COURTESY_S = 0.005
#: Frames whose step is remembered, for events about them.
FRAMES = 4096


@dataclass
class Progress:
    """How far a session is.

    Attributes:
        seq: Of the last event applied.
        applied: Events applied.
        trainer: Who trains, once somebody has come.
        now_s: Session time of the last tick.
        finished: Whether the session has been ended.
    """

    seq: int = 0
    applied: int = 0
    trainer: str | None = None
    now_s: float | None = None
    finished: bool = False

    def take(self, event: Event, mode: str) -> None:
        """Count an event."""
        self.seq, self.applied = event.seq, self.applied + 1
        if event.kind == "joined" and self.trainer is None and mode != "rank":
            self.trainer = event.annotator
        elif event.kind == "tick":
            self.now_s = float(event.payload["now"])
        elif event.kind == "finished":
            self.finished = True


@dataclass(frozen=True)
class _Arrival:
    """A socket whose joining is stored."""

    event: Event
    client: Client


class Engine:
    """The thread of a session.

    Attributes:
        info: The session.
        hub: Its sockets.
        clock: Session time.
        progress: How far it is.
        failed: Why the machine cannot go on, as one sentence.
        present: Sockets of the trainer; without one, time stands still. The loop's thread sets it.
        steps: Frame -> step of the environment, for the events about it.
        admit: Puts an event into the form in which it is stored, or refuses it, where the machine wants to;
            from any thread.
    """

    def __init__(
        self,
        info: SessionInfo,
        machine: Machine,
        progress: Progress,
        writer: GroupWriter,
        hub: Hub,
        *,
        digest_every: int = DIGEST_EVERY,
    ) -> None:
        """Take over a machine that has applied everything up to `progress`."""
        self.info, self.hub, self.progress = info, hub, progress
        self.clock = SessionClock(progress.now_s)
        self.failed: str | None = None
        self.present = 0
        self.steps: dict[int, int] = {}
        self.admit: Callable[[NewEvent], NewEvent] | None = getattr(machine, "admit", None)
        self._machine, self._writer, self._digest_every = machine, writer, digest_every
        self._queue: SimpleQueue[tuple[Event, threading.Event | None] | _Arrival | None] = SimpleQueue()
        self._ticking = self._stopping = False
        self._ticked_s = 0.0
        self._due_unix_s = 0.0
        self._thread = threading.Thread(target=self._run, name=f"session {info.session}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Apply what is stored, write a last digest and end; the writer must still be there."""
        self._stopping = True
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()
        if self.failed is None and self.progress.applied:
            self._digest()
        self._machine.close()

    def wake(self) -> None:
        """Look again whether a tick is due."""
        self._queue.put(None)

    def stored(self, event: Event, acknowledged: threading.Event | None = None) -> None:
        """An event is in the log. From the writer's thread, in the order of seq.

        Args:
            event: The event.
            acknowledged: Set when its sender is told that it is on the disk; None where nobody waits.
        """
        self._queue.put((event, acknowledged))

    def arrived(self, event: Event, client: Client) -> None:
        """A socket's joining is stored. From the writer's thread."""
        self._queue.put(_Arrival(event, client))

    def submit(self, kind: str, payload: dict[str, Any], **more: Any) -> None:
        """Store an event of the server's own, and then apply it."""
        event = server_event(self.info.session, kind, payload, t_server=time.time(), **more)
        self._submit(event, self.stored)

    def _submit(self, event: NewEvent, then: Callable[[Event], None]) -> None:
        def called(outcome: Event | Exception) -> None:
            if isinstance(outcome, Exception):
                self._fail(f"The server's own event '{event.kind}' cannot be stored: {outcome}")
            else:
                then(outcome)

        self._writer.submit(event, called)

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=self._wait_s())
            except Empty:
                self._tick()
                continue
            if isinstance(item, _Arrival):
                self._apply(item.event)
                self._welcome(item)
            elif item is not None:
                event, acknowledged = item
                if acknowledged is not None:
                    acknowledged.wait(COURTESY_S)
                self._apply(event)
            elif self._stopping and self._queue.empty():
                return

    def _wait_s(self) -> float | None:
        """Return the seconds until a tick is due; None while none is."""
        if self._ticking or self._stopping or self.failed or self.progress.finished or not self.present:
            return None
        due = self._machine.due()
        return None if due is None else max(0.0, self._ticked_s + due - time.monotonic())

    def _tick(self) -> None:
        """Store a tick; it comes back through the queue."""
        monotonic_s, unix_s = time.monotonic(), time.time()
        now_s, due = self.clock.now(monotonic_s), self._machine.due()
        if now_s is None or due is None:
            return
        # From when it was due: lateness must not add up. A session that stood still does not catch up.
        in_step = monotonic_s - self._ticked_s < 4 * due
        self._ticked_s = self._ticked_s + due if in_step else monotonic_s
        self._due_unix_s = unix_s - (monotonic_s - self._ticked_s)
        self._ticking = True
        self.submit("tick", {"now": now_s})

    def _apply(self, event: Event) -> None:
        if event.kind == "tick":
            self._ticking = False
        # An event that was sent twice comes back as the stored one.
        if event.seq <= self.progress.seq or self.failed is not None:
            return
        try:
            messages = [dict(message) for message in self._machine.apply(event)]
            self._remember(event, messages)
            self.hub.publish(messages)
        except UserError as failure:
            self._fail(str(failure), event)
            return
        except Exception as failure:  # the machine's mistake must reach the page, not only a log
            _log.exception("session %s failed at event %d", self.info.session, event.seq)
            self._fail(f"The session cannot go on ({type(failure).__name__}: {failure}).", event)
            return
        self.progress.take(event, self.info.mode)
        if event.kind == "finished":
            self.hub.publish([{"type": "finished", "all": True}])
            self._digest()
        elif self.progress.applied % self._digest_every == 0:
            self._digest()

    def _remember(self, event: Event, messages: list[dict[str, Any]]) -> None:
        """Note which step a frame shows, and stamp it with the time at which it was due."""
        for message in messages:
            if message["type"] == "frame":
                frame = message["frame_id"]
                self.steps[frame] = message["env_step"]
                self.steps.pop(frame - FRAMES, None)
                message["t_server"] = self._due_unix_s if event.kind == "tick" else event.t_server

    def _welcome(self, arrival: _Arrival) -> None:
        client, failed = arrival.client, self.failed
        view: dict[str, Any] = {}
        if failed is None:
            try:
                view = dict(self._machine.view(client.annotator))
                # A name is not a proof: somebody else may join under the owner's.
                view = {key: value for key, value in view.items() if client.owner or key not in OWNERS}
            except Exception as failure:  # as in _apply
                _log.exception("session %s has no view", self.info.session)
                self._fail(f"The session cannot be shown ({type(failure).__name__}: {failure}).")
        welcome = {
            "type": "welcome",
            "protocol": PROTOCOL,
            "session": self.info.session,
            "mode": self.info.mode,
            "annotator": client.annotator,
            "role": client.role,
            "owner": client.owner,
            "shift_s": arrival.event.payload.get("shift_s", 0.0),
            "finished": self.progress.finished,
            "view": view,
        }
        messages = [welcome]
        if self.failed is not None:
            messages.append(error("machine_failed", self.failed))
        self.hub.welcome(client, messages)

    def _digest(self) -> None:
        payload = {
            "sha256": self._machine.digest(),
            "steps": self.progress.applied,
            "after": self.progress.seq,
        }
        event = server_event(self.info.session, "digest", payload, t_server=time.time(), annotator=SERVER)
        self._submit(event, self.stored)

    def _fail(self, sentence: str, event: Event | None = None) -> None:
        if self.failed is not None:
            return
        self.failed = " ".join(sentence.split())
        where = "" if event is None else f" (event {event.seq})"
        _log.error("session %s stopped%s: %s", self.info.session, where, self.failed)
        self.hub.publish([error("machine_failed", self.failed)])
