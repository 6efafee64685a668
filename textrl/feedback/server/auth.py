"""Who may talk to the server: tokens, the cookie, exact Host and Origin, and the headers of every answer.

As in Jupyter Server: a random token in the link is exchanged for a cookie that scripts cannot read and that
other sites' pages cannot make a browser send. A page of another site could still open a socket to this
server (sockets know no same-origin policy), and a foreign name could be pointed at this machine (DNS
rebinding); hence the exact checks of Origin and Host, which frameworks leave out.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import html
import json
import os
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from textrl.errors import UserError

#: A token from the command line must be at least this long; random ones have 256 bits.
SHORTEST = 16
#: The key of the scope under which the rest finds whether the owner is asking.
OWNER = "textrl.owner"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MONTH_S = 30 * 24 * 3600
#: Paths that need no token.
_OPEN = ("/login", "/healthz")


@dataclass(frozen=True)
class Tokens:
    """What opens the server.

    Attributes:
        join: For everybody who takes part.
        owner: For whoever runs the session.
    """

    join: str
    owner: str

    def __post_init__(self) -> None:
        for token in (self.join, self.owner):
            if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
                raise UserError(
                    f"A token needs {SHORTEST} plain characters or more; leave --token out for a random one."
                )

    def opens(self, given: str) -> str | None:
        """Return "owner" or "join" for a token, None for a wrong one; takes the same time for all."""
        owner = hmac.compare_digest(given.encode(), self.owner.encode())
        join = hmac.compare_digest(given.encode(), self.join.encode())
        return "owner" if owner else "join" if join else None

    def cookie(self, role: str) -> str:
        """Return the cookie's value for a role; the token cannot be computed from it."""
        key = self.owner if role == "owner" else self.join
        return hmac.new(key.encode(), b"textrl feedback cookie", hashlib.sha256).hexdigest()

    def knows(self, cookie: str) -> str | None:
        """Return whose cookie this is, or None."""
        owner = hmac.compare_digest(cookie.encode(), self.cookie("owner").encode())
        join = hmac.compare_digest(cookie.encode(), self.cookie("join").encode())
        return "owner" if owner else "join" if join else None


def make_tokens(keep: Path | None, join: str | None = None) -> Tokens:
    """Return a store's tokens: those of last time, so that pages find their server again, or new ones.

    Args:
        keep: The file that keeps them, readable by its owner only; None keeps nothing.
        join: The token from the command line.

    Raises:
        UserError: When the token is too short or the file cannot be used.
    """
    found: dict[str, str] = {}
    if keep is not None and keep.exists():
        try:
            found = json.loads(keep.read_text(encoding="utf-8"))
            Tokens(found["join"], found["owner"])
        except (OSError, ValueError, TypeError, KeyError, UserError) as error:
            raise UserError(f"{keep} is no file of tokens; delete it to make new ones.") from error
    tokens = Tokens(
        join or found.get("join") or secrets.token_urlsafe(32),
        found.get("owner") or secrets.token_urlsafe(32),
    )
    text = json.dumps({"join": tokens.join, "owner": tokens.owner}) + "\n"
    if keep is not None and found != json.loads(text):
        temporary = keep.with_name(f".{keep.name}.{os.getpid()}")
        try:
            # Made with its permissions: there must be no moment at which others can read it.
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
            temporary.replace(keep)
        except OSError as error:
            raise UserError(f"The tokens cannot be written to {keep}: {error.strerror}.") from error
        finally:
            temporary.unlink(missing_ok=True)
    return tokens


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a server bound to `host`."""
    return host in LOOPBACK or host.startswith("127.")


def host_names(host: str, port: int, allowed: Iterable[str] = ()) -> frozenset[str]:
    """Return every value of the Host header that is ours.

    Args:
        host: What the server is bound to.
        port: Its port.
        allowed: Further names, with or without a port: of a proxy in front, say.
    """
    names = set(LOOPBACK) if is_loopback(host) or host in ("0.0.0.0", "::") else {host}
    if host in ("0.0.0.0", "::"):
        names |= {socket.gethostname(), socket.getfqdn(), *lan_addresses()}
        # A machine may have no name of its own; --allow-host says it then.
        with contextlib.suppress(OSError):
            names |= {str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None)}
    names.add(host)
    whole = {_with_port(name, port) for name in names} | ({_bare(name) for name in names} & _default(port))
    return frozenset(
        name.lower() for name in whole | {*allowed} | {_with_port(name, port) for name in allowed}
    )


def lan_addresses() -> list[str]:
    """Return the address under which this machine reaches others, where it has one; sends nothing."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # an address of documentation: only the route is looked up
        return [str(probe.getsockname()[0])]
    return []


