"""The server's parts alone: the session's clock, the outbox, the rate limit; and any history of events."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from served import Running, event, hello, next_of, send, serving

from textrl.feedback.server.clock import WINDOW_S, SessionClock
from textrl.feedback.server.limits import Bucket
from textrl.feedback.server.outbox import KEEP, Outbox, Overflow


def test_the_clock_takes_the_message_of_least_delay() -> None:
    clock = SessionClock()
    assert clock.now(5.0) is None
    # The page's clock is 1000 s ahead of the server's; delays of .5, .1 and .3 s.
    assert clock.joined(1010.0, 10.5, 1010.0) == 0.0
    clock.observe(1011.0, 11.1)
    clock.observe(1012.0, 12.3)
    assert clock.now(13.0) == pytest.approx(1012.9)
    assert clock.ahead(1014.9, 13.0) == pytest.approx(2.0)


def test_an_old_estimate_is_forgotten_when_clocks_drift() -> None:
    clock = SessionClock()
    clock.joined(0.0, 0.0, 0.0)
    for second in range(1, int(3 * WINDOW_S)):
        clock.observe(second * 0.999, float(second))
    estimate = clock.now(3 * WINDOW_S)
    assert estimate is not None
    assert 0 <= estimate - 3 * WINDOW_S * 0.999 < 0.1


@given(
    st.lists(
        st.tuples(st.sampled_from(["join", "observe", "now"]), st.floats(-1e5, 1e5), st.floats(0, 100)),
        max_size=40,
    )
)
def test_session_time_never_falls_and_new_pages_are_never_behind_it(
    steps: list[tuple[str, float, float]],
) -> None:
    clock, received, last = SessionClock(), 0.0, -float("inf")
    for what, t, passed in steps:
        received += passed
        if what == "join":
            shift = clock.joined(t, received, 50.0)
            assert t + shift >= last - 1e-6
        elif what == "observe":
            clock.observe(min(t, 1e5), received)
        now = clock.now(received)
        assert now is None or now >= last
        last = last if now is None else now


def test_an_absurd_clock_does_not_set_the_sessions_forward() -> None:
    clock = SessionClock(last_s=1000.0)
    assert clock.joined(1e12, 5.0, 2000.0) == 2000.0 - 1e12
    assert clock.now(6.0) == pytest.approx(2001.0)
    back = clock.joined(1500.0, 7.0, 2003.0)
    assert back == pytest.approx(501.0)


def test_frames_give_way_oldest_first_and_nothing_else_does() -> None:
    async def trial() -> list[str]:
        box = Outbox(1000)
        for number in range(5):
            box.put("frame", f"frame {number}")
            box.put("ack", f"ack {number}")
        assert box.dropped == 5 - KEEP["frame"]
        return [await box.get() for _ in range(5 + KEEP["frame"])]

    assert asyncio.run(trial()) == [
        "ack 0", "ack 1", "ack 2", "frame 3", "ack 3", "frame 4", "ack 4",
    ]  # fmt: skip


def test_what_must_not_be_dropped_overflows() -> None:
    async def trial() -> None:
        box = Outbox(10)
        box.put("frame", "x" * 100)
        box.put("ack", "x" * 10)
        await box.get()
        await box.get()
        box.put("ack", "x" * 10)
        with pytest.raises(Overflow):
            box.put("ack", "x")

    asyncio.run(trial())


@settings(deadline=None)
@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=60))
def test_a_bucket_that_is_obeyed_keeps_to_its_rate(pauses: list[float]) -> None:
    bucket, now, began = Bucket(10.0, 5.0, 0.0), 0.0, 0.0
    for count, pause in enumerate(pauses, 1):
        now += pause
        now += bucket.take(now)
        assert count <= 5 + 10 * (now - began) + 1e-6


class Protocol(RuleBasedStateMachine):
    """People come, press, send twice, are cut off and take back; the model is a dict."""

    sent = Bundle("sent")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.stack = ExitStack()
        self.running: Running = self.stack.enter_context(serving(self.folder))
        self.trainer: str | None = None
        self.sockets: dict[str, Any] = {}
        self.presses: dict[str, int] = {}
        self.seqs: dict[str, int] = {}

    def socket(self, name: str) -> Any:
        """Return an open socket of a person, who joins where they are not there."""
        if name not in self.sockets:
            manager = self.running.socket()
            found = manager.__enter__()
            found.send(hello(name))
            self.trainer = self.trainer or name
            welcome = next_of(found, "welcome")
            assert welcome["role"] == ("trainer" if name == self.trainer else "viewer")
            assert welcome["view"]["presses"] == len(self.presses), "the whole state, at once"
            self.sockets[name] = (manager, found)
        return self.sockets[name][1]

    @rule(name=st.sampled_from(["ada", "bob"]), value=st.sampled_from([1, -1, 10, -10]), target=sent)
    def press(self, name: str, value: int) -> dict[str, Any]:
        socket, press = self.socket(name), event(payload={"value": value})
        send(socket, press)
        if name == self.trainer:
            self.seqs[press["uuid"]] = next_of(socket, "ack", uuid=press["uuid"])["seq"]
            self.presses[press["uuid"]] = value
        else:
            assert next_of(socket, "error", uuid=press["uuid"])["code"] == "not_yours"
        return press

    @rule(press=sent)
    def again(self, press: dict[str, Any]) -> None:
        if press["uuid"] in self.seqs and self.trainer is not None:
            socket = self.socket(self.trainer)
            send(socket, press)
            assert next_of(socket, "ack", uuid=press["uuid"])["seq"] == self.seqs[press["uuid"]]

    @rule(press=sent)
    def undo(self, press: dict[str, Any]) -> None:
        if self.trainer is not None:
            socket, undone = self.socket(self.trainer), event("undone", {"uuid": press["uuid"]})
            send(socket, undone)
            next_of(socket, "ack", uuid=undone["uuid"])
            self.presses.pop(press["uuid"], None)

    @rule(name=st.sampled_from(["ada", "bob"]), text=st.sampled_from(["{", "[]", '{"type":"x"}', "\x00"]))
    def babble(self, name: str, text: str) -> None:
        socket = self.socket(name)
        send(socket, text)
        assert next_of(socket, "error")["code"] == "bad_message"

    @rule(name=st.sampled_from(["ada", "bob"]))
    def cut(self, name: str) -> None:
        if name in self.sockets:
            manager, found = self.sockets.pop(name)
            found.socket.close()
            manager.__exit__(None, None, None)

    @rule()
    def restart(self) -> None:
        for name in list(self.sockets):
            self.cut(name)
        self.stack.close()
        self.running = self.stack.enter_context(serving(self.folder))

    @invariant()
    def every_acknowledged_press_is_stored_once(self) -> None:
        stored = [found for found in self.running.stored() if found.kind == "press"]
        assert {found.uuid: found.seq for found in stored} == self.seqs
        assert len(stored) == len(self.seqs)

    def teardown(self) -> None:
        for name in list(self.sockets):
            self.cut(name)
        self.stack.close()
        assert self.running.machine.presses == self.presses
        shutil.rmtree(self.folder)


Protocol.TestCase.settings = settings(max_examples=6, stateful_step_count=12, deadline=None)
TestProtocol = Protocol.TestCase
