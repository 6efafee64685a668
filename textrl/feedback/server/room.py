"""What sockets of one session share: its engine, its hub, who trains, and how an event gets into the log."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from textrl.errors import UserError
from textrl.feedback.events import BadEvent, Event, NewEvent, check_client_event, server_event
from textrl.feedback.server.engine import Engine
from textrl.feedback.server.hub import Bridge, Client
from textrl.feedback.server.limits import Limits
from textrl.feedback.server.protocol import Finish, Hello, Refused, Sent, error
from textrl.feedback.store import GroupWriter, StoreError
from textrl.feedback.store.syncer import Answer, Durable
from textrl.feedback.store.writer import Logged


class Room:
    """A session's door. Only the event loop's thread uses it.

    Attributes:
        engine: The session's.
    """

    def __init__(self, engine: Engine, writer: GroupWriter, bridge: Bridge, limits: Limits) -> None:
        """Open the door."""
        self.engine = engine
        self._writer, self._bridge, self._limits = writer, bridge, limits
        self._claimed: str | None = None

    @property
    def trainer(self) -> str | None:
        """Who trains: whoever came first, for the whole life of a session."""
        return self.engine.progress.trainer or self._claimed

    @property
    def session(self) -> str:
        """The session's name."""
        return self.engine.info.session

    @property
    def mode(self) -> str:
        """The session's mode."""
        return self.engine.info.mode

    def join(self, client: Client, hello: Hello, received_s: float) -> float:
        """Give a socket its role and store that it is there; the engine welcomes it then.

        Args:
            client: The socket.
            hello: What it said.
            received_s: Monotonic seconds.

        Returns:
            Seconds to add to the stamps of this page.
        """
        client.annotator, client.tab = hello.annotator, hello.client
        if self.mode == "rank":
            client.role = "owner" if client.owner else "annotator"
        elif self.trainer in (None, hello.annotator):
            self._claimed = client.annotator
            client.role = "trainer"
        else:
            client.role = "viewer"
        unix_s, shift_s = time.time(), 0.0
        if client.role == "trainer":
            shift_s = self.engine.clock.joined(hello.t, received_s, unix_s)
        joined = server_event(
            self.session,
            "joined",
            {"client": client.tab, "role": client.role, "shift_s": shift_s},
            t_server=unix_s,
            annotator=client.annotator,
            t_client=hello.t + shift_s,
        )

        def stored(outcome: Event | Exception) -> None:
            if isinstance(outcome, Event):
                self.engine.arrived(outcome, client)
            else:
                self._bridge.post(lambda: client.close(1011, "The joining cannot be stored."))

        self._submit(joined, stored)
        if client.role == "trainer":
            self.engine.present += 1
            self.engine.wake()
        return shift_s

    def leave(self, client: Client) -> None:
        """Forget a socket, and store that it is gone."""
        self.engine.hub.leave(client)
        if not client.role:
            return
        if client.role == "trainer":
            self.engine.present -= 1
        # While the server is closing, that everybody has left goes without saying.
        with contextlib.suppress(StoreError):
            self.engine.submit("left", {"client": client.tab}, annotator=client.annotator)

    def take(
        self, client: Client, sent: Sent, shift_s: float, received_s: float, done: Callable[[], None]
    ) -> None:
        """Check an event and store it; the acknowledgement follows when it is on the disk.

        Args:
            client: Whose it is.
            sent: The event.
            shift_s: Seconds to add to its stamps.
            received_s: Monotonic seconds.
            done: Called on the loop's thread when it is settled.

        Raises:
            Refused: With one sentence; nothing is stored then, and `done` is not called.
        """
        try:
            self._check_open(client, sent.uuid, sent.kind)
        except Refused as refusal:
            if refusal.code == "not_yours":
                raise
            # The session may have ended between the event and its acknowledgement, which a lost network ate.
            self._writer.ask(sent.uuid, self._asked(client, sent, refusal, done))
            return
        try:
            check_client_event(self.mode, sent.kind, sent.payload)
        except BadEvent as refusal:
            raise Refused(refusal.code, str(refusal), sent.uuid) from None
        t = sent.t + shift_s
        if client.role == "trainer":
            self._check_stamp(t, received_s, sent.uuid)
        payload = _shifted(sent, shift_s)
        event = NewEvent(
            uuid=sent.uuid,
            session=self.session,
            annotator=client.annotator,
            kind=sent.kind,
            t_client=t,
            t_server=time.time(),
            env_step=None if sent.frame_id is None else self.engine.steps.get(sent.frame_id),
            frame_id=sent.frame_id,
            payload=payload,
        )
        admit = self.engine.admit
        try:
            event = event if admit is None else admit(event)
        except BadEvent as refusal:
            raise Refused(refusal.code, str(refusal), sent.uuid) from None
        acknowledged = threading.Event()
        logged = self._logged(client, sent.uuid, acknowledged, done)
        self._submit(event, logged, self._acknowledge(client, acknowledged, done))

    def finish(self, client: Client, finish: Finish) -> None:
        """End the session.

        Raises:
            Refused: When this is not for the client to say, or has been said.
        """
        if client.role not in ("trainer", "owner") and not client.owner:
            raise Refused("not_yours", "Only the trainer or the owner can finish the session.")
        self._check_open(client, None)
        self.engine.submit("finished", {"by": client.annotator})

    def _check_open(self, client: Client, uuid: str | None, kind: str = "finish") -> None:
        # Whoever watches may take notes; the owner may end a session that somebody else trains.
        if client.role == "viewer" and kind != "note" and not (client.owner and kind == "finish"):
            raise Refused(
                "not_yours", f"You are watching; {self.trainer} is the trainer of this session.", uuid
            )
        if self.engine.failed is not None:
            raise Refused("machine_failed", self.engine.failed, uuid)
        if self.engine.progress.finished:
            raise Refused("bad_event", "The session is finished; nothing more is stored in it.", uuid)

    def _asked(self, client: Client, sent: Sent, refusal: Refused, done: Callable[[], None]) -> Answer:
        """Return what is called with what the log has under an event's uuid, when it takes no more events."""
        mine = (self.session, client.annotator, sent.kind)

        def answer(event: Event | Exception | None) -> None:
            if isinstance(event, Event) and (event.session, event.annotator, event.kind) == mine:
                self._acknowledge(client, threading.Event(), done)(event)
            elif isinstance(event, Exception):
                self._bridge.post(done)  # nobody can tell now: the client keeps it and sends it again
            else:
                self._answer(client, error(refusal.code, str(refusal), sent.uuid), done)

        return answer

    def _check_stamp(self, t: float, received_s: float, uuid: str) -> None:
        ahead = self.engine.clock.ahead(t, received_s)
        if ahead > self._limits.future_s:
            raise Refused(
                "bad_event", f"The event is stamped {ahead:.0f} s later than the session's clock.", uuid
            )
        self.engine.clock.observe(t, received_s)

    def _logged(
        self, client: Client, uuid: str, acknowledged: threading.Event, done: Callable[[], None]
    ) -> Logged:
        """Return what is called when an event is in the log: the machine gets it, before the disk has it."""

        def logged(outcome: Event | Exception) -> None:
            if isinstance(outcome, Event):
                self.engine.stored(outcome, acknowledged)
            elif isinstance(outcome, StoreError):
                self._bridge.post(done)  # only the disk is at fault: the client keeps it and sends it again
            else:
                self._answer(client, error("bad_event", str(outcome), uuid), done)

        return logged

    def _acknowledge(
        self, client: Client, acknowledged: threading.Event, done: Callable[[], None]
    ) -> Durable:
        """Return what is called when an event is on the disk."""

        def durable(event: Event) -> None:
            self._answer(client, {"type": "ack", "uuid": event.uuid, "seq": event.seq}, done)
            acknowledged.set()

        return durable

    def _answer(self, client: Client, message: dict[str, Any], done: Callable[[], None]) -> None:
        def tell() -> None:
            client.tell(message)
            done()

        self._bridge.post(tell)

    def _submit(self, event: NewEvent, logged: Logged, durable: Durable | None = None) -> None:
        try:
            self._writer.submit(event, logged, durable)
        except StoreError as failure:  # closing: the client keeps the event and sends it again
            raise Refused("bad_message", str(failure), None) from None
        except UserError as failure:
            raise Refused("bad_event", str(failure), event.uuid) from None


def _shifted(sent: Sent, shift_s: float) -> dict[str, Any]:
    """Return the payload with its display stamps on the session's clock."""
    if not shift_s or sent.kind != "shown":
        return sent.payload
    return {**sent.payload, "frames": [[frame, t + shift_s] for frame, t in sent.payload["frames"]]}


def storage_message(ok: bool, sentence: str) -> dict[str, Any]:
    """Return what every page is told when storing fails, and when it works again."""
    return {"type": "storage", "ok": ok, "message": sentence}
