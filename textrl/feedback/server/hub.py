"""The sockets of one session, and the way to them from other threads."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from textrl.feedback.server.outbox import Outbox, Overflow
from textrl.feedback.server.protocol import dump

#: Messages that only the owner of a session sees.
OWNERS = frozenset({"agreement"})


class Bridge:
    """Calls on the event loop's thread, from any thread, in the order in which each thread posted them.

    One wake-up of the loop serves all that wait: a wake-up costs a system call and a switch of threads.
    """

    def __init__(self) -> None:
        """Hold calls until there is a loop."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: deque[Callable[[], None]] = deque()
        self._awake = False

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Use this loop from now on; None holds calls back."""
        self._loop = loop
        if loop is not None:
            loop.call_soon_threadsafe(self._run)

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` called on the loop's thread."""
        self._calls.append(call)
        loop = self._loop
        # Two threads may both wake the loop; the second time finds nothing to do.
        if loop is not None and not self._awake:
            self._awake = True
            try:
                loop.call_soon_threadsafe(self._run)
            except RuntimeError:  # the loop is closed: nobody is left to be told
                self._calls.clear()

    def _run(self) -> None:
        # First, so that whoever posts from here on wakes the loop again.
        self._awake = False
        while self._calls:
            self._calls.popleft()()


class Client:
    """One socket, as the rest of the server sees it. Only the event loop's thread uses it.

    Attributes:
        outbox: What waits to be sent.
        owner: Whether the owner's token opened it.
        annotator: Who; empty before the hello.
        tab: The uuid of the tab.
        role: ``trainer``, ``viewer``, ``annotator`` or ``owner``.
        lost: Done when the socket is to be closed, with a WebSocket code and a reason.
    """

    def __init__(self, limit_bytes: int, owner: bool) -> None:
        """Begin before the hello."""
        self.outbox = Outbox(limit_bytes)
        self.owner = owner
        self.annotator = self.tab = self.role = ""
        self.lost: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

    def send(self, kind: str, text: str) -> None:
        """Queue a message that is JSON already."""
        if self.lost.done():
            return
        try:
            self.outbox.put(kind, text)
        except Overflow:
            self.close(1013, "The messages are not read fast enough; connect again.")

    def tell(self, message: dict[str, Any]) -> None:
        """Queue a message."""
        self.send(message["type"], dump(message))

    def close(self, code: int, reason: str) -> None:
        """Have the socket closed."""
        if not self.lost.done():
            self.lost.set_result((code, reason))


class Hub:
    """Sends a session's messages to its sockets."""

    def __init__(self, bridge: Bridge) -> None:
        """Begin without sockets."""
        self._bridge = bridge
        self._clients: set[Client] = set()

    @property
    def clients(self) -> frozenset[Client]:
        """Sockets that get messages; for the loop's thread."""
        return frozenset(self._clients)

    def publish(self, messages: Iterable[dict[str, Any]]) -> None:
        """Send messages to everybody, or to whom ``to`` names. From the engine's thread.

        Each message becomes JSON once, and here: the loop's thread has better things to do.
        """
        texts: list[tuple[str, str | None, str]] = []
        for message in messages:
            shown = {key: value for key, value in message.items() if key != "to"}
            texts.append((message["type"], message.get("to"), dump(shown)))
        if texts:
            self._bridge.post(lambda: self._deliver(texts))

    def welcome(self, client: Client, messages: Iterable[dict[str, Any]]) -> None:
        """Send a socket its first messages; from then on it gets the others. From the engine's thread."""
        texts = [(message["type"], dump(message)) for message in messages]

        def call() -> None:
            if not client.lost.done():
                for kind, text in texts:
                    client.send(kind, text)
                self._clients.add(client)

        self._bridge.post(call)

    def leave(self, client: Client) -> None:
        """Forget a socket. From the loop's thread."""
        self._clients.discard(client)

    def _deliver(self, texts: list[tuple[str, str | None, str]]) -> None:
        for client in self._clients:
            for kind, to, text in texts:
                if to in (None, client.annotator) and (kind not in OWNERS or client.owner):
                    client.send(kind, text)
