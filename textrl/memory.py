"""What this process holds of the machine's memory, and giving back what nobody uses any more."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from pathlib import Path

import torch


def peak_bytes() -> int:
    """Return the most memory that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # elsewhere the system counts KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def release_free_memory() -> None:
    """Collect garbage, and let the C library return what it keeps for later.

    glibc keeps freed blocks between those in use: 790 MB after the reward model's stage of the quickstart in
    bf16. Elsewhere than on Linux, and with other C libraries, only garbage is collected.
    """
    gc.collect()
    if sys.platform != "linux":
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def memory_figures() -> dict[str, float]:
    """Return this process's memory in gigabytes (10^9 bytes): now, at its peak, and the GPU's peak."""
    figures = {"memory/peak_rss_gb": peak_bytes() / 1e9}
    statm = Path("/proc/self/statm")
    if statm.exists():
        figures["memory/rss_gb"] = int(statm.read_text().split()[1]) * resource.getpagesize() / 1e9
    if torch.cuda.is_available():
        figures["memory/cuda_peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return figures
