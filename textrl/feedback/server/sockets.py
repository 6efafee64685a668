"""One WebSocket: reads messages no faster than allowed, sends what its outbox holds."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from textrl.feedback.server.auth import OWNER
from textrl.feedback.server.hub import Client
from textrl.feedback.server.limits import Bucket, Limits
from textrl.feedback.server.protocol import Finish, Hello, Ping, Refused, error, parse
from textrl.feedback.server.room import Room


class Socket:
    """A socket from its acceptance to its end."""

    def __init__(self, websocket: WebSocket, room: Room, limits: Limits) -> None:
        """Take over an accepted socket."""
        self.client = Client(limits.queue_bytes, bool(websocket.scope.get(OWNER)))
        self._websocket, self._room, self._limits = websocket, room, limits
        self._shift_s = 0.0
        self._pending = 0
        self._settled = asyncio.Event()
        self._told_s = -math.inf

    async def run(self) -> None:
        """Serve the socket until one side ends it."""
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        try:
            ends: set[asyncio.Future[Any]] = {*tasks, self.client.lost}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            self._room.leave(self.client)
            if self.client.lost.done():
                code, reason = self.client.lost.result()
                # A peer that reads nothing cannot be told; the socket's time-out ends it.
                with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
                    await asyncio.wait_for(self._websocket.close(code, reason), 1.0)
            # From here on nobody queues for this socket.
            self.client.close(1000, "")
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
                raise outcome

    async def _write(self) -> None:
        while True:
            text = await self.client.outbox.get()
            await self._websocket.send_text(text)

    async def _read(self) -> None:
        limits = self._limits
        bucket = Bucket(limits.rate, limits.burst, time.monotonic())
        hello_by = asyncio.get_running_loop().call_later(limits.hello_s, self._late)
        try:
            while True:
                message = await self._websocket.receive()
                if message["type"] != "websocket.receive":
                    return
                received_s = time.monotonic()
                try:
                    self._take(message.get("text"), received_s)
                except Refused as refused:
                    self.client.tell(error(refused.code, str(refused), refused.uuid))
                await self._slow_down(bucket.take(received_s), received_s)
        finally:
            hello_by.cancel()

    def _take(self, text: str | None, received_s: float) -> None:
        if text is None:
            raise Refused("bad_message", "A message must be text, not bytes.")
        message = parse(text, self._limits.message_bytes)
        if isinstance(message, Hello):
            if self.client.role:
                raise Refused("bad_message", "This socket has said hello already.")
            self._shift_s = self._room.join(self.client, message, received_s)
        elif isinstance(message, Ping):
            if self.client.role == "trainer":
                shifted = message.t + self._shift_s
                if self._room.engine.clock.ahead(shifted, received_s) <= self._limits.future_s:
                    self._room.engine.clock.observe(shifted, received_s)
            self.client.tell({"type": "pong", "t": message.t, "server_t": time.time()})
        elif not self.client.role:
            raise Refused("bad_message", "Say hello first.", getattr(message, "uuid", None))
        elif isinstance(message, Finish):
            self._room.finish(self.client, message)
        else:
            self._room.take(self.client, message, self._shift_s, received_s, self._done)
            self._pending += 1

    async def _slow_down(self, wait_s: float, now_s: float) -> None:
        """Read no more for a while where the client is too fast, or the disk too slow."""
        if wait_s > 0:
            if now_s - self._told_s > 1.0:
                self._told_s = now_s
                sentence = (
                    f"More than {self._limits.rate:g} messages a second are read no faster than that; "
                    "nothing is lost."
                )
                self.client.tell(error("too_fast", sentence))
            await asyncio.sleep(wait_s)
        while self._pending >= self._limits.pending:
            self._settled.clear()
            await self._settled.wait()

    def _done(self) -> None:
        self._pending -= 1
        self._settled.set()

    def _late(self) -> None:
        if not self.client.role:
            self.client.close(4408, "Nobody said hello.")
