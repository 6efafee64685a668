"""What every store of events promises, for SQLite and for a real PostgreSQL."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres_server import Postgres, running
from store_events import made_event, made_session

from textrl.errors import UserError
from textrl.feedback.store import FeedbackStore, GroupWriter, StoreError, open_store
from textrl.feedback.store.base import StoreUsed

_NUMBERS = itertools.count()
Open = Callable[..., FeedbackStore]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    yield from running()


@pytest.fixture(params=["sqlite", "postgres"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens one and the same empty store, as often as is asked; all are closed at the end."""
    if request.param == "sqlite":
        url = str(tmp_path / "sessions.sqlite")
    else:
        url = request.getfixturevalue("postgres").database(f"contract{next(_NUMBERS)}")
    opened: list[FeedbackStore] = []

    def open_(**options: Any) -> FeedbackStore:
        opened.append(open_store(url, **options))
        return opened[-1]

    yield open_
    for store in opened:
        store.close()


@pytest.fixture
def store(opening: Open) -> FeedbackStore:
    made = opening()
    made.create_session(made_session())
    return made


def test_a_session_is_read_back_as_it_was_made(store: FeedbackStore) -> None:
    made = made_session("zweite ☃", "rank", items=[{"prompt": "a\nb ünï", "k": 2.5}], nothing=None)
    store.create_session(made)
    assert store.session("zweite ☃") == made
    assert [info.session for info in store.sessions()] == ["s", "zweite ☃"]


def test_a_second_session_of_one_name_is_refused(store: FeedbackStore) -> None:
    with pytest.raises(UserError, match="there is a session 's' already"):
        store.create_session(made_session())
    assert len(store.sessions()) == 1


def test_an_unknown_session_is_answered_with_the_nearest(store: FeedbackStore) -> None:
    store.create_session(made_session("morning"))
    with pytest.raises(UserError, match=r"holds no session 'mornign'\. Did you mean 'morning'"):
        store.session("mornign")


@pytest.mark.parametrize(
    ("name", "mode", "config", "words"),
    [
        ("", "rank", {}, "visible characters"),
        ("a\nb", "rank", {}, "visible characters"),
        ("a", "ranking", {}, "Did you mean 'rank'"),
        ("a", "rank", {"x": float("nan")}, "cannot be stored as JSON"),
        ("a", "rank", {"x": {1, 2}}, "cannot be stored as JSON"),
        ("a", "rank", {"x": ["\0"]}, "NUL"),
    ],
)
def test_a_session_that_cannot_be_stored(
    store: FeedbackStore, name: str, mode: str, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        store.create_session(made_session(name, mode, **config))
    assert len(store.sessions()) == 1


def test_events_are_numbered_upwards_and_read_back_as_append_returned_them(store: FeedbackStore) -> None:
    store.create_session(made_session("t"))
    done = store.append([made_event(), made_event("t", t_client=None), made_event(env_step=2**40)])
    done += store.append([made_event("t", frame_id=None, payload={"frames": ((1, 0.1),), "é": "☃\t"})])
    assert [event.seq for event in done] == sorted({event.seq for event in done})
    assert done[0].seq > 0
    assert list(store.events(None)) == done
    assert list(store.events("t")) == [done[1], done[3]]
    assert done[3].payload == {"frames": [[1, 0.1]], "é": "☃\t"}
    assert list(store.events(None, after=done[1].seq)) == done[2:]


def test_events_can_be_chosen_by_kind(store: FeedbackStore) -> None:
    done = store.append([made_event(kind=kind) for kind in ("press", "tick", "shown", "tick")])
    assert list(store.events("s", kinds=["tick"])) == [done[1], done[3]]
    assert list(store.events("s", kinds=("shown", "press"), after=done[0].seq)) == [done[2]]
    assert list(store.events("s", kinds=[])) == []


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    payload=st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**70), 2**70)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
            lambda inner: st.lists(inner, max_size=3),
            max_leaves=5,
        ),
        max_size=4,
    ),
    t=st.floats(allow_nan=False, allow_infinity=False),
)
def test_whatever_is_json_comes_back_bit_for_bit(
    store: FeedbackStore, payload: dict[str, Any], t: float
) -> None:
    event = made_event(payload=payload, t_client=t)
    (done,) = store.append([event])
    (back,) = store.events("s", after=done.seq - 1)
    assert back == done
    assert (repr(back.payload), repr(back.t_client)) == (repr(payload), repr(t))


