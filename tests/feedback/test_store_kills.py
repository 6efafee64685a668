"""kill -9 of a writing process at moments nobody chose: what was acknowledged is there, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from store_events import made_event, made_session

from textrl.feedback.store import open_store

TRIALS = 10
#: Sends events for ever and acknowledges each over the pipe, as a server does over a socket.
WRITER = """
import os, sys, time
from textrl.feedback.events import NewEvent
from textrl.feedback.store import GroupWriter, open_store

path, trial = sys.argv[1:]
writer = GroupWriter(open_store(path))
number = 0
while True:
    number += 1
    uuid = f"{trial}-{number}"
    event = NewEvent(uuid=uuid, session="s", annotator="a", kind="press", t_client=float(number),
                     t_server=time.time(), frame_id=number, payload={"value": 1, "n": number})
    writer.submit(event, lambda done: None, lambda done: os.write(1, f"{done.uuid} {done.seq}\\n".encode()))
    if number % 50 == 0:
        time.sleep(0.001)
"""


def _acknowledged_until_killed(path: Path, trial: int, wait_s: float) -> list[tuple[str, int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(trial)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    out = process.stdout.fileno()
    data = os.read(out, 1 << 16)  # writing has begun
    os.set_blocking(out, False)
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        time.sleep(0.001)
        try:
            data += os.read(out, 1 << 20)
        except BlockingIOError:
            continue
    os.kill(process.pid, signal.SIGKILL)
    os.set_blocking(out, True)
    rest, errors = process.communicate()
    assert errors == b""
    whole = (data + rest).rpartition(b"\n")[0].decode()  # the last line may be cut in the middle
    return [(line.split()[0], int(line.split()[1])) for line in whole.splitlines()]


def test_nothing_acknowledged_is_lost_or_doubled_by_ten_kills(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    store = open_store(path)
    store.create_session(made_session())
    store.close()
    draw = random.Random(6)
    acknowledged: dict[str, int] = {}
    for trial in range(TRIALS):
        told = _acknowledged_until_killed(path, trial, draw.uniform(0.0, 0.15))
        assert told
        acknowledged.update(told)
        store = open_store(path)  # the lock ended with the process
        stored = list(store.events("s"))
        by_uuid = {event.uuid: event.seq for event in stored}
        assert len(by_uuid) == len(stored)
        assert {uuid: by_uuid.get(uuid) for uuid in acknowledged} == acknowledged
        # Each trial's events are there without a hole, up to some number past the last acknowledged one.
        numbers = [event.payload["n"] for event in stored if event.uuid.startswith(f"{trial}-")]
        assert numbers == list(range(1, len(numbers) + 1))
        # A client that heard nothing sends again: the first is there already, the second is new.
        again = store.append([made_event(uuid=told[-1][0]), made_event(uuid=f"after-{trial}")])
        assert again[0].seq == told[-1][1]
        assert store.check() == []
        store.close()
