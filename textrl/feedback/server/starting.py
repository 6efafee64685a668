"""From a command line to a running session: the store, the tokens, the machine, the links, and the end."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textrl import __version__
from textrl.errors import UserError
from textrl.feedback.machine import Machine, build_machine
from textrl.feedback.store import FeedbackStore, SessionInfo, open_store

if TYPE_CHECKING:
    from textrl.feedback.server.engine import Progress
    from textrl.feedback.server.serving import Server

#: How to get what the server needs; the extra belongs to a checkout of textrl.
INSTALL = "pip install -e '.[feedback]'"
_PACKAGES = ("numpy", "torch", "gymnasium", "transformers", "starlette", "uvicorn", "websockets")
_SLUG = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Where a session is kept and served.

    Attributes:
        store: A SQLite file or ``postgresql://...``.
        session: Its name; an existing one goes on. None makes a new name.
        host: The address to listen at.
        port: The port; 0 takes a free one.
        token: What opens the server, instead of a random token.
        allow_hosts: Further names under which browsers reach it.
    """

    store: str = "sessions.sqlite"
    session: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    allow_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Simulated people beside, or instead of, real ones.

    Attributes:
        preset: What they are like.
        people: How many; the first one trains.
        rate: Keys (or items) a second of each; None leaves it to the preset.
        minutes: How long they stay; None until the session is finished.
        truth: What they know of the task.
        seed: Draws everything that they leave to chance.
    """

    preset: str
    people: int = 1
    rate: float | None = None
    minutes: float | None = None
    truth: str | None = None
    seed: int = 0


def check_installed() -> None:
    """Refuse to go on without the packages of the extra.

    Raises:
        UserError: Says how to install them.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ImportError as error:
        raise UserError(f"A session needs the package '{error.name}'; run {INSTALL}.") from error


def start(
    mode: str,
    title: str,
    make_config: Callable[[], Mapping[str, Any]],
    changed: Mapping[str, Any],
    options: ServerOptions,
    crowd: Crowd | None = None,
    making: Sequence[str] = (),
) -> int:
    """Serve a session until it is interrupted; return 0.

    Whatever can be refused is refused before anything is written.

    Args:
        mode: ``control``, ``text`` or ``rank``.
        title: What a new session's name begins with.
        make_config: Makes the config of a new session; only called for one.
        changed: Settings that were given, by key: they must not differ from an existing session's.
        making: Options that were given and only say how a new session is made.
        options: Where.
        crowd: Simulated people, or None.

    Raises:
        UserError: When something cannot be used; nothing is left half made.
    """
    check_installed()
    from textrl.feedback.people.process import People
    from textrl.feedback.server.auth import Tokens, is_loopback, make_tokens
    from textrl.feedback.server.serving import Server, bind

    token = options.token or os.environ.get("TEXTRL_TOKEN") or None
    if token is not None:
        Tokens(token, "x" * 32)
    if not is_loopback(options.host):
        _say(
            f"textrl: {options.host} can be reached from other machines: whoever has the link takes part, "
            "and the link and all answers travel unencrypted; use a network you trust, or a proxy with TLS."
        )
    listener = bind(options.host, options.port)
    with ExitStack() as stack:
        stack.callback(listener.close)
        opened = None
        if _is_there(options.store):
            opened = stack.enter_context(closing(open_store(options.store)))
        info, machine, progress, new = _session(opened, mode, title, make_config, changed, making, options)
        stack.callback(machine.close)
        if crowd is not None:
            People.check(crowd, info)
        store = opened or stack.enter_context(closing(open_store(options.store)))
        tokens = make_tokens(_token_file(options.store), token)
        if new:
            store.create_session(info)
        server = Server(store, tokens, listener, host=options.host, allow_hosts=options.allow_hosts)
        server.add(info, machine, progress)
        with _people(crowd, server, info) as people:
            server.run(lambda: _welcome(server, info, progress, people))
        # Not as it was typed: a database's address may hold a password.
        place = store.url if "://" in options.store else options.store
        _say(
            f"textrl: stopped; everything acknowledged is stored. To go on: textrl feedback {mode} "
            f"--store {shlex.quote(place)} --session {shlex.quote(info.session)}"
        )
        code: int = people.report()
        return code


