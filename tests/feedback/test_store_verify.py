"""`textrl feedback verify`: a sound session has no finding, and each thing that can be wrong has one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rank_session import Ranking, made_items, rank_info
from store_events import made_event, made_session

from textrl.errors import UserError
from textrl.feedback.events import Event
from textrl.feedback.store import open_store
from textrl.feedback.store.sqlite import SqliteStore
from textrl.feedback.verify import verify


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "x.sqlite")
    made.create_session(made_session())
    yield made
    made.close()


def _append(store: SqliteStore, *events: tuple[str, dict[str, Any]], **more: Any) -> list[Event]:
    """Store (kind, payload); a number in place of a payload is the frame of a press."""
    made = []
    for number, (kind, payload) in enumerate(events):
        fields: dict[str, Any] = {
            "kind": kind,
            "payload": payload,
            "frame_id": None,
            "t_client": 10.0 + number,
        }
        made.append(made_event(**{**fields, **payload.pop("fields", {})}, **more))
    return store.append(made)


def _press(frame: int, t: float) -> tuple[str, dict[str, Any]]:
    return "press", {"value": 1, "fields": {"frame_id": frame, "t_client": t}}


SOUND = (
    ("joined", {"client": "tab"}),
    ("tick", {"now": 1.0}),
    ("shown", {"frames": [[1, 1.1], [2, 1.3]]}),
    ("tick", {"now": 1.0}),
    _press(2, 1.25),  # the key went down before the picture was drawn, within what clocks allow
    _press(1, 9.0),
    ("note", {"text": "well"}),
    ("finished", {}),
)


def _copies(events: Sequence[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    return [(kind, dict(payload)) for kind, payload in events]


def test_a_sound_session_has_no_finding(store: SqliteStore) -> None:
    _append(store, *_copies(SOUND))
    report = verify(store)
    assert (report.findings, report.sessions) == ([], {"s": 8})


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([_press(4, 1.0)], "a press on frame 4, which no screen had shown before"),
        ([("shown", {"frames": [[4, 3.0]]}), _press(4, 2.5)], "0.500 s before its frame 4 was shown"),
        ([_press(4, 1.0), ("shown", {"frames": [[4, 0.5]]})], "which no screen had shown before"),
        ([("tick", {"now": 2.0}), ("tick", {"now": 1.5})], "falls behind the one before by 0.500 s"),
        ([("tick", {})], "a tick without a time"),
        ([("press", {"value": 5})], "no event of a control session: 'value' of a press is 5"),
        ([("ranked", {})], "no event of a control session: A client of a control session cannot send"),
        ([("undone", {"uuid": "never"})], "takes back never, which is no earlier event of 'ada'"),
        ([("finished", {}), ("note", {"text": "late"})], "after the session was finished (event 1)"),
    ],
)
def test_what_is_out_of_order_is_found_and_named(
    store: SqliteStore, events: list[tuple[str, dict[str, Any]]], words: str
) -> None:
    done = _append(store, *_copies(events))
    (finding,) = verify(store).findings
    assert words in finding.what
    assert str(finding).startswith(f"session 's', event {finding.seq}: ")
    assert finding.seq in {event.seq for event in done}


def test_server_time_that_falls_and_a_damaged_file_are_found(store: SqliteStore) -> None:
    """The store itself never lets that happen: somebody wrote into the file, or the disk did."""
    _append(store, ("note", {"text": "a"}))
    store.close()
    other = sqlite3.connect(store.path)
    other.execute("DROP TRIGGER events_replaced")
    other.execute(
        "INSERT INTO events VALUES (9, 'u', 's', 'ada', 1, 5.5, NULL, NULL, 'note', '{\"text\":\"b\"}')"
    )
    other.commit()
    other.close()
    reader = open_store(store.path, readonly=True)
    found = [str(finding) for finding in verify(reader).findings]
    assert found == [
        f"{store.path}: the trigger events_replaced is gone, so that rows could be altered.",
        "session 's', event 9: its server time falls by 1699999994.500 s.",
    ]
    data = bytearray(store.path.read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    store.path.write_bytes(data)
    assert any("malformed" in str(finding) for finding in verify(reader).findings)


def test_only_the_named_session_is_looked_at(store: SqliteStore) -> None:
    store.create_session(made_session("other"))
    _append(store, ("tick", {}), session="other")
    _append(store, ("note", {"text": "a"}))
    assert verify(store, "s").findings == []
    assert [finding.session for finding in verify(store).findings] == ["other"]
    with pytest.raises(UserError, match="holds no session 'nobody'"):
        verify(store, "nobody")


def _ranked(store: SqliteStore, spoil: bool) -> Ranking:
    """Store a ranking session with two digests, of which the second may be wrong."""
    session = Ranking(rank_info(made_items(3)))
    store.create_session(session.info)
    session.join("ada")
    for turn in range(2):
        session.rank("ada")
        payload = {"sha256": "0" * 64 if spoil and turn else session.machine.digest(), "steps": turn}
        session.log.append(Event(**{**vars(session.log[-1]), "kind": "digest", "payload": payload}))
        session.log[-1] = Event(**{**vars(session.log[-1]), "uuid": f"d{turn}", "annotator": "server"})
    store.append(session.log)
    return session


def test_a_replay_repeats_the_digests_of_the_log(store: SqliteStore) -> None:
    session = _ranked(store, spoil=False)
    report = verify(store, "r", replay=True)
    assert (report.findings, report.digests) == ([], 2)
    assert report.replayed == {"r": session.machine.digest()}


def test_a_digest_that_a_replay_does_not_repeat_is_found(store: SqliteStore) -> None:
    _ranked(store, spoil=True)
    (finding,) = verify(store, "r", replay=True).findings
    assert finding.seq == 5
    assert "its digest is 0000000000000000... and the replay's" in finding.what


def test_a_session_that_cannot_be_replayed_is_a_finding_and_no_crash(store: SqliteStore) -> None:
    store.create_session(made_session("broken", "rank"))
    (finding,) = verify(store, "broken", replay=True).findings
    assert "it cannot be replayed: The config of the ranking session holds no items" in finding.what
