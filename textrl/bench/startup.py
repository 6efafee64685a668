"""`textrl bench startup`: what starting costs, timed as whole processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

_STARTUP = {
    "python alone": ["-c", "pass"],
    "import textrl": ["-c", "import textrl"],
    "textrl plugins": ["-m", "textrl.cli", "plugins"],
    "textrl --help": ["-m", "textrl.cli", "--help"],
}


def figures(runs: int) -> dict[str, dict[str, float]]:
    """Return the median, the fastest and the slowest of `runs` processes, ms, by name."""
    return {name: _times_ms(arguments, runs) for name, arguments in _STARTUP.items()}


def table(rows: dict[str, dict[str, float]]) -> str:
    """Return the figures for reading."""
    lines = [f"{'whole process, ms':<20} {'median':>8} {'min':>8} {'max':>8}"]
    lines += [
        f"{name:<20} {row['median']:>8.1f} {row['min']:>8.1f} {row['max']:>8.1f}"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


def _times_ms(arguments: list[str], runs: int) -> dict[str, float]:
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(1000 * (time.perf_counter() - started))
    return {"median": statistics.median(times), "min": min(times), "max": max(times)}
