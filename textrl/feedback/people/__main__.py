"""Run simulated people as a process: ``TEXTRL_PEOPLE='{...}' python -m textrl.feedback.people``.

The environment carries the order, because it carries the token, and a command line is public. The last line
of the output is JSON: what each person did and measured.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

from textrl.errors import UserError
from textrl.feedback.people.ranking import Ranker
from textrl.feedback.people.watching import Presser


def main() -> int:
    """Live until the sessions are finished, the time is over, or SIGTERM or SIGINT comes."""
    order = json.loads(os.environ["TEXTRL_PEOPLE"])
    try:
        people = [_person(order, number) for number in range(order.get("people", 1))]
        asyncio.run(_live(people, order.get("seconds")))
    except UserError as error:
        print(f"textrl: error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
        return 2
    print(json.dumps([summary(person) for person in people]), flush=True)  # noqa: T201
    return 0


def summary(person: Presser | Ranker) -> dict[str, Any]:
    """Return what a person did and measured; times in seconds."""
    line = person.line
    return {
        "name": line.annotator,
        "did": person.presses if isinstance(person, Presser) else person.judged,
        "acknowledged": len(line.acked),
        "waiting": len(line.waiting),
        "frames": line.measured.frames,
        "ack_s": _spread(line.measured.ack_s),
        "frame_age_s": _spread(line.measured.frame_age_s),
        "back_s": _spread(line.measured.back_s),
        "refused": line.measured.refused[:5],
    }


def _spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: ordered[min(len(ordered) - 1, int(level * len(ordered)))] for name, level in at.items()}


def _person(order: dict[str, Any], number: int) -> Presser | Ranker:
    name = f"{order.get('name', 'simulated')}-{number + 1}"
    seed = order.get("seed", 0) + number
    if order["mode"] == "rank":
        return Ranker(order["link"], name, order["preset"], seed=seed, rate=order.get("rate"))
    return Presser(
        order["link"], name, order["preset"], seed=seed, truth=order.get("truth"), rate=order.get("rate")
    )


async def _live(people: list[Presser | Ranker], seconds: float | None) -> None:
    tasks = [asyncio.create_task(person.live()) for person in people]

    def stop() -> None:
        for task in tasks:
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    timer = loop.call_later(seconds, stop) if seconds is not None else None
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    if timer is not None:
        timer.cancel()
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


if __name__ == "__main__":
    raise SystemExit(main())
