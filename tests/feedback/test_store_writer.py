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
from textrl.feedback.store.syncer import QUIET_S


class Flaky(SqliteStore):
    """The real store, whose disk a test takes away; it also counts commits."""

    fails: Callable[[], Exception] | None = None
    gate: threading.Event | None = None
    sync_fails: Callable[[], Exception] | None = None
    sync_gate: threading.Event | None = None
    syncs = 0

    def sync(self) -> None:
        if self.sync_gate is not None:
            self.sync_gate.wait()
        self.syncs += 1
        if self.sync_fails is not None:
            raise self.sync_fails()
        super().sync()

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
    assert not {"textrl-store", "textrl-sync"} & {thread.name for thread in threading.enumerate()}


def test_a_slow_disk_holds_back_what_is_called_safe_and_nothing_else(store: Flaky) -> None:
    store.sync_gate, logged, durable = threading.Event(), [], []
    writer = GroupWriter(store)
    ten = threading.Event()
    for number in range(10):
        writer.submit(made_event(), logged.append, durable.append)
        writer.submit(made_event(), lambda done, number=number: ten.set() if number == 9 else None)
    assert ten.wait(60)
    assert len(list(store.events("s"))) == 20, "they can be read, and outlive the process"
    assert (len(logged), durable) == (10, [])
    store.sync_gate.set()
    before = store.syncs
    writer.close()
    assert durable == logged
    assert store.syncs - before <= 3, "all that waited shared one synchronisation"


def test_what_nobody_waits_for_is_on_the_disk_soon(store: Flaky) -> None:
    before = store.syncs
    writer = GroupWriter(store)
    writer.submit(made_event(), lambda done: None)
    end = time.monotonic() + 60
    while store.syncs == before and time.monotonic() < end:
        time.sleep(0.01)
    assert store.syncs == before + 1
    time.sleep(2 * QUIET_S)
    assert store.syncs == before + 1, "with nothing new there is nothing to synchronise"
    writer.close()


def test_a_disk_that_fails_is_told_and_nothing_is_called_safe_meanwhile(
    store: Flaky,
) -> None:
    said: list[tuple[bool, str]] = []
    failed, durable = threading.Event(), list[Any]()
    store.sync_fails = lambda: StoreError("the disk is broken")

    def on_storage(ok: bool, sentence: str) -> None:
        said.append((ok, sentence))
        failed.set()

    writer = GroupWriter(store, on_storage)
    writer.submit(made_event(), lambda done: None, durable.append)
    assert failed.wait(60)
    writer.submit(made_event(), lambda done: None, durable.append)
    assert (durable, said, writer.ok) == ([], [(False, "the disk is broken")], False)
    store.sync_fails = None
    writer.close(timeout_s=60)
    assert said == [(False, "the disk is broken"), (True, "")]
    assert durable == list(store.events("s"))


def test_a_question_that_cannot_be_answered_stops_no_acknowledgement(
    store: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = []
    durable: list[Any] = []
    (known,) = store.append([made_event()])
    writer = GroupWriter(store)
    writer.ask(known.uuid, answers.append)
    writer.ask("another", answers.append)
    writer.close()
    assert answers == [known, None]

    def breaks(uuid: str) -> Event | None:
        raise RuntimeError("what nobody thought of")

    monkeypatch.setattr(store, "find", breaks)
    answered = threading.Event()
    writer = GroupWriter(store)
    writer.ask(known.uuid, lambda found: (answers.append(found), answered.set()))  # type: ignore[func-returns-value]
    assert answered.wait(60)
    writer.submit(made_event(), lambda done: None, durable.append)
    writer.close()
    assert isinstance(answers[-1], RuntimeError)
    assert len(durable) == 1


def test_what_the_disk_never_took_is_never_called_safe(store: Flaky) -> None:
    store.sync_fails = lambda: RuntimeError("what nobody thought of")
    logged: list[Any] = []
    durable: list[Any] = []
    writer = GroupWriter(store)
    writer.submit(made_event(), logged.append, durable.append)
    writer.close(timeout_s=0.05)
    assert (len(logged), durable) == (1, [])


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
