"""`textrl bench data`: `textrl data split` and `dedup` on a million records made on the spot.

Each command is a process of its own, as a user would start it, and is measured whole: wall time, processor
time and peak memory, with the interpreter and its imports. The records are pairs: 200,000 users with 1 to 9
records each; 3 % repeat a recent prompt, most of them another user's (with many more, chains of users who
share prompts would join nearly everybody), and 5 % are near-copies of one.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from textrl.bench.rollout import write
from textrl.bench.running import Options, say
from textrl.bench.tables import Check, Table, checks_table, figure
from textrl.errors import UserError

RECORDS = 1_000_000
QUICK_RECORDS = 50_000
#: What splitting a million records may cost.
LIMIT_S = 60.0
LIMIT_MB = 2_000.0
#: Words of the prompts; a few thousand, so that prompts resemble each other as little as real ones.
_WORDS = 5_000


def bench(options: Options) -> int:
    """Make the records, measure, print, write; return 0, or 1 where splitting is over its limits.

    Args:
        options: Of the command.

    Raises:
        UserError: When a command fails.
    """
    count = QUICK_RECORDS if options.quick else RECORDS
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"records-{count}.jsonl"
    if not source.exists():
        say(f"textrl: making {count:,} records")
        make_records(source, count)
    # What a split leaves must not be there when the next begins; the name ends with the process.
    parts = folder / f"parts-{os.getpid()}"
    commands = {
        "split": ["split", str(source), "--by", "user_id", "--out", str(parts)],
        "dedup, prefix": ["dedup", str(source), "--method", "prefix", "--json"],
        "dedup, MinHash": ["dedup", str(source), "--method", "minhash", "--json"],
    }
    if find_spec("datasketch") is None:
        say("textrl: without MinHash: datasketch is not installed (pip install 'textrl-mdp[dedup]')")
        del commands["dedup, MinHash"]
    found = {}
    for name, arguments in commands.items():
        say(f"textrl: {name}")
        found[name] = measure(arguments)
    for path in sorted(parts.iterdir()):
        path.unlink()
    parts.rmdir()
    megabytes = source.stat().st_size / 1e6
    checks = [
        Check(
            f"split in under {LIMIT_S:.0f} s",
            figure(found["split"]["wall_s"]),
            found["split"]["wall_s"] < LIMIT_S,
        ),
        Check(
            f"split in at most {LIMIT_MB:,.0f} MB",
            figure(found["split"]["peak_mb"], 0),
            found["split"]["peak_mb"] <= LIMIT_MB,
        ),
    ]
    rows = tuple(
        (name, figure(row["wall_s"]), figure(row["cpu_s"]), figure(row["peak_mb"], 0))
        for name, row in found.items()
    )
    note = f"{count:,} records, {megabytes:,.0f} MB of JSONL; whole processes, imports included."
    timed = Table("Data", ("command", "s", "processor s", "peak MB"), rows, (note,))
    # The limits are those of the whole size: a smaller one says nothing about them.
    tables = [timed] if options.quick else [timed, checks_table(checks, "Checks")]
    write(options, {"records": count, "bytes": source.stat().st_size, "commands": found}, tables)
    return 0 if options.quick or all(check.holds for check in checks) else 1


def measure(arguments: list[str]) -> dict[str, float]:
    """Run ``textrl data`` and return wall and processor seconds and the peak of its resident memory, MB.

    Raises:
        UserError: When it fails; says what it wrote last.
    """
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "textrl.cli", "data", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(
            f"'textrl data {' '.join(arguments)}' failed: {said.strip().splitlines()[-1:] or status}"
        )
    # Linux counts in kilobytes, macOS in bytes.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return {
        "wall_s": time.perf_counter() - started,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / unit,
    }


def make_records(path: Path, count: int, seed: int = 0) -> None:
    """Write pairs with users, annotators, repeated prompts and near-copies.

    Args:
        path: A ``.jsonl`` file, which appears whole.
        count: Records.
        seed: Of everything in it.
    """
    rng = random.Random(seed)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(2, 9))) for _ in range(_WORDS)]
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    recent: list[str] = []
    user, left = 0, 0
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for row in range(count):
                if left == 0:
                    user, left = user + 1, rng.randint(1, 9)
                left -= 1
                prompt = _prompt(rng, words, recent)
                record: dict[str, Any] = {
                    "prompt": prompt,
                    "chosen": " ".join(rng.choices(words, k=40)),
                    "rejected": " ".join(rng.choices(words, k=30)),
                    "user_id": f"user-{user}",
                    "annotator": rng.randrange(40),
                    "source": f"made, row {row}",
                }
                file.write(json.dumps(record) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _prompt(rng: random.Random, words: list[str], recent: list[str]) -> str:
    """Return a new prompt, or one of the last thousand, or a near-copy of one."""
    draw = rng.random()
    if recent and draw < 0.03:
        return rng.choice(recent)
    if recent and draw < 0.08:
        old = rng.choice(recent).split()
        old[-1] = rng.choice(words)
        return " ".join(old)
    prompt = " ".join(rng.choices(words, k=rng.randint(12, 40)))
    if len(recent) < 1000:
        recent.append(prompt)
    else:
        recent[rng.randrange(1000)] = prompt
    return prompt
