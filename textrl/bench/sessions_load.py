"""How fast: many clients at once, durable events a second, and a long session with one simulated person."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np

from textrl.bench.sessions_server import Served
from textrl.errors import UserError

#: Frames, and events of each client, a second.
FRAMES, EVENTS = 30.0, 5.0
CLIENTS = 32
#: Events that wait for the disk at any time, as many clients together have.
AT_ONCE = 512


def spread(values: list[float], scale: float = 1e3) -> dict[str, float]:
    """Return the median, the 99th percentile and the largest, in ms of seconds; zeros where there is none."""
    if not values:
        return {"p50": 0.0, "p99": 0.0, "max": 0.0, "count": 0}
    found = np.asarray(values) * scale
    p50, p99 = np.percentile(found, [50, 99]).tolist()
    return {"p50": p50, "p99": p99, "max": float(found.max()), "count": len(values)}


def fan_out(folder: Path, seconds: float, clients: int = CLIENTS) -> dict[str, Any]:
    """Measure many clients of one Mountain Car session in which SARSA learns.

    The first client trains and presses keys; the others watch and take notes; all send five events a second.

    Args:
        folder: For the store.
        seconds: How long, after everybody is there.
        clients: How many.

    Returns:
        Times from sending to acknowledgement and ages of frames (ms), frames a second of the slowest client,
        and how many events were sent, acknowledged and stored.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "settings.yaml"
    settings.write_text("pause_s: 0\n", encoding="utf-8")  # else an episode's end stands for a second
    arguments = ["--env", "MountainCar-v0", "--learner", "sarsa", "--step-s", str(1 / FRAMES)]
    with Served(folder, "control", [*arguments, "--settings", str(settings)]) as served:
        found = asyncio.run(_fan_out(served.share, seconds, clients))
        served.stop()
        stored = stored_uuids(served.store, served.session)
        return {
            "clients": clients,
            "seconds": seconds,
            **{key: found[key] for key in ("ack_ms", "age_ms", "frames_per_s")},
            "sent": len(found["sent"]),
            "lost": len(found["sent"] - stored.keys()),
            "doubled": sum(count - 1 for count in stored.values()),
            "store": str(served.store),
        }


async def _fan_out(link: str, seconds: float, clients: int) -> dict[str, Any]:
    from textrl.feedback.people.line import Line

    lines = [Line(link, f"client-{n}", lambda message: None, keep_frames=False) for n in range(clients)]
    running = []
    for line in lines:
        running.append(asyncio.create_task(line.run()))
        while line.welcome is None and not running[-1].done():
            await asyncio.sleep(0.005)
    # The client's own pauses would be taken for the server's.
    gc.collect()
    gc.disable()
    await asyncio.sleep(1.0)
    before = [line.measured.frames for line in lines]
    for line in lines:
        line.measured.frame_age_s.clear()
    began = time.perf_counter()
    await asyncio.gather(*(_talk(line, n, clients, seconds) for n, line in enumerate(lines)))
    took = time.perf_counter() - began
    frames = [line.measured.frames - first for line, first in zip(lines, before, strict=True)]
    for line in lines:
        await line.settled()
    gc.enable()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return {
        "ack_ms": spread([one for line in lines for one in line.measured.ack_s]),
        "age_ms": spread([one for line in lines for one in line.measured.frame_age_s]),
        "frames_per_s": min(frames) / took,
        "sent": {uuid for line in lines for uuid in (*line.acked, *line.waiting)},
    }


async def _talk(line: Any, number: int, clients: int, seconds: float) -> None:
    """Send five events a second, the clients one after another."""
    began = time.perf_counter()
    count = 0
    while (at := (count + number / clients) / EVENTS) < seconds:
        await asyncio.sleep(max(0.0, began + at - time.perf_counter()))
        if number == 0:
            line.send("press", {"value": 1 if count % 3 else -1})
        else:
            line.send("note", {"text": f"note {count}"})
        count += 1


def events_per_second(folder: Path, seconds: float) -> dict[str, Any]:
    """Measure durable events a second: SQLite, each synchronisation of the disk shared by who waits."""
    from textrl.feedback.events import Event, server_event
    from textrl.feedback.store import GroupWriter, SessionInfo, open_store

    folder.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=folder)) / "events.sqlite"
    store = open_store(path)
    store.create_session(SessionInfo(session="s", mode="rank", created=time.time(), config={}, versions={}))
    writer, room = GroupWriter(store), Semaphore(AT_ONCE)
    counts = {"stored": 0, "sent": 0}

    def stored(event: Event) -> None:
        counts["stored"] += 1
        room.release()

    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        room.acquire()
        counts["sent"] += 1
        event = server_event("s", "note", {"text": "note"}, t_server=time.time(), annotator="ada")
        writer.submit(event, lambda outcome: None, stored)
    writer.close()
    took = time.perf_counter() - began
    kept = sum(1 for _ in store.events("s"))
    store.close()
    return {"per_s": kept / took, "sent": counts["sent"], "stored": kept, "seconds": took}


def long_session(folder: Path, minutes: float) -> dict[str, Any]:
    """Measure a real-time Mountain Car session with a simulated person while SARSA learns."""
    arguments = ["--env", "MountainCar-v0", "--learner", "sarsa", "--step-s", "0.2"]
    with Served(folder, "control", arguments) as served:
        order = {
            "mode": "control",
            "link": served.share,
            "preset": "reference",
            "rate": EVENTS,
            "seconds": 60.0 * minutes,
        }
        people = subprocess.run(
            [sys.executable, "-m", "textrl.feedback.people"],
            env=os.environ | {"TEXTRL_PEOPLE": json.dumps(order)},
            capture_output=True,
            text=True,
            check=False,
        )
        if people.returncode:
            raise UserError(f"The simulated person failed: {people.stderr.strip().splitlines()[-1:]}")
        served.stop()
        person: Mapping[str, Any] = json.loads(people.stdout.strip().splitlines()[-1])[0]
        stored = stored_uuids(served.store, served.session, annotator=person["name"])
        return {
            "minutes": minutes,
            "presses": person["did"],
            "frames": person["frames"],
            "age_ms": {name: 1e3 * value for name, value in person["frame_age_s"].items()},
            "ack_ms": {name: 1e3 * value for name, value in person["ack_s"].items()},
            "acknowledged": person["acknowledged"],
            "lost": person["acknowledged"] + person["waiting"] - len(stored),
            "reconnects": 0 if person["back_s"] is None else 1,
            "store": str(served.store),
        }


def stored_uuids(path: Path, session: str, annotator: str | None = None) -> dict[str, int]:
    """Return how often each event of clients is stored."""
    from textrl.feedback.events import SERVER_KINDS
    from textrl.feedback.store import open_store

    store, found = open_store(path, readonly=True), dict[str, int]()
    try:
        for event in store.events(session):
            if event.kind not in SERVER_KINDS and annotator in (None, event.annotator):
                found[event.uuid] = found.get(event.uuid, 0) + 1
    finally:
        store.close()
    return found
