"""The life of a server: bind, serve until told to stop, then let nothing that was stored go unused."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from urllib.parse import quote

import uvicorn

from textrl.errors import UserError
from textrl.feedback.machine import Machine
from textrl.feedback.server.app import build_app
from textrl.feedback.server.auth import Tokens, host_names, lan_addresses
from textrl.feedback.server.engine import DIGEST_EVERY, Engine, Progress
from textrl.feedback.server.hub import Bridge, Hub
from textrl.feedback.server.limits import Limits
from textrl.feedback.server.room import Room, storage_message
from textrl.feedback.server.sockets import Socket
from textrl.feedback.store import FeedbackStore, GroupWriter, SessionInfo

_log = logging.getLogger(__name__)
#: Bytes that the kernel holds for a reader: whole seconds of frames would wait there else, growing old.
SEND_BUFFER = 128 * 1024
#: Seconds after which a peer that takes nothing is gone.
GONE_S = 20


class Server:
    """Serves sessions of one store, which it alone writes.

    Attributes:
        rooms: Session -> its room.
        sockets: All of them; the loop's thread uses this.
        storage: Whether storing works, and why not.
        tokens: What opens the server.
        limits: On each socket.
        port: Where it listens, once bound.
    """

    def __init__(
        self,
        store: FeedbackStore,
        tokens: Tokens,
        listener: socket.socket | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        allow_hosts: Iterable[str] = (),
        limits: Limits | None = None,
        digest_every: int = DIGEST_EVERY,
    ) -> None:
        """Prepare, and bind the port if nobody has.

        Args:
            store: Where events go.
            tokens: What opens the server.
            listener: What `bind` gave for `host`; closed by `run`.
            host: The address to listen at.
            port: The port; 0 takes a free one.
            allow_hosts: Further values of the Host header, of a proxy in front, say.
            limits: On each socket.
            digest_every: Applied events between two digests of what was learnt.

        Raises:
            UserError: When the address cannot be used.
        """
        self.tokens, self.limits = tokens, limits or Limits()
        self.rooms: dict[str, Room] = {}
        self.sockets: set[Socket] = set()
        self.storage: tuple[bool, str] = (True, "")
        self._host, self._allowed, self._digest_every = host, tuple(allow_hosts), digest_every
        self._listener = listener or bind(host, port)
        self.port = int(self._listener.getsockname()[1])
        self._bridge = Bridge()
        self._store = store
        self._writer: GroupWriter | None = None
        self._pending: list[tuple[SessionInfo, Machine, Progress]] = []
        self._stop: asyncio.Event | None = None
        self._stopped = threading.Event()

    @property
    def address(self) -> str:
        """The address for a browser on this machine."""
        return self._address("127.0.0.1")

    def link(self, *, owner: bool, session: str | None = None, elsewhere: bool = False) -> str:
        """Return a link that opens the page.

        Args:
            owner: The owner's own link, or the one to share.
            session: Which session it opens.
            elsewhere: For browsers on other machines, where they can reach the server.
        """
        token = self.tokens.owner if owner else self.tokens.join
        more = "" if session is None else f"&session={quote(session, safe='')}"
        # The address rather than the name: few networks know the names of the machines in them.
        name = next(iter(lan_addresses()), socket.gethostname())
        address = self._address(name) if elsewhere else self.address
        return f"{address}/login?token={quote(token, safe='')}{more}"

    def _address(self, name: str) -> str:
        """Return the address; `name` stands for us where we listen on all addresses."""
        host = name if self._host in ("0.0.0.0", "::") else self._host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def add(self, info: SessionInfo, machine: Machine, progress: Progress | None = None) -> None:
        """Serve a session, whose machine has applied the log up to `progress`; before `run`."""
        self._pending.append((info, machine, progress or Progress()))

    def stop(self) -> None:
        """End `run`; from any thread."""
        self._stopped.set()
        self._bridge.post(lambda: self._stop.set() if self._stop else None)

    def run(self, ready: Callable[[], None] | None = None) -> None:
        """Serve until `stop`, SIGINT or SIGTERM; then apply and store what is under way.

        Args:
            ready: Called when the server answers.
        """
        # Python switches threads every 5 ms by default: with an engine that computes, every hand-over from
        # the loop to the writer and back would wait as long.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(0.0005)
        # What is loaded by now stays: walking it in every full collection would stop everything for long.
        gc.collect()
        gc.freeze()
        self._writer = GroupWriter(self._store, self._on_storage)
        for info, machine, progress in self._pending:
            hub = Hub(self._bridge)
            engine = Engine(info, machine, progress, self._writer, hub, digest_every=self._digest_every)
            self.rooms[info.session] = Room(engine, self._writer, self._bridge, self.limits)
            engine.start()
        try:
            asyncio.run(self._serve(ready))
        finally:
            self._bridge.attach(None)
            for room in self.rooms.values():
                room.engine.stop()
            self._writer.close()
            self.close()
            gc.unfreeze()
            sys.setswitchinterval(interval)

    def close(self) -> None:
        """Give the port back; `run` does by itself."""
        self._listener.close()

    async def _serve(self, ready: Callable[[], None] | None) -> None:
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        if self._stopped.is_set():
            return
        app = build_app(self, host_names(self._host, self.port, self._allowed), self.port)
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http="h11",
            ws="websockets-sansio",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,  # it would show the token
            server_header=False,
            proxy_headers=False,
            ws_max_size=self.limits.socket_bytes,
            ws_ping_interval=10.0,
            ws_ping_timeout=20.0,
            # Frames are compressed pictures: compressing them again costs time and saves nothing.
            ws_per_message_deflate=False,
            timeout_graceful_shutdown=2,
            limit_concurrency=4 * self.limits.connections,
        )
        server = _Uvicorn(config)
        with _signals(loop, self._stop):
            serving = loop.create_task(server.serve(sockets=[self._listener]))
            self._bridge.attach(loop)
            while not server.started and not serving.done():
                await asyncio.sleep(0.005)
            if ready is not None and not serving.done():
                ready()
            stopping = loop.create_task(self._stop.wait())
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            server.should_exit = True
            await serving
            stopping.cancel()

    def _on_storage(self, ok: bool, sentence: str) -> None:
        """Tell every page, and who started the server, at once. From a thread of the store."""
        _log.error("%s", "Storing works again." if ok else sentence)

        def tell() -> None:
            self.storage = (ok, sentence)
            for one in self.sockets:
                one.client.tell(storage_message(ok, sentence))

        self._bridge.post(tell)


class _Uvicorn(uvicorn.Server):
    """Leaves signals to us: uvicorn raises them again after its end, and the exit code would be theirs."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@contextlib.contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> Generator[None, None, None]:
    """Let SIGINT and SIGTERM set `stop`, where signals reach us at all."""
    ours = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for number in ours:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in ours:
            loop.remove_signal_handler(number)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket, so that a taken port is known before anything is loaded.

    Args:
        host: The address to listen at.
        port: The port; 0 takes a free one.

    Raises:
        UserError: When the port is taken or the address is not ours.
    """
    if not 0 <= port <= 65535:  # beyond, the system would take another one without a word
        raise UserError(f"--port is {port}; ports are from 0 (any free one) to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise UserError(f"The address {host}:{port} cannot be used: {error}.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit both.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * GONE_S)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise UserError(
            f"Port {port} on {host} cannot be used: {error.strerror}; choose another with --port."
        ) from error
    listener.setblocking(False)
    return listener
