"""The thread that groups commits: what it tells, in which order, and what it does when nothing works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from store_events import made_event, made_session

from textrl.errors import UserError
from textrl.feedback.events import Event, NewEvent
from textrl.feedback.store import GroupWriter, StoreError, StoreFull
from textrl.feedback.store.sqlite import SqliteStore


class Flaky(SqliteStore):
    """The real store, whose disk a test takes away; it also counts commits."""

    fails: Callable[[], Exception] | None = None
    gate: threading.Event | None = None

    def append(self, events: Sequence[NewEvent]) -> list[Event]:
        if self.gate is not None:
            self.gate.wait()
        self.commits = [*getattr(self, "commits", []), len(events)]
        if self.fails is not None:
            raise self.fails()
        return super().append(events)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    made = Flaky(tmp_path / "x.sqlite")
    made.create_session(made_session())
    yield made
    made.close()


def test_what_waits_is_committed_together_and_told_in_order(store: Flaky) -> None:
    store.gate, told = threading.Event(), []
    writer = GroupWriter(store)
    events = [made_event() for _ in range(500)]
    for event in events:
        writer.submit(event, told.append)
    store.gate.set()
    writer.close()
    assert told == list(store.events("s"))
    assert [event.uuid for event in told] == [event.uuid for event in events]
    assert len(store.commits) <= 2  # the first may have gone alone
    assert not any(thread.name == "textrl-store" for thread in threading.enumerate())


def test_callbacks_run_after_the_commit(store: Flaky) -> None:
    seen: list[int] = []
    writer = GroupWriter(store)
    for _ in range(20):
        writer.submit(
            made_event(), lambda done: seen.append(len(list(store.events("s", after=done.seq - 1))))
        )
    writer.close()
    assert len(seen) == 20
    assert all(count >= 1 for count in seen)


def test_a_full_disk_is_told_at_once_and_what_waited_is_stored_later(store: Flaky) -> None:
    told: list[Any] = []
    said: list[tuple[bool, str]] = []
    failed = threading.Event()
    store.fails = lambda: StoreFull("the disk is full")

    def on_storage(ok: bool, sentence: str) -> None:
        said.append((ok, sentence))
        failed.set()

    writer = GroupWriter(store, on_storage)
    writer.submit(made_event(), told.append)
    assert failed.wait(60)
    writer.submit(made_event(), told.append)
    assert (told, said, writer.ok) == ([], [(False, "the disk is full")], False)
    store.fails = None
    writer.close()
    assert said == [(False, "the disk is full"), (True, "")]
    assert told == list(store.events("s"))
    assert len(told) == 2


def test_closing_does_not_wait_for_a_disk_for_ever(store: Flaky) -> None:
    store.fails = lambda: StoreError("nothing can be stored")
    told: list[Any] = []
    writer = GroupWriter(store)
    for _ in range(3):
        writer.submit(made_event(), told.append)
    writer.close(timeout_s=0.05)
    assert [str(outcome) for outcome in told] == ["nothing can be stored"] * 3
    assert list(store.events("s")) == []
    with pytest.raises(StoreError, match="being closed"):
        writer.submit(made_event(), told.append)


def test_an_event_that_can_never_be_stored_takes_no_other_with_it(store: Flaky) -> None:
    store.gate, told = threading.Event(), []
    writer = GroupWriter(store)
    good = [made_event(), made_event()]
    for event in (good[0], made_event(session="other"), made_event(payload={"x": float("nan")}), good[1]):
        writer.submit(event, told.append)
    store.gate.set()
    writer.close()
    assert [getattr(outcome, "uuid", None) for outcome in told] == [good[0].uuid, None, None, good[1].uuid]
    assert "no session 'other'" in str(told[1])
    assert "cannot be stored as JSON" in str(told[2])
    assert writer.ok


def test_a_resent_event_gets_its_first_number_and_a_stolen_uuid_none(store: Flaky) -> None:
    told: list[Any] = []
    writer = GroupWriter(store)
    event = made_event()
    for one in (event, event, made_event(uuid=event.uuid, annotator="eve")):
        writer.submit(one, told.append)
    writer.close()
    assert told[0] == told[1]
    assert isinstance(told[2], UserError)
    assert "belongs to another event" in str(told[2])
    assert len(list(store.events("s"))) == 1


def test_a_callback_that_fails_stops_nobody(store: Flaky, caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []
    writer = GroupWriter(store)
    writer.submit(made_event(), lambda done: 1 / 0)  # type: ignore[arg-type, return-value]
    writer.submit(made_event(), told.append)
    writer.close()
    assert len(told) == 1
    assert "callback" in caplog.text


def test_a_real_limit_on_the_file_is_a_store_error_and_heals(tmp_path: Path) -> None:
    """The kernel refuses to let the file grow: what a quota or a full disk looks like from inside."""
    resource = pytest.importorskip("resource")
    store = SqliteStore(tmp_path / "x.sqlite")
    store.create_session(made_session())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    told: list[Any] = []
    said: list[bool] = []
    writer = GroupWriter(store, lambda ok, sentence: said.append(ok))
    log = Path(f"{store.path}-wal")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 8192, hard))
        for _ in range(20):
            writer.submit(made_event(payload={"text": "x" * 2_000}), told.append)
        end = time.monotonic() + 60
        while not said and time.monotonic() < end:
            time.sleep(0.002)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.close(timeout_s=60)
    assert said == [False, True]
    assert [event.seq for event in told] == [event.seq for event in store.events("s")]
    assert len(told) == 20
    assert store.check() == []
    store.close()
