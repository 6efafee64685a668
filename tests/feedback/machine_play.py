"""Plays a session without a server: events with growing numbers, a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from textrl.feedback.events import SERVER, Event, NewEvent, check_client_event
from textrl.feedback.machine import build_machine
from textrl.feedback.store import FeedbackStore, SessionInfo

Message = dict[str, Any]


def session_info(mode: str, config: Mapping[str, Any], name: str = "play") -> SessionInfo:
    return SessionInfo(session=name, mode=mode, created=0.0, config=dict(config), versions={})


class Play:
    """A machine and the log of everything that it was given."""

    def __init__(self, mode: str, config: Mapping[str, Any], *, pictures: bool = False) -> None:
        self.info = session_info(mode, config)
        self.machine: Any = build_machine(self.info, pictures=pictures)
        self.events: list[Event] = []
        self.now_s = 1000.0
        self.unstamped: list[int] = []
        self.frames: list[Message] = []
        self.server("joined", {}, annotator="ada")

    def server(self, kind: str, payload: Mapping[str, Any], annotator: str = SERVER) -> list[Message]:
        return self._apply(kind, payload, annotator, None, None)

    def client(
        self,
        kind: str,
        payload: Mapping[str, Any],
        *,
        at_s: float | None = None,
        frame: int | None = None,
        annotator: str = "ada",
    ) -> list[Message]:
        check_client_event(self.info.mode, kind, payload)
        return self._apply(kind, payload, annotator, self.now_s if at_s is None else at_s, frame)

    def tick(self, wait_s: float | None = None) -> list[Message]:
        self.now_s += (self.machine.due() or 0.2) if wait_s is None else wait_s
        return self.server("tick", {"now": self.now_s})

    def shown(self, after_s: float = 0.01, **more: Any) -> list[Message]:
        """The page shows whatever came since, each a little after the other."""
        if not self.unstamped:
            return []
        stamps = [[n, self.now_s + after_s + i * 1e-3] for i, n in enumerate(self.unstamped[:60])]
        self.unstamped = self.unstamped[60:]
        return self.client("shown", {"frames": stamps}, at_s=max(self.now_s, stamps[-1][1]), **more)

    def run(self, ticks: int) -> list[Message]:
        """So many ticks, each of which is seen at once; returns the last one's messages."""
        messages: list[Message] = []
        for _ in range(ticks):
            messages = self.tick()
            self.shown()
        return messages

    def press(self, value: int = 1, after_s: float = 0.1, **more: Any) -> list[Message]:
        return self.client("press", {"value": value}, at_s=self.now_s + after_s, **more)

    def control(self, do: str, value: Any = None) -> list[Message]:
        return self.client("control", {"do": do, **({} if value is None else {"value": value})})

    def again(self, events: Iterable[Event] | None = None) -> Any:
        """Return a fresh machine that was fed the log."""
        machine = build_machine(self.info, pictures=False)
        for event in self.events if events is None else events:
            machine.apply(event)
        return machine

    def store(self, store: FeedbackStore) -> None:
        """Write the log into a store; numbers may become others, their order not."""
        store.create_session(self.info)
        store.append([new(event) for event in self.events])

    def _apply(
        self, kind: str, payload: Mapping[str, Any], annotator: str, t: float | None, frame: int | None
    ) -> list[Message]:
        number = len(self.events) + 1
        event = Event(
            uuid=f"u{number}",
            session=self.info.session,
            annotator=annotator,
            kind=kind,
            t_client=t,
            t_server=float(number),
            frame_id=frame,
            payload=payload,
            seq=number,
        )
        self.events.append(event)
        messages = list(self.machine.apply(event))
        for message in messages:
            if message["type"] in ("frame", "token"):
                self.unstamped.append(message["frame_id"])
                self.frames.append(message)
        return messages


def new(event: Event) -> NewEvent:
    return NewEvent(**{one.name: getattr(event, one.name) for one in fields(NewEvent)})


def of_type(messages: Sequence[Message], kind: str) -> list[Message]:
    return [message for message in messages if message["type"] == kind]


def only(messages: Sequence[Message], kind: str) -> Message:
    (message,) = of_type(messages, kind)
    return message
