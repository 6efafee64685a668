"""What the server answers to messages of every kind: nothing kills a socket, and nothing odd is stored."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import CountingMachine, Running, event, hello, next_of, send, serving
from websockets.exceptions import ConnectionClosed

from textrl.feedback.server.limits import Limits
from textrl.feedback.server.protocol import Refused, parse

LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("protocol")) as found:
        yield found


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("", "bad_message"),
        ("{", "bad_message"),
        ("[]", "bad_message"),
        ("[" * 60_000, "bad_message"),
        ("9" * 60_000, "bad_message"),
        ('{"type":"ping","t":NaN}', "bad_message"),
        ('{"type":"ping","t":1e999}', "bad_message"),
        ('{"type":"ping","t":"now"}', "bad_event"),
        ('{"type":"ping"}', "bad_event"),
        ('{"type":"evnt"}', "bad_message"),
        ('{"type":{"a":1}}', "bad_message"),
        (b"\x00\x01", "bad_message"),
        (" " * (LIMIT + 1), "too_large"),
        ('{"type":"hello","protocol":1,"annotator":"eve"}', "bad_message"),
        (event(uuid="1"), "bad_message"),
        (event(uuid=None), "bad_message"),
        (event(t=None), "bad_event"),
        (event(kind=7), "bad_message"),
        (event(payload=[]), "bad_message"),
        (event(frame_id=-1), "bad_message"),
        (event(frame_id=True), "bad_message"),
        (event(frame_id=2**60), "bad_message"),
        (event(payload={"value": 3}), "bad_event"),
        (event(payload={"value": 1, "more": "a\0b"}), "bad_message"),
        (event(payload={"value": 1, "more": "\ud800"}), "bad_message"),
        (event(payload={"value": 1, "more": json.loads("[" * 30 + "]" * 30)}), "bad_message"),
        (event("tick", {"now": 1.0}), "unknown_kind"),
        (event("digest", {"sha256": "", "steps": 0}), "unknown_kind"),
        (event("ranked", {}), "unknown_kind"),
        (event("note", {"text": "x" * 60_000}), "bad_event"),
        (event(t=time.time() + 3600), "bad_event"),
    ],
)
def test_a_bad_message_gets_one_sentence_and_the_socket_stays(
    running: Running, message: Any, code: str
) -> None:
    with running.join() as socket:
        send(socket, message)
        answer = next_of(socket, "error")
        assert answer["code"] == code
        assert answer["message"].endswith((".", "?"))
        assert "\n" not in answer["message"]
        assert len(answer["message"]) < 400
        if isinstance(message, dict) and code != "bad_message":
            assert answer["uuid"] == message["uuid"]
        good = event()
        send(socket, good)
        assert next_of(socket, "ack")["uuid"] == good["uuid"]


def test_before_the_hello_nothing_is_taken(running: Running) -> None:
    with running.socket() as socket:
        early = event()
        send(socket, early)
        answer = next_of(socket, "error")
        assert "hello" in answer["message"]
        assert answer["uuid"] == early["uuid"]
    assert early["uuid"] not in {one.uuid for one in running.stored()}


@pytest.mark.parametrize(
    "more",
    [
        {"protocol": 2},
        {"annotator": ""},
        {"annotator": " " * 5},
        {"annotator": "x" * 65},
        {"annotator": "a\nb"},
        {"annotator": "server"},
        {"client": "tab"},
        {"t": "soon"},
    ],
)
def test_a_hello_that_says_nothing_useful_is_refused(running: Running, more: dict[str, Any]) -> None:
    with running.socket() as socket:
        socket.send(hello(**more))
        assert next_of(socket, "error")["code"] in ("bad_message", "bad_event")
        socket.send(hello("ada"))
        assert next_of(socket, "welcome")["role"] == "trainer"


def test_a_second_hello_is_refused(running: Running) -> None:
    with running.join() as socket:
        socket.send(hello("bob"))
        assert "already" in next_of(socket, "error")["message"]


def test_an_unknown_session_is_named_and_the_nearest_one_too(running: Running) -> None:
    with running.socket(session="ss") as socket:
        assert "Did you mean 's'?" in next_of(socket, "error")["message"]
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4404


def test_a_message_beyond_what_is_read_at_all_closes_the_socket_only(running: Running) -> None:
    with running.join() as socket, running.join() as other:
        with contextlib.suppress(ConnectionClosed):
            send(socket, "x" * 2_000_000)
        with pytest.raises(ConnectionClosed):
            next_of(socket, "never")
        send(other, event())
        next_of(other, "ack")


def test_a_duplicate_is_acknowledged_and_stored_once(running: Running) -> None:
    with running.join() as socket:
        before = len(running.machine.presses)
        one = event()
        seqs = []
        for _ in range(3):
            send(socket, one)
            seqs.append(next_of(socket, "ack")["seq"])
    with running.join() as again:
        send(again, one)
        seqs.append(next_of(again, "ack")["seq"])
    assert len(set(seqs)) == 1
    assert len(running.machine.presses) == before + 1
    assert [found.seq for found in running.stored() if found.uuid == one["uuid"]] == seqs[:1]


def test_somebody_elses_uuid_is_not_acknowledged(running: Running) -> None:
    with running.join() as socket:
        one = event()
        send(socket, one)
        next_of(socket, "ack")
        send(socket, event("note", {"text": "mine"}, uuid=one["uuid"]))
        assert next_of(socket, "error")["uuid"] == one["uuid"]


def test_events_out_of_order_are_stored_as_they_came(running: Running) -> None:
    """Stamps may fall: what was sent again after a lost connection comes late."""
    with running.join() as socket:
        now = time.time()
        sent = [event(t=now - late) for late in (0.0, 3.0, 1.0)]
        for one in sent:
            send(socket, one)
        seqs = [next_of(socket, "ack", uuid=one["uuid"])["seq"] for one in sent]
    assert seqs == sorted(seqs)
    stored = {found.uuid: found for found in running.stored()}
    assert [stored[one["uuid"]].t_client for one in sent] == [one["t"] for one in sent]


def test_the_second_person_watches_and_the_first_keeps_the_place(running: Running) -> None:
    with running.join("ada"), running.join("bob") as bob:
        press = event()
        send(bob, press)
        answer = next_of(bob, "error")
        assert (answer["code"], answer["uuid"]) == ("not_yours", press["uuid"])
        assert "ada" in answer["message"]
        send(bob, {"type": "finish", "t": time.time()})
        assert next_of(bob, "error")["code"] == "not_yours"
    with running.join("ada") as ada:
        send(ada, event())
        next_of(ada, "ack")
    with running.socket() as socket:
        socket.send(hello("bob"))
        assert next_of(socket, "welcome")["role"] == "viewer"


def test_a_message_to_one_person_reaches_no_other(running: Running) -> None:
    with running.join("ada") as ada, running.join("bob") as bob:
        send(ada, event("note", {"text": "private"}))
        assert next_of(ada, "panel") == {"type": "panel", "note": "private"}
        send(ada, event())
        assert next_of(bob, "panel", "pressed")["type"] == "pressed"


def test_ten_thousand_messages_as_fast_as_they_can_be_sent_harm_nobody_else(tmp_path: Path) -> None:
    """The flood is read no faster than allowed, told so, and stored whole; others are served meanwhile."""
    limits = Limits(rate=4000.0, burst=100.0)
    with serving(tmp_path, CountingMachine("rank"), limits=limits) as running:
        with running.join("flood") as flood, running.join("ada") as ada:
            sent = [event("note", {"text": str(number)}) for number in range(10_000)]
            texts = [json.dumps(one) for one in sent]
            flooding = threading.Thread(target=lambda: [flood.send(text) for text in texts])
            flooding.start()
            for number in range(5):
                note = event("note", {"text": f"ada {number}"})
                send(ada, note)
                next_of(ada, "ack", uuid=note["uuid"])
            kinds: dict[str, int] = {}
            acked = set()
            while len(acked) < len(sent):
                message = next_of(flood, "ack", "error")
                kinds[message.get("code", "ack")] = kinds.get(message.get("code", "ack"), 0) + 1
                acked |= {message["uuid"]} if message["type"] == "ack" else set()
            flooding.join()
        assert acked == {one["uuid"] for one in sent}
        assert 1 <= kinds["too_fast"] <= 100, "told, but not once a message"
        notes = [found for found in running.stored() if found.kind == "note"]
        flood_notes = [found for found in notes if found.annotator == "flood"]
        assert [found.payload["text"] for found in flood_notes] == [str(number) for number in range(10_000)]
        others = [found.seq for found in notes if found.annotator == "ada"]
        assert len(others) == 5
        assert max(others) < flood_notes[-1].seq, "served meanwhile, and not after the flood"


KEYS = st.sampled_from(["type", "t", "uuid", "kind", "payload", "frame_id", "annotator", "client"])


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=6), inner, max_size=8)


SCALARS = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8)
JSON_VALUES = st.recursive(SCALARS, containers, max_leaves=20)
FIELDS = st.dictionaries(
    st.sampled_from(["t", "uuid", "kind", "payload", "frame_id", "annotator", "client", "protocol"]),
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.text(max_size=5)
    | st.just({})
    | st.just([]),
)
CODES = ("bad_message", "bad_event", "too_large")


def outcome(text: str) -> Any:
    """Return the message, or the refusal."""
    try:
        return parse(text, LIMIT)
    except Refused as refused:
        return refused


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=300) | JSON_VALUES.map(json.dumps))
def test_whatever_the_text_is_it_is_read_or_refused(text: str) -> None:
    found = outcome(text)
    if isinstance(found, Refused):
        assert str(found)
        assert found.code in CODES
    else:
        json.dumps(vars(found), allow_nan=False).encode()


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["hello", "ping", "finish", "event"]), FIELDS)
def test_near_misses_are_refused_with_a_sentence(kind: str, fields: dict[str, Any]) -> None:
    base: dict[str, Any] = event() | {"protocol": 1, "annotator": "ada", "client": event()["uuid"]}
    found = outcome(json.dumps(base | fields | {"type": kind}))
    assert not isinstance(found, Refused) or 10 < len(str(found)) < 300
