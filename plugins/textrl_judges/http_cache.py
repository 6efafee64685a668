"""Answers of an HTTP judge, kept in SQLite by the content that was asked about."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textrl.errors import UserError

_TABLE = (
    "CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, score REAL NOT NULL) STRICT, WITHOUT ROWID"
)
_BATCH = 500


def content_key(url: str, version: str, item: Mapping[str, Any]) -> bytes:
    """Return the SHA-256 of all that an answer depends on."""
    text = json.dumps([url, version, item], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).digest()


class AnswerCache:
    """Scores by key; in memory without a file. Several processes may share a file."""

    def __init__(self, file: Path | None) -> None:
        """Open the file, or make it.

        Raises:
            UserError: When it cannot be made, or is no such file.
        """
        self.file = file
        self._lock = threading.Lock()
        try:
            if file is not None:
                file.expanduser().parent.mkdir(parents=True, exist_ok=True)
            place = ":memory:" if file is None else file.expanduser()
            # Requests end in threads of their own; the lock keeps them apart.
            self._base = sqlite3.connect(place, timeout=30, check_same_thread=False, isolation_level=None)
            weakref.finalize(self, self._base.close)
            self._base.execute(_TABLE)
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"the cache {file} cannot be opened ({error}); name another file.") from error

    def get(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Return the scores that are known.

        Raises:
            UserError: When the file is damaged.
        """
        found: dict[bytes, float] = {}
        with self._lock:
            for start in range(0, len(keys), _BATCH):
                part = list(keys[start : start + _BATCH])
                marks = ",".join("?" * len(part))
                try:
                    rows = self._base.execute(f"SELECT key, score FROM answers WHERE key IN ({marks})", part)
                    found.update(rows.fetchall())
                except sqlite3.Error as error:
                    raise self._broken(error) from error
        return found

    def put(self, scores: Mapping[bytes, float]) -> None:
        """Keep scores; one transaction, so that a crash keeps all of them or none.

        Raises:
            UserError: When the disk is full or the file is damaged.
        """
        with self._lock:
            try:
                self._base.execute("BEGIN IMMEDIATE")
                self._base.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", list(scores.items()))
                self._base.execute("COMMIT")
            except sqlite3.Error as error:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise self._broken(error) from error

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def _broken(self, error: sqlite3.Error) -> UserError:
        return UserError(f"the cache {self.file} cannot be used ({error}); delete it or name another file.")
