"""What only the SQLite store promises: its file, its lock, its triggers, and what a full disk does."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from store_events import made_event, made_session

from textrl.data.preferences.sources import open_source
from textrl.errors import UserError
from textrl.feedback.store import StoreError, StoreFull, open_store, sqlite
from textrl.feedback.store.sqlite import SqliteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "sessions.sqlite")
    made.create_session(made_session())
    yield made
    made.close()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET payload = '{}'",
        "UPDATE OR REPLACE events SET seq = 9",
        "DELETE FROM events",
        "REPLACE INTO events SELECT * FROM events",
        "REPLACE INTO events SELECT seq + 7, uuid, session, annotator, 1, 1, 1, 1, kind, '{}' FROM events",
        "UPDATE sessions SET config = '{}'",
        "DELETE FROM sessions",
        "REPLACE INTO sessions SELECT session, 'text', created, config, versions FROM sessions",
    ],
)
def test_nothing_is_changed_or_deleted_by_whatever_program(store: SqliteStore, change: str) -> None:
    done = store.append([made_event()])
    other = sqlite3.connect(store.path)
    with pytest.raises(sqlite3.IntegrityError, match="only grows"):
        other.execute(change)
    other.close()
    assert list(store.events("s")) == done
    assert store.session("s") == made_session()


@pytest.mark.parametrize(
    "row",
    [
        "(NULL, 'u', 's', 'a', 1, 1, NULL, NULL, 'press', 'no json')",
        "(NULL, 'u', 'nobody', 'a', 1, 1, NULL, NULL, 'press', '{}')",
        "(NULL, 'u', 's', 'a', 'soon', 1, NULL, NULL, 'press', '{}')",
        "(NULL, NULL, 's', 'a', 1, 1, NULL, NULL, 'press', '{}')",
    ],
)
def test_rows_that_mean_nothing_are_refused_by_the_file_itself(store: SqliteStore, row: str) -> None:
    other = sqlite3.connect(store.path)
    other.execute("PRAGMA foreign_keys = ON")
    with pytest.raises(sqlite3.IntegrityError):
        other.execute(f"INSERT INTO events VALUES {row}")
    other.close()


def test_synchronising_reaches_the_log_that_sqlite_writes(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store._write is not None
    assert store._write.execute("PRAGMA synchronous").fetchone() == (1,)  # NORMAL: checkpoints are safe
    synchronised: list[tuple[int, int]] = []
    monkeypatch.setattr(sqlite, "_SYNC", lambda handle: synchronised.append(_size_of(os.fstat(handle))))
    for _ in range(3):  # after a checkpoint SQLite begins the log anew: it must be the same file still
        store.append([made_event(payload={"text": "x" * 100_000}) for _ in range(3)])
        assert store._write.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0] == 0
        store.append([made_event()])
        store.sync()
        assert synchronised[-1] == _size_of(os.stat(f"{store.path}-wal"))
    assert len(synchronised) == 3


def _size_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_ino, found.st_size


def test_a_disk_that_refused_the_log_is_given_the_file_itself(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """After a failed fsync the next may succeed without writing anything, so it must not be believed."""

    def fails(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(sqlite, "_SYNC", fails)
    store.append([made_event(), made_event()])
    store.sync()
    without_log = tmp_path / "copy.sqlite"
    without_log.write_bytes(store.path.read_bytes())
    copy = open_store(without_log, readonly=True)
    assert list(copy.events("s")) == list(store.events("s"))
    assert len(list(copy.events("s"))) == 2
    copy.close()


def test_a_disk_that_failed_once_is_not_believed_until_the_file_has_the_log(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[OSError | None] = [OSError(5, "Input/output error")]

    def once(handle: int) -> None:
        if answers and (error := answers.pop()) is not None:
            raise error

    monkeypatch.setattr(sqlite, "_SYNC", once)
    store.append([made_event()])
    reader = sqlite3.connect(store.path, isolation_level=None)  # keeps the log from being moved as a whole
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchone()
    store.append([made_event()])
    assert store._write is not None
    store._write.execute("PRAGMA busy_timeout = 10")
    for _ in range(2):
        with pytest.raises(StoreError, match="Input/output error"):
            store.sync()
    reader.close()
    store.sync()
    assert store._write.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[0] == 0


def test_a_store_behind_a_link_is_synchronised_where_the_link_leads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.sqlite"
    link.symlink_to(tmp_path / "real" / "file.sqlite")
    synchronised: list[int] = []
    monkeypatch.setattr(sqlite, "_SYNC", lambda handle: synchronised.append(os.fstat(handle).st_ino))
    store = SqliteStore(link)
    store.create_session(made_session())
    assert synchronised == [(tmp_path / "real" / "file.sqlite-wal").stat().st_ino]
    store.close()


def test_a_drive_without_shared_memory_has_each_commit_synchronised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite keeps no write-ahead log there; its file system "unix-none" is such a drive."""
    connect = sqlite3.connect

    def on_such_a_drive(path: Any, **more: Any) -> sqlite3.Connection:
        return connect(path if more.get("uri") else f"file:{path}?vfs=unix-none", **more | {"uri": True})

    monkeypatch.setattr(sqlite3, "connect", on_such_a_drive)
    store = SqliteStore(tmp_path / "s.sqlite")
    store.create_session(made_session())
    (done,) = store.append([made_event()])
    store.sync()
    assert store._write is not None
    assert store._write.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert store._write.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert list(store.events("s")) == [done]
    store.close()


