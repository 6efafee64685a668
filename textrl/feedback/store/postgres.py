"""A store in a PostgreSQL database, for several servers on several machines.

A session is written by one server at a time, which holds an advisory lock of the session's name for as long
as it is connected. Writers wait for each other, transaction by transaction: so numbers become visible in
their order, and a reader that saw one has seen all before it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from typing import Any

from textrl.errors import UserError

try:
    import psycopg  # noqa: F401 (SQLAlchemy asks for it by name, and only when it connects)
    from sqlalchemy import Connection, create_engine, func, select, text
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError
except ImportError:
    raise UserError(
        "A store in PostgreSQL needs SQLAlchemy and psycopg; run pip install 'textrl-mdp[postgres]'."
    ) from None

from textrl.feedback.events import Event, NewEvent
from textrl.feedback.store.base import (
    COLUMNS,
    SessionInfo,
    StoreError,
    StoreFull,
    StoreUsed,
    check_info,
    check_new,
    event_of,
    find_session,
    info_of,
    stored,
)
from textrl.feedback.store.postgres_tables import (
    EVENTS,
    GUARDS,
    LOCK,
    NAMESPACE,
    SESSIONS,
    check_schema,
    create,
)

_PAGE = 2_000  # events read at a time
_ROW = [EVENTS.c[name] for name in COLUMNS]
_INFO = [SESSIONS.c[name] for name in ("session", "mode", "created", "config", "versions")]
_FULL = "53100"  # SQLSTATE disk_full
_CONNECT_S = 10


class PostgresStore:
    """See `textrl.feedback.store.base.FeedbackStore`."""

    def __init__(self, url: str, *, readonly: bool = False) -> None:
        """Connect, and make the tables where there are none.

        Args:
            url: ``postgresql://user:password@host/database``.
            readonly: Only read.

        Raises:
            UserError: See `textrl.feedback.store.base.open_store`.
        """
        try:
            parsed = make_url(url).set(drivername="postgresql+psycopg")
        except (SQLAlchemyError, ValueError):  # ValueError: a port that is no number
            raise UserError(
                "The address of the store cannot be read; write postgresql://user:password@host/database."
            ) from None
        self._url = parsed.set(drivername="postgresql").render_as_string(hide_password=True)
        self._readonly = readonly
        self._guard = threading.Lock()
        self._write: Connection | None = None
        self._closed = False
        self._known: set[str] = set()  # sessions that are there and whose lock is held
        options = f"-c synchronous_commit=on -c default_transaction_read_only={'on' if readonly else 'off'}"
        self._engine = create_engine(
            parsed, connect_args={"options": options, "connect_timeout": _CONNECT_S}, pool_pre_ping=True
        )
        try:
            self._prepare()
        except (SQLAlchemyError, StoreError) as error:
            self.close()
            cause = error.__cause__ if isinstance(error, StoreError) else error
            raise UserError(f"{self._url}: the store cannot be opened ({_reason(cause)}).") from None
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The address, with stars for the password."""
        return self._url

    def create_session(self, info: SessionInfo) -> None:
        """Add a session; see the protocol."""
        config, versions = check_info(info)
        with self._transaction() as write:
            if write.execute(select(SESSIONS.c.mode).filter_by(session=info.session)).first():
                raise UserError(
                    f"{self._url}: there is a session '{info.session}' already; choose another name."
                )
            row = {"session": info.session, "mode": info.mode, "created": float(info.created)}
            write.execute(SESSIONS.insert().values(**row, config=config, versions=versions))

    def sessions(self) -> list[SessionInfo]:
        """Return all sessions; see the protocol."""
        with self._reading() as read:
            rows = read.execute(select(*_INFO).order_by(SESSIONS.c.number)).all()
        return [info_of(row) for row in rows]

    def session(self, name: str) -> SessionInfo:
        """Return one session; see the protocol."""
        return find_session(name, self.sessions(), self._url)

    def append(self, events: Sequence[NewEvent]) -> list[Event]:
        """Store events in one transaction; see the protocol."""
        payloads = [check_new(event) for event in events]
        if not events:
            return []
        with self._transaction() as write:
            for name in {event.session for event in events} - self._known:
                self._claim(write, name)
            asked = select(*_ROW).where(EVENTS.c.uuid.in_({event.uuid for event in events}))
            there = {row.uuid: event_of(row) for row in write.execute(asked)}
            numbers = self._numbers(write, len({event.uuid for event in events} - there.keys()))
            last: dict[str, float] = {}
            rows: list[dict[str, Any]] = []
            for event, payload in zip(events, payloads, strict=True):
                if event.uuid in there:
                    continue
                name = event.session
                if name not in last:
                    last[name] = self._latest(write, name)
                # What is stored later never claims to be earlier, whatever the servers' clocks say.
                last[name] = max(last[name], float(event.t_server))
                made = stored(event, next(numbers), payload, last[name])
                there[event.uuid] = made
                rows.append({**{key: getattr(made, key) for key in COLUMNS}, "payload": payload})
            if rows:
                write.execute(EVENTS.insert(), rows)
        return [there[event.uuid] for event in events]

    def sync(self) -> None:
        """Nothing is left to do: PostgreSQL synchronises each commit; see the protocol."""

    def find(self, uuid: str) -> Event | None:
        """Return the event of a uuid; see the protocol."""
        with self._reading() as read:
            row = read.execute(select(*_ROW).where(EVENTS.c.uuid == uuid)).first()
        return None if row is None else event_of(row)

    def events(
        self, session: str | None, after: int = 0, kinds: Collection[str] | None = None
    ) -> Iterator[Event]:
        """Yield events; see the protocol."""
        with self._reading() as read:
            end = read.execute(select(func.coalesce(func.max(EVENTS.c.seq), 0))).scalar_one()
            query = select(*_ROW).where(EVENTS.c.seq <= end).order_by(EVENTS.c.seq).limit(_PAGE)
            if session is not None:
                query = query.where(EVENTS.c.session == session)
            if kinds is not None:
                query = query.where(EVENTS.c.kind.in_(sorted(kinds)))
            while rows := read.execute(query.where(EVENTS.c.seq > after)).all():
                yield from map(event_of, rows)
                after = rows[-1].seq

    def check(self) -> list[str]:
        """Return which triggers are missing or switched off, and what cannot be read."""
        enabled = (
            "SELECT tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid WHERE tgenabled <> 'D' "
            f"AND NOT tgisinternal AND relnamespace = '{NAMESPACE}'::regnamespace"
        )
        lost = (
            f"SELECT count(*) FROM {NAMESPACE}.events e LEFT JOIN {NAMESPACE}.sessions s USING (session) "
            "WHERE s.session IS NULL OR e.payload::json IS NULL"
        )
        try:
            with self._reading() as read:
                gone = GUARDS - set(read.execute(text(enabled)).scalars())
                count = read.execute(text(lost)).scalar_one()
        except StoreError as error:
            return [str(error)]
        found = [f"the trigger {name} is gone, so that rows could be altered" for name in sorted(gone)]
        if count:
            found.append(f"{count} events belong to no session")
        return [f"{self._url}: {line}." for line in found]

    def close(self) -> None:
        """Disconnect, which gives the sessions back."""
        with self._guard:
            self._closed = True
            self._drop()
            self._engine.dispose()

    def _prepare(self) -> None:
        if self._readonly:
            with self._engine.connect() as read:
                if not check_schema(read, self._url):
                    raise UserError(f"{self._url}: there is no store of feedback sessions in this database.")
            return
        with self._transaction() as write:
            if not check_schema(write, self._url):
                create(write)

    def _claim(self, write: Connection, name: str) -> None:
        """Become the one server that writes a session."""
        if write.execute(select(SESSIONS.c.mode).filter_by(session=name)).first() is None:
            raise UserError(f"{self._url}: there is no session '{name}' to store an event in.")
        key = int.from_bytes(sha256(f"{NAMESPACE}\0{name}".encode()).digest()[:8], "big", signed=True)
        if not write.execute(select(func.pg_try_advisory_lock(key))).scalar():
            raise StoreUsed(f"{self._url}: another server writes the session '{name}'; stop it first.")
        self._known.add(name)

    def _numbers(self, write: Connection, count: int) -> Iterator[int]:
        """Return as many new numbers; the transaction's lock keeps them in the order of the commits."""
        sequence = f"SELECT nextval(pg_get_serial_sequence('{NAMESPACE}.events', 'seq'))"
        query = text(f"{sequence} FROM generate_series(1, :count)")
        return iter(sorted(write.execute(query, {"count": count}).scalars()))

    def _latest(self, write: Connection, name: str) -> float:
        query = select(EVENTS.c.t_server).filter_by(session=name).order_by(EVENTS.c.seq.desc()).limit(1)
        latest = write.execute(query).scalar()
        return float("-inf") if latest is None else float(latest)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._guard:
            if self._readonly or self._closed:
                why = "it is closed" if self._closed else "it was opened for reading"
                raise StoreError(f"{self._url}: nothing can be stored, for {why}.")
            try:
                if self._write is None:
                    self._write = self._engine.connect()
                with self._write.begin():
                    self._write.execute(select(func.pg_advisory_xact_lock(LOCK)))
                    yield self._write
            except SQLAlchemyError as error:
                # The locks of sessions went with the connection; a new one takes them again.
                self._drop()
                raise _store_error(self._url, error) from error

    def _drop(self) -> None:
        self._known.clear()
        if self._write is not None:
            with contextlib.suppress(SQLAlchemyError):
                self._write.invalidate()
                self._write.close()
            self._write = None

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as read:
                yield read
        except SQLAlchemyError as error:
            raise StoreError(f"{self._url}: the store cannot be read ({_reason(error)}).") from error


def _store_error(url: str, error: SQLAlchemyError) -> StoreError:
    origin = error.orig if isinstance(error, DBAPIError) else None
    if getattr(origin, "sqlstate", None) == _FULL:
        return StoreFull(
            f"{url}: the disk of the database is full: nothing more is being stored until there is room."
        )
    return StoreError(f"{url}: nothing is being stored ({_reason(error)}); check the database.")


def _reason(error: BaseException | None) -> str:
    """Return the first line of what went wrong; the rest is the statement, which may be long."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    lines = str(origin).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
