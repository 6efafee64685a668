"""Routes: the page, its files, the login, the list of sessions and the socket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from textrl.errors import did_you_mean
from textrl.feedback.server.auth import Guard
from textrl.feedback.server.protocol import dump, error
from textrl.feedback.server.room import storage_message
from textrl.feedback.server.sockets import Socket

if TYPE_CHECKING:
    from textrl.feedback.server.serving import Server

#: The page comes with the package.
PAGE = Path(__file__).parent.parent / "page"


def build_app(server: Server, hosts: frozenset[str], port: int, page: Path = PAGE) -> Guard:
    """Return the application behind its guard.

    Args:
        server: Its sessions.
        hosts: Values of the Host header that are ours.
        port: Where it listens.
        page: The folder of ``index.html`` and what it needs.
    """

    async def index(request: Request) -> Response:
        return FileResponse(page / "index.html")

    async def sessions(request: Request) -> Response:
        return JSONResponse([_listed(room) for room in server.rooms.values()])

    async def health(request: Request) -> Response:
        return JSONResponse({"ok": True})

    async def socket(websocket: WebSocket) -> None:
        await _socket(server, websocket)

    app = Starlette(
        routes=[
            Route("/", index),
            Route("/api/sessions", sessions),
            Route("/healthz", health),
            WebSocketRoute("/ws", socket),
            Mount("/static", StaticFiles(directory=page, check_dir=False)),
        ]
    )
    return Guard(app, server.tokens, hosts, port)


def _listed(room: Any) -> dict[str, Any]:
    engine = room.engine
    return {
        "session": room.session,
        "mode": room.mode,
        "created": engine.info.created,
        "trainer": room.trainer,
        "present": sorted({client.annotator for client in engine.hub.clients}),
        "finished": engine.progress.finished,
        "failed": engine.failed,
    }


async def _socket(server: Server, websocket: WebSocket) -> None:
    await websocket.accept()
    name = websocket.query_params.get("session")
    rooms = server.rooms
    room = rooms.get(name) if name else next(iter(rooms.values())) if len(rooms) == 1 else None
    problem = None
    if room is None:
        problem = f"No session '{(name or '')[:64]}' is open here.{did_you_mean((name or '')[:64], rooms)}"
    elif len(server.sockets) >= server.limits.connections:
        problem = f"The server has {server.limits.connections} connections already; close one."
    if room is None or problem is not None:
        try:
            await websocket.send_text(dump(error("bad_message", problem or "")))
            await websocket.close(4404 if room is None else 1013)
        except WebSocketDisconnect:
            pass  # gone before the answer
        return
    socket = Socket(websocket, room, server.limits)
    if server.storage[0] is False:
        socket.client.tell(storage_message(*server.storage))
    server.sockets.add(socket)
    try:
        await socket.run()
    finally:
        server.sockets.discard(socket)
