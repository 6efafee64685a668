"""What survives: the server killed at random moments, sockets torn off, and the replay of what was left."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

from textrl.bench.running import say
from textrl.bench.sessions_load import spread, stored_uuids
from textrl.bench.sessions_server import Served

_MOUNTAIN_CAR = ("--env", "MountainCar-v0", "--learner", "tamer", "--step-s", "0.05")
#: Keys a second while servers are killed and sockets cut: many are always on their way.
RATE = 50.0


def kills(folder: Path, trials: int, seed: int = 0) -> dict[str, Any]:
    """Kill -9 the server `trials` times while somebody presses keys, starting it again each time.

    Returns:
        Events sent, acknowledged before each kill, lost and doubled, and seconds until welcome again.
    """
    with Served(folder, "control", _MOUNTAIN_CAR) as served:
        found = asyncio.run(_kills(served, trials, random.Random(seed)))
        served.stop()
        return found | _stored(served, found.pop("line"), trials)


async def _kills(served: Served, trials: int, rng: random.Random) -> dict[str, Any]:
    line, running, pressing = await _pressing(served.share)
    waiting = []
    for trial in range(trials):
        acked = len(line.acked)
        while len(line.acked) == acked:
            await asyncio.sleep(0.005)
        await asyncio.sleep(rng.uniform(0.0, 0.4))
        waiting.append(len(line.waiting))
        await asyncio.to_thread(served.kill)
        await asyncio.to_thread(served.start)
        if (trial + 1) % 10 == 0:
            say(f"textrl: killed {trial + 1} of {trials} times, {len(line.acked)} events acknowledged")
    await _end(line, running, pressing)
    return {"line": line, "unacknowledged_at_kill": sum(waiting) / max(1, trials)}


def cuts(folder: Path, trials: int, seed: int = 0) -> dict[str, Any]:
    """Tear the socket off `trials` times while somebody presses keys.

    Returns:
        As `kills`.
    """
    with Served(folder, "control", _MOUNTAIN_CAR) as served:
        found = asyncio.run(_cuts(served.share, trials, random.Random(seed)))
        served.stop()
        return found | _stored(served, found.pop("line"), trials)


async def _cuts(link: str, trials: int, rng: random.Random) -> dict[str, Any]:
    line, running, pressing = await _pressing(link)
    for _ in range(trials):
        backs = len(line.measured.back_s)
        await asyncio.sleep(rng.uniform(0.0, 0.2))
        line.cut()
        end = time.perf_counter() + 30.0
        while len(line.measured.back_s) == backs and time.perf_counter() < end:
            await asyncio.sleep(0.002)
    await _end(line, running, pressing)
    return {"line": line}


async def _pressing(link: str) -> tuple[Any, asyncio.Task[None], asyncio.Task[None]]:
    """Return a line on which somebody presses keys without end."""
    from textrl.feedback.people.line import Line

    line = Line(link, "ada", lambda message: None, keep_frames=False)

    async def press() -> None:
        while True:
            await asyncio.sleep(1.0 / RATE)
            # Kept and sent later while there is no connection, as by a page; but not without bound.
            if len(line.waiting) < 100:
                line.send("press", {"value": 1})

    running = asyncio.create_task(line.run())
    while line.welcome is None and not running.done():
        await asyncio.sleep(0.01)
    return line, running, asyncio.create_task(press())


async def _end(line: Any, running: asyncio.Task[None], pressing: asyncio.Task[None]) -> None:
    pressing.cancel()
    await line.settled(60.0)
    running.cancel()
    await asyncio.gather(running, pressing, return_exceptions=True)


def _stored(served: Served, line: Any, trials: int) -> dict[str, Any]:
    """Compare what was acknowledged and sent with what the store holds."""
    stored = stored_uuids(served.store, served.session)
    sent = {*line.acked, *line.waiting}
    return {
        "trials": trials,
        "sent": len(sent),
        "acknowledged": len(line.acked),
        "lost": len(line.acked.keys() - stored.keys()),
        "unsettled": len(line.waiting),
        "doubled": sum(count - 1 for count in stored.values()),
        "back_s": spread(line.measured.back_s, 1.0),
        "store": str(served.store),
    }


def replayed(stores: list[str], session: str = "bench") -> dict[str, Any]:
    """Replay every session that this benchmark has made.

    Returns:
        How many sessions and digests were repeated, and how many are equal.
    """
    from textrl.feedback.replay import replay
    from textrl.feedback.store import open_store

    digests = equal = steps = 0
    for path in stores:
        store = open_store(path, readonly=True)
        try:
            result = replay(store, session)
        finally:
            store.close()
        digests += len(result.digests)
        equal += sum(digest.equal for digest in result.digests)
        steps += result.steps
    return {"sessions": len(stores), "digests": digests, "equal": equal, "events": steps}