def _with_port(name: str, port: int) -> str:
    if name.startswith("[") or name.count(":") == 1:
        return name if name.rpartition(":")[2].isdigit() else f"{name}:{port}"
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _bare(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _default(port: int) -> set[str]:
    return {_bare(name) for name in LOOPBACK} if port == 80 else set()


class Guard:
    """Middleware before everything else."""

    def __init__(self, app: ASGIApp, tokens: Tokens, hosts: frozenset[str], port: int) -> None:
        """Guard an app.

        Args:
            app: What is behind.
            tokens: What opens it.
            hosts: Values of the Host header that are ours, in lower case.
            port: Part of the cookie's name: cookies do not tell ports apart.
        """
        self._app, self._tokens, self._hosts = app, tokens, hosts
        self._cookie = f"textrl-feedback-{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let through."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._foreign(scope, headers)
        if refusal is None and scope["path"] == "/login" and scope["type"] == "http":
            refusal = self._login(scope, headers)
        elif refusal is None:
            role = self._role(headers)
            if role is None and scope["path"] not in _OPEN:
                text = "Open the link that 'textrl feedback' printed; it carries the token.\n"
                refusal = PlainTextResponse(text, 401)
            scope[OWNER] = role == "owner"
        sending = _with_headers(send, headers.get("host", ""))
        await (refusal or self._app)(scope, receive, sending)

    def _foreign(self, scope: Scope, headers: Headers) -> Response | None:
        """Refuse other hosts and origins."""
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        host = hosts[0].lower() if len(hosts) == 1 else ""
        if host not in self._hosts:
            text = f"This server is not {host[:100] or 'nameless'!r}; --allow-host NAME adds a name.\n"
            return PlainTextResponse(text, 403)
        ours = (f"http://{host}", f"https://{host}")
        if origins and (len(origins) > 1 or origins[0].lower() not in ours):
            return PlainTextResponse("Pages of other sites may not use this server.\n", 403)
        if scope["type"] == "websocket" and not origins and "authorization" not in headers:
            # Every browser says where a socket comes from; a program can prove itself by the token.
            return PlainTextResponse("A socket needs an Origin or an Authorization header.\n", 403)
        return None

    def _role(self, headers: Headers) -> str | None:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme:
            return self._tokens.opens(token) if scheme.lower() == "bearer" else None
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return None
        return self._tokens.knows(cookies[self._cookie].value) if self._cookie in cookies else None

    def _login(self, scope: Scope, headers: Headers) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Method not allowed.\n", 405)
        given = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=8)
        role = self._tokens.opens(given.get("token", [""])[0])
        if role is None:
            return PlainTextResponse(
                "This token is wrong; open the link that 'textrl feedback' printed last.\n", 403
            )
        session = given.get("session", [""])[0]
        goal = f"/?session={quote(session, safe='')}" if session else "/"
        response: Response = RedirectResponse(goal, 303)
        if headers.get("sec-fetch-site") == "cross-site":
            # From a link in a web mail, a redirect would still count as the mail's: the browser would not
            # send the cookie along. A page that goes on by itself is ours.
            refresh = f'<meta http-equiv="refresh" content="0;url={html.escape(goal)}">'
            response = HTMLResponse(f"<!DOCTYPE html><title>textrl</title>{refresh}")
        response.set_cookie(
            self._cookie, self._tokens.cookie(role), _MONTH_S, path="/", httponly=True, samesite="strict"
        )
        return response


def _with_headers(send: Send, host: str) -> Send:
    """Return `send` with the headers that every answer has."""
    # Some browsers do not count sockets among 'self'.
    policy = (
        f"default-src 'self'; img-src 'self' data:; connect-src 'self' ws://{host} wss://{host}; "
        "base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'"
    )

    async def sending(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            headers = MutableHeaders(scope=message)
            headers["Content-Security-Policy"] = policy
            headers["X-Content-Type-Options"] = "nosniff"
            headers["Referrer-Policy"] = "no-referrer"
            headers["Cross-Origin-Opener-Policy"] = "same-origin"
            headers["Cross-Origin-Resource-Policy"] = "same-origin"
            headers["Cache-Control"] = "no-store"
        await send(message)

    return sending
