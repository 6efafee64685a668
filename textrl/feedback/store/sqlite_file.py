"""The SQLite file of a store: its tables, its version, and the lock that one writer holds."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from textrl.errors import UserError
from textrl.feedback.store.base import SCHEMA, StoreUsed

#: "txrl": tells a store of ours from another program's SQLite file.
APPLICATION = 0x7478726C
_TABLES = """
CREATE TABLE sessions (
    session TEXT PRIMARY KEY, mode TEXT NOT NULL, created REAL NOT NULL,
    config TEXT NOT NULL CHECK (json_valid(config)), versions TEXT NOT NULL CHECK (json_valid(versions))
) STRICT;
CREATE TABLE events (
    seq INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, session TEXT NOT NULL REFERENCES sessions,
    annotator TEXT NOT NULL, t_client REAL, t_server REAL NOT NULL, env_step INTEGER, frame_id INTEGER,
    kind TEXT NOT NULL, payload TEXT NOT NULL CHECK (json_valid(payload))
) STRICT;
CREATE INDEX events_of_session ON events (session, seq);
"""
_GUARD = """
CREATE TRIGGER {table}_{word} BEFORE {verb} ON {table} {when}
BEGIN SELECT RAISE(ABORT, 'a feedback store only grows: {table} cannot be {word}'); END;
"""
_VERBS = {"changed": "UPDATE", "deleted": "DELETE", "replaced": "INSERT"}
#: What a row that is there already has in common with a new one; REPLACE would delete it without a word.
_SAME = {"sessions": "session = NEW.session", "events": "uuid = NEW.uuid OR seq = NEW.seq"}
#: Names of the triggers that every store has.
GUARDS = frozenset(f"{table}_{word}" for table in _SAME for word in _VERBS)


def _guard(table: str, word: str) -> str:
    when = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {_SAME[table]})" if word == "replaced" else ""
    return _GUARD.format(table=table, word=word, verb=_VERBS[word], when=when)


#: Makes an empty file a store, in one transaction.
CREATE = "".join(
    (
        "BEGIN;",
        _TABLES,
        *(_guard(table, word) for table in _SAME for word in _VERBS),
        f"PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {SCHEMA}; COMMIT;",
    )
)


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what is no store, or one of a newer textrl.

    Raises:
        UserError: On either.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
        raise UserError(
            f"{path}: this is a SQLite file of another program and no feedback store; give another path."
        )
    if version > SCHEMA:
        raise UserError(
            f"{path}: the store was written by a newer textrl (schema {version}; this one knows {SCHEMA}); "
            "update textrl."
        )


def take_lock(path: Path) -> int:
    """Take the lock that one writer holds; the system gives it back when the process ends, however it does.

    The lock is a file of its own: closing any other handle of the database would drop SQLite's own locks.

    Returns:
        The handle that holds it; closing it gives the lock back.

    Raises:
        StoreUsed: When another server has it.
        UserError: When the file beside the store cannot be made.
    """
    import fcntl  # here: Windows has none, and readers need none

    try:
        handle = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        why = error.strerror
        raise UserError(f"{path}: the store cannot be written ({why}); choose another path.") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(handle)
        raise StoreUsed(
            f"{path}: another server (process {owner}) writes this store; stop it, or give this one another "
            "file."
        ) from None
    with contextlib.suppress(OSError):  # a full disk: who holds it is worth knowing, and no more than that
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    return handle
