"""What the machine can do at most: matrix products and memory reads, measured in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

#: Side of the square matrices; large enough for full speed, small enough for a second.
_SIDE = 2048
#: Bytes that are read to measure the bandwidth: more than any cache holds.
_READ = 512 * 2**20
_REPEATS = 8


def limits(side: int = _SIDE, read: int = _READ) -> dict[str, float]:
    """Return ``matmul_gflops`` and ``read_gbs``: the best of several tries, fp32.

    Args:
        side: Of the square matrices.
        read: Bytes.
    """
    left, right = torch.randn(side, side), torch.randn(side, side)
    out = torch.empty(side, side)
    products = best_s(lambda: torch.mm(left, right, out=out), _REPEATS)
    stored = torch.ones(read // 4)
    reads = best_s(stored.sum, _REPEATS)
    return {"matmul_gflops": 2.0 * side**3 / products / 1e9, "read_gbs": read / reads / 1e9}


def best_s(action: Callable[[], object], repeats: int) -> float:
    """Return the shortest of `repeats` runs, after one that does not count, s."""
    action()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


def floor_s(flops: float, read_bytes: float, found: dict[str, float]) -> float:
    """Return the time that `flops` and `read_bytes` take at the measured limits, whichever is longer, s."""
    return max(flops / (found["matmul_gflops"] * 1e9), read_bytes / (found["read_gbs"] * 1e9))
