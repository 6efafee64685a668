"""A real server on a real store, with a machine that counts: for tests of the server alone."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from textrl.errors import UserError
from textrl.feedback.events import Event
from textrl.feedback.server.auth import Tokens
from textrl.feedback.server.engine import Progress
from textrl.feedback.server.limits import Limits
from textrl.feedback.server.serving import Server
from textrl.feedback.store import SessionInfo, open_store

TOKENS = Tokens("join-token-of-the-tests", "owner-token-of-the-tests")


class CountingMachine:
    """Counts what it is given; a frame at every tick, and a failure when it is told to fail."""

    def __init__(self, mode: str = "control", step_s: float | None = None, frame_chars: int = 100) -> None:
        self.mode, self.step_s, self._filler = mode, step_s, "x" * frame_chars
        self.presses: dict[str, float] = {}
        self.seqs: list[int] = []
        self.frames = 0
        self.closed = False

    def apply(self, event: Event) -> Sequence[dict[str, Any]]:
        self.seqs.append(event.seq)
        if event.kind == "note" and event.payload["text"] == "fail":
            raise UserError("The model failed: it was told to.")
        if event.kind == "note" and event.payload["text"] == "crash":
            raise ZeroDivisionError("by nothing")
        if event.kind == "press":
            self.presses[event.uuid] = event.payload["value"]
            return [{"type": "pressed", "value": event.payload["value"], "uuid": event.uuid, "credited": 0}]
        if event.kind == "note":
            return [{"type": "panel", "note": event.payload["text"], "to": event.annotator}]
        if event.kind == "undone":
            self.presses.pop(event.payload["uuid"], None)
        if event.kind == "tick":
            self.frames += 1
            return [{"type": "frame", "frame_id": self.frames, "env_step": 10 * self.frames,
                     "image": self._filler, "now": event.payload["now"]}]  # fmt: skip
        return []

    def view(self, annotator: str) -> dict[str, Any]:
        return {"presses": len(self.presses), "total": sum(self.presses.values()), "for": annotator}

    def due(self) -> float | None:
        return self.step_s

    def digest(self) -> str:
        return hashlib.sha256(json.dumps(self.presses, sort_keys=True).encode()).hexdigest()

    def close(self) -> None:
        self.closed = True


@dataclass
class Running:
    """A server in a thread."""

    server: Server
    machine: CountingMachine
    path: Path

    @property
    def address(self) -> str:
        return self.server.address

    @contextlib.contextmanager
    def socket(self, token: str = TOKENS.join, session: str = "s", **more: Any) -> Iterator[ClientConnection]:
        headers = {"Authorization": f"Bearer {token}"}
        url = f"ws://127.0.0.1:{self.server.port}/ws?session={session}"
        # A client that has stopped reading never sees the answer to its goodbye, and would wait ten seconds.
        given = {"compression": None, "max_size": None, "close_timeout": 0.3} | more
        with connect(url, additional_headers=headers, **given) as socket:
            yield socket

    @contextlib.contextmanager
    def join(self, annotator: str = "ada", **more: Any) -> Iterator[ClientConnection]:
        with self.socket(**more) as socket:
            socket.send(hello(annotator))
            welcome = next_of(socket, "welcome")
            assert welcome["annotator"] == annotator
            yield socket

    def stored(self) -> list[Event]:
        store = open_store(self.path, readonly=True)
        try:
            return list(store.events("s"))
        finally:
            store.close()


@contextlib.contextmanager
def serving(
    folder: Path, machine: CountingMachine | None = None, *, limits: Limits | None = None, **more: Any
) -> Iterator[Running]:
    """Serve a session 's' until the block ends; the machine is rebuilt from the log where there is one."""
    path = folder / "events.sqlite"
    machine = machine or CountingMachine()
    store = open_store(path)
    server = open_session(store, machine, limits=limits, **more)
    ready = threading.Event()
    thread = threading.Thread(target=server.run, args=(ready.set,))
    thread.start()
    try:
        assert ready.wait(30)
        yield Running(server, machine, path)
    finally:
        server.stop()
        thread.join(30)
        store.close()
        assert not thread.is_alive()


def open_session(
    store: Any, machine: CountingMachine, *, limits: Limits | None = None, port: int = 0, **more: Any
) -> Server:
    progress = Progress()
    if not store.sessions():
        store.create_session(SessionInfo(session="s", mode=machine.mode, created=1.0, config={}, versions={}))
    for event in store.events("s"):
        machine.apply(event)
        progress.take(event, machine.mode)
    server = Server(store, TOKENS, port=port, limits=limits, **more)
    server.add(store.session("s"), machine, progress)
    return server


def hello(annotator: str = "ada", t: float | None = None, **more: Any) -> str:
    now = time.time() if t is None else t
    return json.dumps(
        {"type": "hello", "protocol": 1, "annotator": annotator, "client": str(uuid.uuid4()), "t": now} | more
    )


def event(kind: str = "press", payload: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    payload = {"value": 1} if payload is None else payload
    fields = {"type": "event", "uuid": str(uuid.uuid4()), "kind": kind, "t": time.time(), "payload": payload}
    return fields | more


def send(socket: ClientConnection, message: Any) -> None:
    socket.send(message if isinstance(message, str | bytes) else json.dumps(message))


def next_of(socket: ClientConnection, *kinds: str, timeout_s: float = 20.0, **having: Any) -> dict[str, Any]:
    """Return the next message of these kinds, with these fields; others before it are passed over."""
    end = time.monotonic() + timeout_s
    while True:
        message: dict[str, Any] = json.loads(socket.recv(timeout=max(0.01, end - time.monotonic())))
        if message["type"] in kinds and all(message.get(key) == value for key, value in having.items()):
            return message


def main() -> None:
    """Serve FILE on PORT with a counting machine, as a process that can be killed."""
    path, port, step_s = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    store = open_store(path)
    server = open_session(store, CountingMachine(step_s=step_s or None), port=port, digest_every=50)
    server.run(lambda: print(server.port, flush=True))  # noqa: T201
    store.close()


if __name__ == "__main__":
    main()
