"""A store in one SQLite file, which one server writes and anybody reads.

One connection writes, under a lock of its own: SQLite before 3.51.3 can lose a transaction when two
connections reset the write-ahead log at once, and two servers would number each other's events. A commit
only writes the log (``synchronous=NORMAL``), which the system keeps when the process is killed; `sync` has it
put the log on the disk, from another thread, since a disk now and then takes a second.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from textrl.errors import UserError
from textrl.feedback.events import Event, NewEvent
from textrl.feedback.store.base import (
    COLUMNS,
    SessionInfo,
    StoreError,
    StoreFull,
    check_info,
    check_new,
    event_of,
    find_session,
    info_of,
    stored,
)
from textrl.feedback.store.sqlite_file import CREATE, GUARDS, check_schema, take_lock

_PAGE = 2_000  # events read at a time
#: Pages of the log, 64 MiB, after which a commit moves them into the file and waits for the disk.
_CHECKPOINT = 16_000
_COLUMNS = ", ".join(COLUMNS)
_ASK = f"SELECT {_COLUMNS} FROM events WHERE uuid = ?"
_INSERT = f"INSERT INTO events ({_COLUMNS}) VALUES (NULL{', ?' * 9})"
_SYNC = getattr(os, "fdatasync", os.fsync)
_LATEST = "SELECT t_server FROM events WHERE session = ? ORDER BY seq DESC LIMIT 1"


class SqliteStore:
    """See `textrl.feedback.store.base.FeedbackStore`."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        """Open or make a store.

        Args:
            path: The file; its folder must exist.
            readonly: Only read.

        Raises:
            UserError: See `textrl.feedback.store.base.open_store`.
        """
        self.path = path.expanduser().absolute()
        self._readonly = readonly
        self._guard = threading.Lock()
        self._lock: int | None = None
        self._syncing = threading.Lock()
        self._log: int | None = None  # a handle of the write-ahead log
        self._has_log = True
        self._doubt: str | None = None  # why the log's pages may not be on the disk, whatever the system says
        self._write: sqlite3.Connection | None = None
        self._known: set[str] = set()
        self._last: dict[str, float] = {}  # session -> largest t_server
        if readonly and not self.path.is_file():
            raise UserError(f"{path}: there is no such store of feedback sessions.")
        if not self.path.parent.is_dir():
            raise UserError(f"{path}: the folder '{self.path.parent}' does not exist; make it first.")
        new = {file for file in (self.path, Path(f"{self.path}.lock")) if not file.exists()}
        try:
            if readonly:
                self._reader().close()
            else:
                self._open_for_writing()
        except sqlite3.Error as error:
            self._undo(new)
            raise UserError(f"{path}: this is no feedback store that can be opened ({error}).") from None
        except BaseException:
            self._undo(new)
            raise

    def _undo(self, new: set[Path]) -> None:
        """Leave nothing behind of a store that could not be opened."""
        held = self._lock is not None
        self.close()
        for file in new if held else ():
            file.unlink(missing_ok=True)

    @property
    def url(self) -> str:
        """The path."""
        return str(self.path)

    def create_session(self, info: SessionInfo) -> None:
        """Add a session; see the protocol."""
        config, versions = check_info(info)
        with self._transaction() as write:
            if write.execute("SELECT 1 FROM sessions WHERE session = ?", (info.session,)).fetchone():
                raise UserError(
                    f"{self.path}: there is a session '{info.session}' already; choose another name."
                )
            row = (info.session, info.mode, float(info.created), config, versions)
            write.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", row)
        self.sync()

    def sessions(self) -> list[SessionInfo]:
        """Return all sessions; see the protocol."""
        with self._reading() as read:
            return [info_of(row) for row in read.execute("SELECT * FROM sessions ORDER BY rowid")]

    def session(self, name: str) -> SessionInfo:
        """Return one session; see the protocol."""
        return find_session(name, self.sessions(), str(self.path))

    def append(self, events: Sequence[NewEvent]) -> list[Event]:
        """Store events in one transaction; see the protocol."""
        payloads = [check_new(event) for event in events]
        done: list[Event] = []
        last = dict(self._last)
        with self._transaction() as write:
            for event, payload in zip(events, payloads, strict=True):
                there = write.execute(_ASK, (event.uuid,)).fetchone()
                done.append(event_of(there) if there else self._insert(write, event, payload, last))
        self._last = last
        return done

    def _insert(
        self, write: sqlite3.Connection, event: NewEvent, payload: str, last: dict[str, float]
    ) -> Event:
        name = event.session
        if name not in self._known:
            if not write.execute("SELECT 1 FROM sessions WHERE session = ?", (name,)).fetchone():
                raise UserError(f"{self.path}: there is no session '{name}' to store an event in.")
            self._known.add(name)
        if name not in last:
            found = write.execute(_LATEST, (name,)).fetchone()
            last[name] = found[0] if found else float("-inf")
        # Threads stamp events before they queue for the store, and computers' clocks are set back: what is
        # stored later never claims to be earlier.
        last[name] = max(last[name], float(event.t_server))
        when = (event.t_client, last[name], event.env_step, event.frame_id)
        row = (event.uuid, name, event.annotator, *when, event.kind, payload)
        seq = write.execute(_INSERT, row).lastrowid
        assert seq is not None
        return stored(event, seq, payload, last[name])

    def sync(self) -> None:
        """Put the write-ahead log on the disk; see the protocol."""
        with self._syncing:
            if not self._has_log:
                return  # each commit was synchronised
            try:
                if self._log is None:
                    # SQLite follows links, and puts the log beside what they lead to.
                    self._log = os.open(f"{os.path.realpath(self.path)}-wal", os.O_RDWR | os.O_CLOEXEC)
                if self._doubt is None:
                    _SYNC(self._log)
            except OSError as error:
                self._doubt = str(error.strerror)
            if self._doubt is not None:
                # The system calls pages clean that it failed to write: only writing them elsewhere helps.
                self._rewrite(self._doubt)
                self._doubt = None

    def _rewrite(self, why: str) -> None:
        """Move the log into the file, which SQLite synchronises itself."""
        with self._guard:
            if self._write is None:
                raise StoreError(f"{self.path}: nothing can be stored, for it is closed.")
            try:
                (busy, *_) = self._write.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
            except sqlite3.Error as error:
                raise _store_error(self.path, error) from error
        if busy:
            raise StoreError(f"{self.path}: nothing is being stored ({why}); check the disk.")

    def find(self, uuid: str) -> Event | None:
        """Return the event of a uuid; see the protocol."""
        with self._reading() as read:
            row = read.execute(_ASK, (uuid,)).fetchone()
        return None if row is None else event_of(row)

    def events(
        self, session: str | None, after: int = 0, kinds: Collection[str] | None = None
    ) -> Iterator[Event]:
        """Yield events; see the protocol."""
        with self._reading() as read:
            (end,) = read.execute("SELECT ifnull(max(seq), 0) FROM events").fetchone()
            while rows := read.execute(*_select(session, after, end, kinds)).fetchall():
                yield from map(event_of, rows)
                after = rows[-1][0]

    def check(self) -> list[str]:
        """Return what is wrong with the file by SQLite's own checks, and which triggers are missing."""
        try:
            with self._reading() as read:
                found = [row[0] for row in read.execute("PRAGMA integrity_check") if row[0] != "ok"]
                found += [
                    f"row {row[1]} of {row[0]} refers to nothing"
                    for row in read.execute("PRAGMA foreign_key_check")
                ]
                triggers = read.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
                gone = GUARDS - {name for (name,) in triggers}
        except StoreError as error:
            return [str(error)]
        found += [f"the trigger {name} is gone, so that rows could be altered" for name in sorted(gone)]
        return [f"{self.path}: {line}." for line in found]

    def close(self) -> None:
        """Close the connection, which moves the write-ahead log into the file, and give the lock back."""
        with self._syncing, self._guard:
            if self._write is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._write.close()
                self._write = None
            for handle in (self._log, self._lock):
                if handle is not None:
                    os.close(handle)
            self._log = self._lock = None

    def _open_for_writing(self) -> None:
        self._lock = take_lock(self.path)
        # One thread at a time uses it, which self._guard sees to.
        self._write = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=5)
        empty = not self._write.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if not empty:
            check_schema(self._write, self.path)
        # Without shared memory, as on some network drives, there is no such log.
        self._has_log = self._write.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        durable = "NORMAL" if self._has_log else "FULL"
        for setting in (
            f"synchronous = {durable}",
            "foreign_keys = ON",
            f"wal_autocheckpoint = {_CHECKPOINT}",
        ):
            self._write.execute(f"PRAGMA {setting}")
        if empty:
            try:
                self._write.executescript(CREATE)
            except sqlite3.Error as error:
                raise _store_error(self.path, error) from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guard:
            if self._write is None:
                why = "it was opened for reading" if self._readonly else "it is closed"
                raise StoreError(f"{self.path}: nothing can be stored, for {why}.")
            try:
                self._write.execute("BEGIN IMMEDIATE")
                yield self._write
                self._write.execute("COMMIT")
            except sqlite3.Error as error:
                self._roll_back(self._write)
                raise _store_error(self.path, error) from error
            except BaseException:
                self._roll_back(self._write)
                raise

    @staticmethod
    def _roll_back(write: sqlite3.Connection) -> None:
        if write.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                write.execute("ROLLBACK")

    def _reader(self) -> sqlite3.Connection:
        """Open a connection that reads, one for each use: threads share none."""
        uri = f"file:{quote(str(self.path))}?mode=ro"
        if not os.access(self.path.parent, os.W_OK) and not Path(f"{self.path}-wal").exists():
            uri += "&immutable=1"  # without a log nobody writes, and SQLite could make no index of it here
        read = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5)
        try:
            check_schema(read, self.path)
        except BaseException:
            read.close()
            raise
        return read

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        read = None
        try:
            read = self._reader()
            yield read
        except sqlite3.Error as error:
            raise StoreError(f"{self.path}: the store cannot be read ({error}).") from error
        finally:
            if read is not None:
                read.close()


def _select(
    session: str | None, after: int, end: int, kinds: Collection[str] | None
) -> tuple[str, tuple[Any, ...]]:
    where, values = "seq > ? AND seq <= ?", [after, end]
    more: list[str] = []
    if session is not None:
        where += " AND session = ?"
        more.append(session)
    if kinds is not None:
        where += f" AND kind IN ({', '.join('?' * len(kinds))})"
        more += sorted(kinds)
    return f"SELECT {_COLUMNS} FROM events WHERE {where} ORDER BY seq LIMIT {_PAGE}", (*values, *more)


def _store_error(path: Path, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte; the rest says where it happened
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"{path}: the disk is full: nothing more is being stored until there is room.")
    return StoreError(f"{path}: nothing is being stored ({error}); check the disk.")
