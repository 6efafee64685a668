"""What breaks in practice: killed servers, torn sockets, slow readers, full disks, machines that fail."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import served
from served import TOKENS, CountingMachine, event, hello, next_of, send, serving

from textrl.errors import UserError
from textrl.feedback.events import Event
from textrl.feedback.people.line import Line
from textrl.feedback.server.limits import Limits
from textrl.feedback.server.serving import Server
from textrl.feedback.store import open_store, sqlite


def link(port: int) -> str:
    return f"http://127.0.0.1:{port}/login?token={TOKENS.join}&session=s"


class Killable:
    """The counting server as a process."""

    def __init__(self, folder: Path, step_s: float = 0.0) -> None:
        self.path, self.step_s = folder / "events.sqlite", step_s
        self.port = 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, served.__file__, str(self.path), str(self.port), str(self.step_s)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server did not start"
        self.port = int(line)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


async def pressing(line: Line, until: asyncio.Event) -> None:
    running = asyncio.create_task(line.run())
    while not until.is_set():
        await asyncio.sleep(0.004)
        if len(line.waiting) < 100:
            line.send("press", {"value": 1})
    assert await line.settled(60.0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def stored_presses(path: Path) -> Counter[str]:
    store = open_store(path, readonly=True)
    try:
        return Counter(found.uuid for found in store.events("s", kinds=("press",)))
    finally:
        store.close()


def test_the_server_is_killed_ten_times_and_nothing_acknowledged_is_lost_or_doubled(tmp_path: Path) -> None:
    rng = random.Random(6)
    server = Killable(tmp_path, step_s=0.05)
    line = Line(link(server.port), "ada", lambda message: None)

    async def trial() -> None:
        done = asyncio.Event()
        task = asyncio.create_task(pressing(line, done))
        for _ in range(10):
            acked = len(line.acked)
            while len(line.acked) < acked + 3:
                await asyncio.sleep(0.002)
            await asyncio.sleep(rng.uniform(0.0, 0.1))
            await asyncio.to_thread(server.kill)
            at_kill = set(line.acked)
            assert at_kill <= stored_presses(server.path).keys()
            await asyncio.to_thread(server.start)
        acked = len(line.acked)
        while len(line.acked) < acked + 3:
            await asyncio.sleep(0.002)
        done.set()
        await task

    asyncio.run(trial())
    server.kill()
    found = stored_presses(server.path)
    assert found.keys() == line.acked.keys()
    assert set(found.values()) == {1}
    assert len(line.measured.back_s) == 10


def test_ten_torn_sockets_lose_and_double_nothing(tmp_path: Path) -> None:
    rng = random.Random(6)
    with serving(tmp_path, CountingMachine(step_s=0.02)) as running:
        line = Line(link(running.server.port), "ada", lambda message: None)

        async def trial() -> None:
            done = asyncio.Event()
            task = asyncio.create_task(pressing(line, done))
            while line.welcome is None:
                await asyncio.sleep(0.002)
            for cut in range(10):
                await asyncio.sleep(rng.uniform(0.0, 0.05))
                line.cut()
                while len(line.measured.back_s) <= cut:
                    await asyncio.sleep(0.002)
            done.set()
            await task

        asyncio.run(trial())
        assert len(running.machine.presses) == len(line.acked)
    found = stored_presses(running.path)
    assert found.keys() == line.acked.keys()
    assert set(found.values()) == {1}


def test_a_slow_reader_gets_fresh_frames_and_every_acknowledgement_and_harms_nobody(tmp_path: Path) -> None:
    machine = CountingMachine(step_s=0.005, frame_chars=40_000)
    with (
        serving(tmp_path, machine) as running,
        running.join("ada") as ada,
        running.socket(max_queue=1) as slow,
    ):
        slow.send(hello("bob"))
        next_of(slow, "welcome")
        notes = [event("note", {"text": str(number)}) for number in range(20)]
        for note in notes:
            send(slow, note)
        # Meanwhile bob reads nothing: his buffers are full after a few frames.
        while next_of(ada, "frame")["frame_id"] < 150:
            pass
        dropped = max(one.client.outbox.dropped for one in running.server.sockets)
        assert dropped > 20
        acked = set()
        newest = 0
        while len(acked) < len(notes) or newest < 150:
            message = next_of(slow, "ack", "frame")
            if message["type"] == "ack":
                acked.add(message["uuid"])
            else:
                assert message["frame_id"] > newest, "in order"
                newest = message["frame_id"]
        assert acked == {note["uuid"] for note in notes}
        assert not slow.close_code


def test_a_reader_so_slow_that_answers_pile_up_is_sent_away_and_may_come_back(tmp_path: Path) -> None:
    limits = Limits(queue_bytes=2000, rate=1e6, burst=1e6)
    with serving(tmp_path, limits=limits) as running:
        with socket.create_connection(("127.0.0.1", running.server.port)) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            raw.sendall(
                (
                    f"GET /ws?session=s HTTP/1.1\r\nHost: 127.0.0.1:{running.server.port}\r\n"
                    f"Connection: Upgrade\r\nUpgrade: websocket\r\nAuthorization: Bearer {TOKENS.join}\r\n"
                    f"{key}\r\n"
                ).encode()
            )
            bad = bytes([0x81, 0x80 | 1, 0, 0, 0, 0]) + b"{"
            raw.settimeout(0.5)
            sent = 0
            while running.server.sockets or not sent:
                try:
                    raw.sendall(bad * 100)
                except OSError:
                    break
                sent += 100
                assert sent < 10_000_000
            patience = time.monotonic() + 30
            while running.server.sockets:  # closed by the server: this end is still open
                assert time.monotonic() < patience, "the slow reader was not sent away"
                time.sleep(0.01)
        with running.join("ada") as ada:
            send(ada, event())
            next_of(ada, "ack")


def test_a_full_disk_is_told_at_once_and_nothing_is_acknowledged_until_there_is_room(tmp_path: Path) -> None:
    with serving(tmp_path) as running, running.join() as ada:
        allow_pages(running.server, 0)
        flood = [event("note", {"text": "y" * 1900}) for _ in range(20)]
        for note in flood:
            send(ada, note)
        acked = set()
        while (told := next_of(ada, "storage", "ack"))["type"] == "ack":
            acked.add(told["uuid"])
        assert told["ok"] is False
        assert told["message"].endswith(".")
        assert acked <= {found.uuid for found in running.stored() if found.kind == "note"} < uuids(flood)
        with running.socket() as bob:
            bob.send(hello("bob"))
            assert next_of(bob, "storage")["ok"] is False, "who comes later is told too"
            allow_pages(running.server, 2**30)
            assert next_of(bob, "storage")["ok"] is True
            assert next_of(bob, "welcome")["role"] == "viewer"
        while acked != uuids(flood):
            acked.add(next_of(ada, "ack")["uuid"])
    assert uuids(flood) == {found.uuid for found in running.stored() if found.kind == "note"}


def test_a_slow_disk_delays_acknowledgements_and_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, CountingMachine(step_s=0.005)) as running, running.join() as ada:
        next_of(ada, "frame")
        asleep = threading.Event()
        monkeypatch.setattr(sqlite, "_SYNC", lambda handle: asleep.wait())
        try:
            press = event()
            send(ada, press)
            seen = [next_of(ada, "frame", "ack")["type"] for _ in range(100)]
            assert set(seen) == {"frame"}
            assert press["uuid"] in {found.uuid for found in running.stored()}, "a killed server keeps it"
        finally:
            asleep.set()
        next_of(ada, "ack", uuid=press["uuid"])


class Sluggish(CountingMachine):
    """Needs more than a step's time for every other tick."""

    def apply(self, event: Event) -> Sequence[dict[str, Any]]:
        if event.kind == "tick" and self.frames % 2:
            time.sleep(0.07)
        return super().apply(event)


