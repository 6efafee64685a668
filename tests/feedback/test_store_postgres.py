"""What only the PostgreSQL store promises, with a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from postgres_server import Postgres, running
from store_events import made_event, made_session

from textrl.errors import UserError
from textrl.feedback.store import GroupWriter, StoreError, open_store


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    yield from running()


@pytest.fixture(scope="module")
def database(server: Postgres) -> str:
    return server.database("own")


@pytest.fixture
def store(database: str) -> Iterator[Any]:
    """The store with a fresh session, which is its last."""
    made = open_store(database)
    made.create_session(made_session(f"s{len(made.sessions())}"))
    yield made
    made.close()


def _execute(url: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE textrl_feedback.events SET payload = '{}'",
        "DELETE FROM textrl_feedback.events",
        "TRUNCATE textrl_feedback.events",
        "UPDATE textrl_feedback.sessions SET mode = 'text'",
        "TRUNCATE textrl_feedback.sessions CASCADE",
    ],
)
def test_nothing_is_changed_or_deleted(store: Any, database: str, change: str) -> None:
    import psycopg

    (info,) = store.sessions()[-1:]
    done = store.append([made_event(info.session)])
    with pytest.raises(psycopg.errors.RaiseException, match="only grows"):
        _execute(database, change)
    assert list(store.events(info.session)) == done


def test_the_password_is_shown_nowhere(store: Any, server: Postgres) -> None:
    assert store.url == f"postgresql://textrl:***@127.0.0.1:{server.port}/own"
    with pytest.raises(UserError) as caught:
        store.session("nobody")
    assert "secret" not in str(caught.value)


def test_servers_share_a_store_and_numbers_appear_in_their_order(store: Any, database: str) -> None:
    """Two servers write a session each; whoever follows the log by number misses nothing."""
    mine = store.sessions()[-1].session
    second = open_store(database)
    second.create_session(made_session("second"))
    start = store.append([made_event(mine)])[0].seq
    reader, seen, done = open_store(database, readonly=True), [], threading.Event()
    writers = [GroupWriter(store), GroupWriter(second)]
    told: list[Any] = []

    def follow() -> None:
        after = start
        while True:
            ended = done.is_set()
            for event in reader.events(None, after=after):
                seen.append(event.seq)
                after = event.seq
            if ended:
                return

    following = threading.Thread(target=follow)
    following.start()
    for _ in range(150):
        for writer, session in zip(writers, (mine, "second"), strict=True):
            writer.submit(made_event(session), told.append)
    for writer in writers:
        writer.close()
    done.set()
    following.join()
    assert seen == sorted(event.seq for event in told)
    assert len(seen) == 300
    for one in (second, reader):
        one.close()


def test_a_store_of_a_newer_version_is_named(server: Postgres) -> None:
    url = server.database("newer")
    open_store(url).close()
    _execute(url, "UPDATE textrl_feedback.about SET version = 7")
    for readonly in (False, True):
        with pytest.raises(UserError, match=r"newer textrl \(schema 7; this one knows 1\); update textrl"):
            open_store(url, readonly=readonly)


def test_check_finds_a_trigger_that_was_switched_off(server: Postgres) -> None:
    url = server.database("checked")
    store = open_store(url)
    assert store.check() == []
    _execute(url, "ALTER TABLE textrl_feedback.events DISABLE TRIGGER events_kept")
    (found,) = store.check()
    assert "the trigger events_kept is gone" in found
    store.close()


def test_a_reader_of_an_empty_database_is_told(server: Postgres) -> None:
    with pytest.raises(UserError, match="no store of feedback sessions in this database"):
        open_store(server.database("empty"), readonly=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("/own", "/nowhere"), "cannot be opened"),
        (("@127.0.0.1", "@unreachable.invalid"), "cannot be opened"),
        (("@127.0.0.1", "@127.0.0.1:x"), "cannot be read"),
        (("postgresql:", "postgresql+nothing:"), None),
        (("postgresql://", "postgresql:"), "cannot be read"),
    ],
)
def test_addresses_that_open_nothing(database: str, change: tuple[str, str], words: str | None) -> None:
    url = database.replace(*change)
    if words is None:  # whichever driver is named, psycopg is the one
        open_store(url).close()
        return
    with pytest.raises(UserError, match=words) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_restarted_server_is_found_again_and_nothing_is_lost(server: Postgres, store: Any) -> None:
    """Last, since it restarts the server for all."""
    session = store.sessions()[-1].session
    told: list[Any] = []
    said: list[bool] = []
    down = threading.Event()

    def on_storage(ok: bool, sentence: str) -> None:
        said.append(ok)
        down.set()

    writer = GroupWriter(store, on_storage)
    writer.submit(made_event(session), told.append)
    while not told:
        pass
    server.stop("immediate")
    for _ in range(3):
        writer.submit(made_event(session), told.append)
    assert down.wait(60)
    with pytest.raises(StoreError, match="cannot be read"):
        store.sessions()
    server.start()
    writer.close(timeout_s=60)
    assert said == [False, True]
    assert told == list(store.events(session))
    assert len(told) == 4
