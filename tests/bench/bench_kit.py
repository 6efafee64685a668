"""Jobs that workers of the tests carry out. Imports nothing heavy: every worker pays for it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from textrl.bench.jobs import Job, Tell
from textrl.errors import UserError


def square(spec: Mapping[str, Any], local: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    """Note the call in a file, take the time that was asked for, and square a number."""
    with open(local["log"], "a", encoding="utf-8") as stream:
        stream.write(f"{spec['n']} {os.getpid()}\n")
    for share in range(int(20 * local.get("seconds", 0.0))):
        time.sleep(0.05)
        tell(share / 20)
    return {"square": spec["n"] ** 2}


def threads(spec: Mapping[str, Any], local: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    return {"threads": [os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")]}


def refuse(spec: Mapping[str, Any], local: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    raise UserError("This job\nis refused.")


def break_down(spec: Mapping[str, Any], local: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    if local.get("works"):
        return {"fine": True}
    raise ZeroDivisionError("nothing to divide by")


def die(spec: Mapping[str, Any], local: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    os._exit(7)


def not_finite(spec: Mapping[str, Any], local: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
    return {"value": float("nan")}


def squares(count: int, folder: Path, seconds: float = 0.0) -> list[Job]:
    local = {"log": str(folder / "calls.txt"), "seconds": seconds}
    return [Job(f"square {n}", "bench_kit:square", {"n": n}, local) for n in range(count)]


def calls(folder: Path) -> list[int]:
    """Return the numbers that were squared, in order, repetitions included."""
    return [int(line.split()[0]) for line in _lines(folder)]


def workers(folder: Path) -> set[int]:
    """Return the process ids that squared."""
    return {int(line.split()[1]) for line in _lines(folder)}


def _lines(folder: Path) -> Sequence[str]:
    file = folder / "calls.txt"
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def timeless(result: Any) -> Any:
    """Return a trial's result without what differs between two equal runs: how long it took."""
    return {key: value for key, value in result.items() if not key.endswith("_s")}


def strings(node: Any) -> Iterator[str]:
    """Yield every string in plain data."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from (key, *strings(value))
    elif isinstance(node, list):
        for value in node:
            yield from strings(value)