def test_the_age_of_a_frame_counts_from_when_it_was_due(tmp_path: Path) -> None:
    with serving(tmp_path, Sluggish(step_s=0.05)) as running, running.join("ada") as ada:
        due = [next_of(ada, "frame")["t_server"] for _ in range(20)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(due)]
    # Every other tick comes 20 ms late.
    assert sum(abs(gap - 0.05) < 5e-3 for gap in gaps) > 0.7 * len(gaps), gaps


def uuids(events: list[dict[str, Any]]) -> set[str]:
    return {one["uuid"] for one in events}


def allow_pages(server: Server, more: int) -> None:
    """Let the database grow by so many pages and no more: what a full disk does, without one."""
    connection = server._store._write  # type: ignore[attr-defined]
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages + more}")


@pytest.mark.parametrize(("text", "sentence"), [("fail", "told to"), ("crash", "ZeroDivisionError")])
def test_a_machine_that_fails_says_so_to_everybody_and_the_log_stays_whole(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with serving(tmp_path, CountingMachine(step_s=0.01)) as running, running.join() as ada:
        press = event()
        send(ada, press)
        next_of(ada, "ack")
        send(ada, event("note", {"text": text}))
        failed = next_of(ada, "error")
        assert failed["code"] == "machine_failed"
        assert sentence in failed["message"]
        late = event()
        send(ada, late)
        assert next_of(ada, "error", uuid=late["uuid"])["code"] == "machine_failed"
        with running.socket() as bob:
            bob.send(hello("bob"))
            next_of(bob, "welcome")
            assert sentence in next_of(bob, "error")["message"]
        ticks = running.machine.frames
        time.sleep(0.1)
        assert running.machine.frames == ticks, "time stands still"
    assert press["uuid"] in {found.uuid for found in running.stored()}
    assert late["uuid"] not in {found.uuid for found in running.stored()}


def test_a_session_goes_on_after_a_restart_with_its_trainer_and_its_state(tmp_path: Path) -> None:
    with serving(tmp_path, CountingMachine(step_s=0.01)) as first, first.join("ada") as ada:
        send(ada, event(payload={"value": 10}))
        next_of(ada, "ack")
        next_of(ada, "frame")
    digest = first.machine.digest()
    last = [found for found in first.stored() if found.kind == "tick"][-1].payload["now"]
    with serving(tmp_path, CountingMachine(step_s=0.01)) as second:
        assert second.machine.digest() == digest
        with second.socket() as bob:
            bob.send(hello("bob"))
            assert next_of(bob, "welcome")["role"] == "viewer"
        with second.socket() as again:
            again.send(hello("ada"))
            welcome = next_of(again, "welcome")
            assert welcome["role"] == "trainer"
            assert welcome["view"]["total"] == 10
            assert next_of(again, "frame")["now"] >= last
    stored = second.stored()
    assert second.machine.seqs == [found.seq for found in stored][: len(second.machine.seqs)]
    digests = [found for found in stored if found.kind == "digest"]
    assert digests[0].payload["sha256"] == digest


def test_nobody_there_means_no_time(tmp_path: Path) -> None:
    with serving(tmp_path, CountingMachine(step_s=0.005)) as running:
        with running.join("ada") as ada, running.join("bob"):
            next_of(ada, "frame")
        with running.join("bob") as bob:
            send(bob, event("note", {"text": "x"}))
            next_of(bob, "ack")
            ticks = running.machine.frames
            time.sleep(0.05)
            assert running.machine.frames == ticks, "watching is not training"


def test_the_end_of_a_session_is_stored_and_stays(tmp_path: Path) -> None:
    with serving(tmp_path, CountingMachine(step_s=0.005)) as running, running.join() as ada:
        send(ada, early := event())
        next_of(ada, "ack", uuid=early["uuid"])
        send(ada, {"type": "finish", "t": time.time()})
        next_of(ada, "finished")
        late = event()
        send(ada, late)
        assert "finished" in next_of(ada, "error", uuid=late["uuid"])["message"]
        (kept,) = (found for found in running.stored() if found.uuid == early["uuid"])
        send(ada, early)  # as a page does whose acknowledgement was lost
        assert next_of(ada, "ack", uuid=early["uuid"])["seq"] == kept.seq
        assert [found.uuid for found in running.stored()].count(early["uuid"]) == 1
    with serving(tmp_path, CountingMachine(step_s=0.005)) as running, running.socket() as again:
        again.send(hello("ada"))
        assert next_of(again, "welcome")["finished"] is True
    assert [found.kind for found in running.stored()].count("finished") == 1


def test_a_taken_port_and_a_foreign_address_are_one_sentence(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.sqlite")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for host, port, said in (
            ("127.0.0.1", taken.getsockname()[1], "--port"),
            ("192.0.2.1", 0, "192.0.2.1"),
            ("no such host", 0, "no such host"),
            ("127.0.0.1", 70_000, "70000"),
        ):
            with pytest.raises(UserError, match=said) as refused:
                Server(store, TOKENS, host=host, port=port)
            assert "\n" not in str(refused.value)
    store.close()


def test_too_many_connections_are_refused_and_the_others_stay(tmp_path: Path) -> None:
    limits = Limits(connections=2)
    with serving(tmp_path, limits=limits) as running, running.join("ada") as ada, running.join("bob"):
        with running.socket() as third:
            assert "2 connections" in next_of(third, "error")["message"]
        send(ada, event())
        next_of(ada, "ack")


def test_who_says_nothing_is_sent_away(tmp_path: Path) -> None:
    with serving(tmp_path, limits=Limits(hello_s=0.05)) as running, running.socket() as silent:
        with pytest.raises(Exception, match="4408") as closed:
            silent.recv(timeout=10)
        assert "hello" in str(closed.value)


def test_requests_of_plain_http_do_not_disturb(tmp_path: Path) -> None:
    """Garbage on the port is answered or dropped; sessions go on."""
    with serving(tmp_path) as running, running.join() as ada:
        for garbage in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9\r\n\r\n", b"A" * 100_000):
            with socket.create_connection(("127.0.0.1", running.server.port)) as raw:
                raw.sendall(garbage)
        send(ada, event())
        next_of(ada, "ack")