def test_a_uuid_is_stored_once_whenever_it_comes(store: FeedbackStore) -> None:
    first, second = made_event(), made_event()
    (done,) = store.append([first])
    again = store.append([second, first, second, made_event(uuid=first.uuid, payload={"value": -1})])
    assert [event.uuid for event in again] == [second.uuid, first.uuid, second.uuid, first.uuid]
    assert again[1] == again[3] == done
    assert again[0] == again[2]
    assert len(list(store.events("s"))) == 2


def test_an_event_is_found_by_its_uuid(store: FeedbackStore) -> None:
    done = store.append([made_event(), made_event(payload={"value": -1})])
    assert [store.find(event.uuid) for event in done] == done
    assert store.find("another") is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"session": "other"}, "no session 'other'"),
        ({"payload": {"x": float("inf")}}, "cannot be stored as JSON"),
        ({"payload": {"x": "\ud800"}}, "cannot be stored as JSON"),
        ({"payload": {"x": "a\0"}}, "NUL"),
        ({"annotator": "a\0"}, "NUL"),
        ({"t_client": float("nan")}, "t_client is nan"),
        ({"uuid": ""}, "needs a uuid"),
        ({"frame_id": 2**63}, "64 bits"),
    ],
)
def test_what_can_never_be_stored_stops_its_whole_transaction(
    store: FeedbackStore, fields: dict[str, Any], words: str
) -> None:
    good = made_event()
    with pytest.raises(UserError, match=words) as caught:
        store.append([good, made_event(**fields)])
    assert not isinstance(caught.value, StoreError)  # trying again would not help
    assert list(store.events(None)) == []
    assert [event.uuid for event in store.append([good])] == [good.uuid]


def test_server_time_never_falls_within_a_session(store: FeedbackStore, opening: Open) -> None:
    store.create_session(made_session("t"))
    times = [e.t_server for e in store.append([made_event(t_server=t) for t in (5.0, 4.0, 6.0)])]
    times += [e.t_server for e in store.append([made_event(t_server=5.5), made_event("t", t_server=1.0)])]
    assert times == [5.0, 5.0, 6.0, 6.0, 1.0]
    store.close()
    (later,) = opening().append([made_event(t_server=3.0)])
    assert later.t_server == 6.0


def test_numbers_go_on_after_a_restart(store: FeedbackStore, opening: Open) -> None:
    before = store.append([made_event(), made_event()])
    store.close()
    again = opening()
    (later,) = again.append([made_event()])
    assert later.seq > before[-1].seq
    assert list(again.events("s")) == [*before, later]
    assert again.append([made_event(uuid=before[0].uuid)]) == [before[0]]


def test_a_reader_sees_what_is_stored_and_writes_nothing(store: FeedbackStore, opening: Open) -> None:
    reader = opening(readonly=True)
    done = store.append([made_event() for _ in range(3)])
    assert list(reader.events("s")) == done
    assert reader.session("s") == store.session("s")
    with pytest.raises(StoreError, match="opened for reading"):
        reader.append([made_event()])
    with pytest.raises(StoreError, match="opened for reading"):
        reader.create_session(made_session("t"))


def test_a_reader_ends_with_what_was_there_when_it_began(store: FeedbackStore) -> None:
    done = store.append([made_event() for _ in range(5)])
    reading = store.events("s")
    first = next(reading)
    store.append([made_event()])
    assert [first, *reading] == done


def test_reading_goes_on_over_many_pages(store: FeedbackStore) -> None:
    done = store.append([made_event() for _ in range(4_500)])
    assert list(store.events("s")) == done


def test_two_servers_on_one_store(store: FeedbackStore, opening: Open) -> None:
    store.append([made_event()])
    with pytest.raises(StoreUsed, match="another server") as caught:
        opening().append([made_event()])
    assert "\n" not in str(caught.value)
    store.close()
    assert opening().append([made_event()])


def test_a_closed_store_says_so(store: FeedbackStore) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.append([made_event()])


def test_a_healthy_store_has_nothing_to_complain_of(store: FeedbackStore) -> None:
    store.append([made_event()])
    assert store.check() == []


def test_threads_that_share_a_writer_see_the_order_of_the_store(store: FeedbackStore) -> None:
    heard: list[Any] = []
    writer = GroupWriter(store)
    sent = [[made_event(annotator=f"p{person}", frame_id=n) for n in range(40)] for person in range(6)]

    def send(events: list[Any]) -> None:
        for event in events:
            writer.submit(event, heard.append)

    threads = [threading.Thread(target=send, args=(events,)) for events in sent]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert heard == list(store.events("s"))
    assert len(heard) == 240
    for events in sent:
        mine = [event.uuid for event in heard if event.annotator == events[0].annotator]
        assert mine == [event.uuid for event in events]