def test_another_process_cannot_write_the_store(store: SqliteStore) -> None:
    code = f"from textrl.feedback.store import open_store; open_store({str(store.path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        f"another server (process {os.getpid()}) writes this store; stop it, or give this one another file."
    )


def test_readers_do_not_need_the_lock(store: SqliteStore) -> None:
    done = store.append([made_event()])
    code = (
        "from textrl.feedback.store import open_store\n"
        f"print(len(list(open_store({str(store.path)!r}, readonly=True).events('s'))))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (out.stdout, out.stderr) == (f"{len(done)}\n", "")


def test_a_store_of_a_newer_version_is_named(store: SqliteStore) -> None:
    store.close()
    other = sqlite3.connect(store.path)
    other.execute("PRAGMA user_version = 7")
    other.close()
    for readonly in (False, True):
        with pytest.raises(UserError, match=r"newer textrl \(schema 7; this one knows 1\); update textrl"):
            open_store(store.path, readonly=readonly)


@pytest.mark.parametrize("readonly", [False, True])
@pytest.mark.parametrize("what", ["text", "foreign"])
def test_a_file_that_is_no_store(tmp_path: Path, what: str, readonly: bool) -> None:
    path = tmp_path / "x.sqlite"
    if what == "text":
        path.write_text("prompt,answer\n" * 100)
    else:
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE events (seq INTEGER)")
        other.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"no feedback store") as caught:
        open_store(path, readonly=readonly)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before


def test_places_where_no_store_can_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such store"):
        open_store(tmp_path / "none.sqlite", readonly=True)
    with pytest.raises(UserError, match="does not exist; make it first"):
        open_store(tmp_path / "no" / "x.sqlite")
    with pytest.raises(UserError, match="neither the path"):
        open_store("mysql://root@localhost/x")
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_postgresql_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("textrl.feedback.store.postgres", "sqlalchemy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"run pip install 'textrl-mdp\[postgres\]'"):
        open_store("postgresql://lab@localhost/study")


def test_a_full_disk_is_told_and_what_follows_is_stored(store: SqliteStore) -> None:
    (pages,) = store._write.execute("PRAGMA page_count").fetchone()  # type: ignore[union-attr]
    store._write.execute(f"PRAGMA max_page_count = {pages + 2}")  # type: ignore[union-attr]
    small, large = made_event(), [made_event(payload={"text": "x" * 5_000}) for _ in range(10)]
    store.append([small])
    with pytest.raises(StoreFull, match="the disk is full: nothing more is being stored"):
        store.append(large)
    assert [event.uuid for event in store.events("s")] == [small.uuid]
    store._write.execute("PRAGMA max_page_count = 100000")  # type: ignore[union-attr]
    assert len(store.append(large)) == 10


def test_check_finds_a_missing_trigger_and_a_damaged_page(store: SqliteStore) -> None:
    store.append([made_event(payload={"text": "x" * 3_000}) for _ in range(50)])
    store._write.execute("DROP TRIGGER events_deleted")  # type: ignore[union-attr]
    assert [line.split(": ")[1] for line in store.check()] == [
        "the trigger events_deleted is gone, so that rows could be altered."
    ]
    store.close()
    data = bytearray(store.path.read_bytes())
    start = len(data) // 4096 // 2 * 4096
    data[start : start + 4096] = b"\xff" * 4096
    store.path.write_bytes(data)
    (found,) = open_store(store.path, readonly=True).check()
    assert "malformed" in found


def test_a_store_left_by_a_crash_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    sqlite3.connect(path).execute("PRAGMA journal_mode = WAL").connection.close()  # made, but no tables yet
    store = open_store(path)
    store.create_session(made_session())
    assert store.append([made_event()])[0].seq == 1
    store.close()


def test_judgements_are_read_from_the_file_by_the_importer(store: SqliteStore) -> None:
    payload = {"prompt": "p", "completions": ["a", "b"], "ranks": [1, 2]}
    done = store.append([made_event(kind="ranked", payload=payload), made_event()])
    read = [record for _, record in open_source(store.path)]
    assert [record["seq"] for record in read] == [event.seq for event in done]
    assert read[0]["payload"] == payload