def resume(store: FeedbackStore, info: SessionInfo) -> tuple[Machine, Progress]:
    """Build a session's machine and bring it to where the log ends."""
    from textrl.feedback.replay import rebuild
    from textrl.feedback.server.engine import Progress

    progress, began_s, told_s = Progress(), time.monotonic(), time.monotonic()

    def each(event: Any) -> None:
        nonlocal told_s
        progress.take(event, info.mode)
        if time.monotonic() - told_s > 5.0:
            told_s = time.monotonic()
            _say(f"textrl: going on from the log: {progress.applied} events, {told_s - began_s:.0f} s")

    return rebuild(store, info, each), progress


def versions() -> dict[str, str]:
    """Return the versions that a session's results depend on."""
    found = {"textrl": __version__, "python": sys.version.split()[0]}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _is_there(store: str) -> bool:
    """Tell whether there may be a store already."""
    return "://" in store or Path(store).exists()


def _token_file(store: str) -> Path:
    """Return where the tokens of a store are kept: beside its file, or for a database in the cache folder."""
    if "://" not in store:
        return Path(f"{store}.tokens")
    from textrl.data.cache import cache_dir

    # The address may hold a password, and must not be read off the file's name.
    return cache_dir() / f"feedback-{hashlib.sha256(store.encode()).hexdigest()[:16]}.tokens"


def _session(
    store: FeedbackStore | None,
    mode: str,
    title: str,
    make_config: Callable[[], Mapping[str, Any]],
    changed: Mapping[str, Any],
    making: Sequence[str],
    options: ServerOptions,
) -> tuple[SessionInfo, Machine, Progress, bool]:
    """Return the session to serve with its machine, and whether it is new, and not stored yet."""
    from textrl.feedback.server.engine import Progress

    known = {} if store is None else {info.session: info for info in store.sessions()}
    name = options.session or _fresh(title, known)
    if store is not None and name in known:
        info = _known(known[name], store, mode, changed, making)
        machine, progress = resume(store, info)
    else:
        # As it will be read back: lists where tuples are.
        config = json.loads(json.dumps(dict(make_config())))
        info = SessionInfo(session=name, mode=mode, created=time.time(), config=config, versions=versions())
        machine, progress = build_machine(info), Progress()
    if mode != "rank":
        machine.view("")  # the first picture and the first maps take longest; nobody waits yet
    return info, machine, progress, name not in known


def _known(
    info: SessionInfo, store: FeedbackStore, mode: str, changed: Mapping[str, Any], making: Sequence[str]
) -> SessionInfo:
    """Check that a session is what the command line says.

    Raises:
        UserError: When it is another one.
    """
    name = info.session
    if info.mode != mode:
        raise UserError(
            f"The session '{name}' in {store.url} is a {info.mode} session; run "
            f"'textrl feedback {info.mode}' or choose another --session."
        )
    for key, value in changed.items():
        if value != info.config.get(key):
            raise UserError(
                f"The session '{name}' was started with {key} {info.config.get(key)}, not {value}; leave "
                "the option out to go on, or choose another --session."
            )
    if making:
        raise UserError(
            f"The session '{name}' is there already, with all that it shows; leave {' and '.join(making)} "
            "out to go on, or choose another --session."
        )
    theirs, ours = dict(info.versions), versions()
    other = [key for key in theirs if key in ours and theirs[key] != ours[key]]
    if other:
        listed = ", ".join(f"{key} {theirs[key]} (now {ours[key]})" for key in other)
        _say(f"textrl: the session was started with {listed}; its numbers may round otherwise here.")
    return info


def _fresh(title: str, known: Mapping[str, Any]) -> str:
    slug = _SLUG.sub("-", title.lower()).strip("-")[:48] or "session"
    number = 1
    while f"{slug}-{number}" in known:
        number += 1
    return f"{slug}-{number}"


@contextmanager
def _people(crowd: Crowd | None, server: Server, info: SessionInfo) -> Iterator[Any]:
    from textrl.feedback.people.process import People

    people = People(crowd, server, info)
    try:
        yield people
    finally:
        people.close()


def _welcome(server: Server, info: SessionInfo, progress: Progress, people: Any) -> None:
    """Say where the page is. On the loop's thread, once the server answers."""
    if progress.applied:
        _say(f"textrl: session '{info.session}' goes on after {progress.applied} events")
    else:
        _say(f"textrl: session '{info.session}' begins")
    mine = server.link(owner=True, session=info.session)
    theirs = server.link(owner=False, session=info.session, elsewhere=True)
    print(f"Open:  {mine}\nShare: {theirs}", flush=True)  # noqa: T201
    _say("textrl: the first link is yours alone; Ctrl-C stops, and everything acknowledged is stored")
    people.start()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
