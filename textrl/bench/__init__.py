"""Benchmarks: figures that the README states, and the commands that give them."""

from __future__ import annotations

import json as json_module
import statistics
import subprocess
import sys
import time
from typing import Literal

_STARTUP = {
    "python alone": ["-c", "pass"],
    "import textrl": ["-c", "import textrl"],
    "textrl plugins": ["-m", "textrl.cli", "plugins"],
    "textrl --help": ["-m", "textrl.cli", "--help"],
}


def bench(what: Literal["startup"] = "startup", *, runs: int = 15, json: bool = False) -> int:
    """Measure what the README claims.

    Args:
        what: ``startup`` times whole processes: the interpreter, the import, the listings.
        runs: Processes per figure; the median, the fastest and the slowest are shown.
        json: Print JSON instead of a table.
    """
    rows = {name: _times_ms(arguments, runs) for name, arguments in _STARTUP.items()}
    if json:
        print(json_module.dumps({"what": what, "unit": "ms", "runs": runs, "figures": rows}))  # noqa: T201
        return 0
    print(f"{'whole process, ms':<20} {'median':>8} {'min':>8} {'max':>8}")  # noqa: T201
    for name, row in rows.items():
        print(f"{name:<20} {row['median']:>8.1f} {row['min']:>8.1f} {row['max']:>8.1f}")  # noqa: T201
    return 0


def _times_ms(arguments: list[str], runs: int) -> dict[str, float]:
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(1000 * (time.perf_counter() - started))
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}
