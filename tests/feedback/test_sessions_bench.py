"""`textrl bench sessions`: its judgement of figures, and its parts on a small scale against a real server."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from textrl.bench.sessions import USUAL, judged
from textrl.bench.sessions_faults import cuts, kills, replayed
from textrl.bench.sessions_load import FRAMES, events_per_second, fan_out, long_session, spread, stored_uuids
from textrl.cli import main
from textrl.feedback.events import server_event
from textrl.feedback.store import SessionInfo, open_store

GOOD: dict[str, Any] = {
    "page": {
        "idle": {"key_ms": {"p50": 4.0, "p99": 20.0}},
        "learning": {"key_ms": {"p50": 6.0, "p99": 60.0}},
    },
    "clients": {"ack_ms": {"p99": 12.0}, "frames_per_s": 29.9, "lost": 0, "doubled": 0, "sent": 4800},
    "events": {"per_s": 9000.0},
    "cuts": {"trials": 200, "lost": 0, "doubled": 0, "sent": 900, "back_s": {"max": 0.2}},
    "kills": {"trials": 100, "lost": 0, "doubled": 0, "sent": 900, "back_s": {"max": 6.0}},
    "long": {"minutes": 20.0, "lost": 0, "acknowledged": 6000, "age_ms": {"max": 40.0}},
    "replay": {"equal": 9, "digests": 9, "events": 20_000},
}


def test_the_targets_are_those_of_the_issue() -> None:
    assert (USUAL.kills, USUAL.cuts, USUAL.minutes) == (100, 200, 20.0)
    checks = judged(GOOD)
    assert all(check.holds for check in checks)
    assert len(checks) == 13


@pytest.mark.parametrize(
    ("place", "value", "claim"),
    [
        ("page.idle.key_ms.p50", 10.1, "p50 at most 10 ms"),
        ("page.idle.key_ms.p99", 50.1, "p99 at most 50 ms"),
        ("page.learning.key_ms.p99", 100.1, "p99 at most 100 ms"),
        ("clients.ack_ms.p99", 25.1, "p99 at most 25 ms"),
        ("clients.frames_per_s", 28.9, "29 frames/s"),
        ("clients.lost", 1, "32 clients: no event"),
        ("events.per_s", 4999.0, "5,000/s"),
        ("kills.lost", 1, "kill -9"),
        ("kills.doubled", 1, "kill -9"),
        ("cuts.doubled", 1, "200 cuts"),
        ("cuts.back_s.max", 2.01, "within 2 s"),
        ("long.lost", 1, "20 minutes: no event"),
        ("long.age_ms.max", 100.1, "no frame older"),
        ("replay.equal", 8, "SHA-256"),
        ("replay.digests", 0, "SHA-256"),
    ],
)
def test_each_figure_is_held_against_its_own_target(place: str, value: float, claim: str) -> None:
    found = copy.deepcopy(GOOD)
    *sections, last = place.split(".")
    part = found
    for section in sections:
        part = part[section]
    part[last] = value
    missed = [check.claim for check in judged(found) if not check.holds]
    assert len(missed) == 1
    assert claim in missed[0]


def test_without_a_browser_its_rows_are_left_out() -> None:
    assert len(judged(GOOD | {"page": None})) == 10


def test_spread_is_in_the_unit_that_it_says() -> None:
    values = [number / 1000 for number in range(1, 101)]
    assert spread(values) == {
        "p50": pytest.approx(50.5),
        "p99": pytest.approx(99.01),
        "max": 100.0,
        "count": 100,
    }
    assert spread([]) == {"p50": 0.0, "p99": 0.0, "max": 0.0, "count": 0}


@pytest.mark.parametrize(("fault", "trials"), [(kills, 1), (cuts, 3)])
def test_a_real_server_is_killed_and_cut_while_keys_are_pressed(
    tmp_path: Path, fault: Callable[..., dict[str, Any]], trials: int
) -> None:
    found = fault(tmp_path, trials)
    assert (found["trials"], found["lost"], found["doubled"]) == (trials, 0, 0)
    assert found["sent"] > trials
    assert found["back_s"]["count"] == trials
    again = replayed([found["store"]])
    assert again["equal"] == again["digests"] > 0
    assert again["events"] > found["sent"]


def test_many_clients_of_a_real_server_are_measured(tmp_path: Path) -> None:
    found = fan_out(tmp_path, 1.0, clients=3)
    assert (found["sent"], found["lost"], found["doubled"]) == (15, 0, 0)
    assert found["ack_ms"]["count"] == 15
    assert 0 < found["frames_per_s"] < 1.2 * FRAMES
    assert 0 < found["age_ms"]["p50"] <= found["age_ms"]["max"]


def test_a_long_session_is_measured(tmp_path: Path) -> None:
    found = long_session(tmp_path, 0.05)
    assert found["lost"] == 0
    assert found["acknowledged"] > 0
    assert 0 < found["age_ms"]["p50"] <= found["age_ms"]["max"]


def test_events_are_counted_as_the_store_has_them(tmp_path: Path) -> None:
    found = events_per_second(tmp_path, 0.2)
    assert found["stored"] == found["sent"] > 0
    assert found["per_s"] == pytest.approx(found["stored"] / found["seconds"])


def test_stored_events_of_clients_are_told_from_the_servers(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    store = open_store(path)
    store.create_session(SessionInfo(session="s", mode="rank", created=0.0, config={}, versions={}))
    kinds = [("note", "ada"), ("tick", "server"), ("note", "bob"), ("joined", "ada")]
    events = [server_event("s", kind, {"now": 0.0}, t_server=1.0, annotator=who) for kind, who in kinds]
    store.append(events)
    store.close()
    assert stored_uuids(path, "s") == {events[0].uuid: 1, events[2].uuid: 1}
    assert stored_uuids(path, "s", "bob") == {events[2].uuid: 1}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sessions --kills 0", "at least 1"),
        ("sessions --minutes -1", "above 0"),
        ("rollout --kills 3", "textrl bench sessions"),
        ("sessions --seeds 3", "--seeds does nothing"),
    ],
)
def test_options_that_cannot_be_are_refused(
    line: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *line.split()]) == 2
    assert said in capsys.readouterr().err
