"""A connection to a session that comes back by itself and loses nothing, as the page's does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

from textrl.errors import UserError

#: Seconds between attempts to come back: the first, and the longest.
PAUSE_S = (0.05, 1.0)
#: Seconds without an answer after which an attempt is given up.
ANSWER_S = 10.0
_MINE = ("bad_event", "unknown_kind", "too_large", "not_yours")


@dataclass
class Measured:
    """What a line has seen.

    Attributes:
        ack_s: Seconds from sending an event to its acknowledgement, one each; those that a lost connection
            delayed are in `back_s` instead.
        back_s: Seconds from losing the connection to being welcome again, one each.
        frame_age_s: Seconds from when a frame was due to its arrival (both clocks are one machine's).
        frames: Frames that arrived.
        refused: Errors that the server answered, as sentences.
    """

    ack_s: list[float] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)
    frame_age_s: list[float] = field(default_factory=list)
    frames: int = 0
    refused: list[str] = field(default_factory=list)


class Line:
    """One client of a session.

    Attributes:
        acked: uuid -> seq of every acknowledged event.
        waiting: uuid -> message of every event that is not acknowledged yet, oldest first.
        measured: What it saw.
        welcome: The last welcome.
        failed: Why the session cannot go on, as the server said.
    """

    def __init__(
        self,
        link: str,
        annotator: str,
        on_message: Callable[[dict[str, Any]], None],
        *,
        keep_frames: bool = True,
    ) -> None:
        """Prepare.

        Args:
            link: What the server prints, ``http://host:port/login?token=...&session=...``.
            annotator: The person's name.
            on_message: Called with every message but acknowledgements.
            keep_frames: Whether frames are read; else they are counted only.
        """
        parts = urlsplit(link)
        given = parse_qs(parts.query)
        self._token = given.get("token", [""])[0]
        scheme = "wss" if parts.scheme == "https" else "ws"
        session = given.get("session", [""])[0]
        self._url = f"{scheme}://{parts.netloc}/ws" + (
            f"?session={quote(session, safe='')}" if session else ""
        )
        self.annotator, self._on_message, self._keep_frames = annotator, on_message, keep_frames
        self.acked: dict[str, int] = {}
        self.waiting: dict[str, dict[str, Any]] = {}
        self.measured = Measured()
        self.welcome: dict[str, Any] | None = None
        self.failed: str | None = None
        self._tab = str(uuid4())
        self._zero = time.time() - time.perf_counter()
        self._sent_s: dict[str, float] = {}
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self._socket: ClientConnection | None = None
        self._lost_s: float | None = None

    @property
    def now_s(self) -> float:
        """Seconds on this client's clock: unix time that does not fall."""
        return self._zero + time.perf_counter()

    def send(
        self, kind: str, payload: dict[str, Any], *, t: float | None = None, frame_id: int | None = None
    ) -> str:
        """Send an event, again and again until it is acknowledged; returns its uuid."""
        uuid = str(uuid4())
        message: dict[str, Any] = {"type": "event", "uuid": uuid, "kind": kind, "payload": payload}
        message["t"] = self.now_s if t is None else t
        if frame_id is not None:
            message["frame_id"] = frame_id
        self.waiting[uuid] = message
        if self._socket is not None:
            self._sent_s[uuid] = time.perf_counter()
            self._queue.put_nowait(json.dumps(message))
        return uuid

    def say(self, message: dict[str, Any]) -> None:
        """Send a message that is no event, if there is a connection."""
        if self._socket is not None:
            self._queue.put_nowait(json.dumps(message))

    def cut(self) -> None:
        """Tear the connection down without a word, as a lost network does."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def run(self) -> None:
        """Stay connected until cancelled.

        Raises:
            UserError: When the server refuses the token or the session.
        """
        pause = PAUSE_S[0]
        while True:
            try:
                async with connect(
                    self._url,
                    additional_headers={"Authorization": f"Bearer {self._token}"},
                    compression=None,
                    max_size=None,
                    max_queue=256,
                    open_timeout=ANSWER_S,
                ) as socket:
                    pause = PAUSE_S[0]
                    await self._talk(socket)
            except InvalidStatus as error:
                body = (error.response.body or b"").decode("utf-8", "replace").strip()
                if error.response.status_code < 500:
                    raise UserError(f"The server refused the connection: {body}") from error
            except (OSError, InvalidHandshake, ConnectionClosed, TimeoutError):
                pass  # it comes back
            finally:
                self._lose()
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSE_S[1])

    async def settled(self, timeout_s: float = ANSWER_S) -> bool:
        """Wait until everything is acknowledged; return whether it is."""
        end = time.perf_counter() + timeout_s
        while self.waiting and time.perf_counter() < end:
            await asyncio.sleep(0.005)
        return not self.waiting

    async def _talk(self, socket: ClientConnection) -> None:
        hello = {"type": "hello", "protocol": 1, "annotator": self.annotator, "client": self._tab}
        await socket.send(json.dumps(hello | {"t": self.now_s}))
        writing = asyncio.create_task(self._write(socket))
        try:
            async for text in socket:
                self._read(socket, str(text))
        finally:
            writing.cancel()
            with suppress(asyncio.CancelledError, ConnectionClosed):
                await writing

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            await socket.send(await self._queue.get())

    def _read(self, socket: ClientConnection, text: str) -> None:
        if not self._keep_frames and text.startswith('{"type":"frame"'):
            self.measured.frames += 1
            # The server's stamp is the last field of a frame.
            stamp = text.rpartition('"t_server":')[2].rstrip("}")
            self.measured.frame_age_s.append(time.time() - float(stamp))
            return
        message = json.loads(text)
        kind = message["type"]
        if kind == "ack":
            self._acknowledged(message)
            return
        if kind == "welcome":
            self._welcomed(socket, message)
        elif kind == "frame":
            self.measured.frames += 1
            self.measured.frame_age_s.append(time.time() - message["t_server"])
        elif kind == "error":
            self._refused(message)
        self._on_message(message)

    def _welcomed(self, socket: ClientConnection, message: dict[str, Any]) -> None:
        self.welcome = message
        self._socket = socket
        if self._lost_s is not None:
            self.measured.back_s.append(time.perf_counter() - self._lost_s)
            self._lost_s = None
        for waiting in self.waiting.values():
            self._queue.put_nowait(json.dumps(waiting))

    def _acknowledged(self, message: dict[str, Any]) -> None:
        uuid = message["uuid"]
        self.acked[uuid] = message["seq"]
        self.waiting.pop(uuid, None)
        sent_s = self._sent_s.pop(uuid, None)
        if sent_s is not None:
            self.measured.ack_s.append(time.perf_counter() - sent_s)

    def _refused(self, message: dict[str, Any]) -> None:
        self.measured.refused.append(message["message"])
        if message["code"] == "machine_failed":
            self.failed = message["message"]
        if message.get("uuid") and message["code"] in (*_MINE, "machine_failed"):
            self.waiting.pop(message["uuid"], None)

    def _lose(self) -> None:
        if self._socket is not None:
            self._lost_s = time.perf_counter()
        self._socket = None
        self._sent_s.clear()
        self._queue = asyncio.Queue()
