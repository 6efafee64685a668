"""What is freed goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

#: Blocks of 100 kB, below the size from which glibc maps each by itself; every second one stays.
SCRIPT = """
import re
from pathlib import Path

from textrl.memory import release_free_memory

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

blocks = [bytearray(100_000) for _ in range(2000)]
full = resident()
blocks = blocks[::2]
kept = resident()
release_free_memory()
print(full, kept, resident(), len(blocks))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep memory in other ways")
def test_freed_blocks_between_used_ones_are_returned() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    full, kept, after, used = map(float, ran.stdout.split())
    assert used == 1000
    assert kept > full - 20
    assert after < full - 70  # MB; half of 200 were freed
