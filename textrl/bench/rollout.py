"""`textrl bench rollout`: our rollout against transformers' `generate`, stepping, and cost by length.

Every measurement is a process of its own (`textrl.bench.rollout_worker`), one after another: two at a time
would measure each other.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from textrl.bench.jobs import write_whole
from textrl.bench.running import Options, check_names, say
from textrl.bench.tables import Check, Table, checks_table, figure, markdown, plain
from textrl.bench.trial import machine
from textrl.errors import UserError

#: Size -> batch, as the figures are stated.
BATCHES = {"tiny": 64, "tiny-50k": 64, "gpt2": 8, "smollm2": 8}
#: Sizes that are worth repeating more often, as one rollout is short.
FAST = ("tiny", "tiny-50k")
USUAL = ("tiny", "gpt2", "smollm2")
#: Our speed over that of `generate`, to be reached.
RATIO = 1.5
#: The environment's step over the model's, not to be exceeded.
SHARE = 0.05
#: Deviation from a T + b T^2, not to be exceeded.
DEVIATION = 0.10


def bench(options: Options, sizes: Sequence[str]) -> int:
    """Measure, print, write; return 0.

    Args:
        options: Of the command.
        sizes: Names in `BATCHES`; empty takes the usual ones.

    Raises:
        UserError: When a size does not exist or a measurement fails.
    """
    check_names(sizes, BATCHES, "size")
    repeats = "3" if options.quick else "5"
    longest = "256" if options.quick else "1024"
    speeds = []
    for size in chosen(sizes):
        say(f"textrl: rollout, {size}")
        arguments = ["speed", "--size", size, "--batch", str(BATCHES[size])]
        arguments += ["--repeats", repeats if size in FAST else "3"]
        speeds.append(worker("textrl.bench.rollout_worker", *arguments))
    say("textrl: a step of the environment")
    stepping = worker("textrl.bench.rollout_worker", "stepping", "--batch", "64", "--repeats", repeats)
    say("textrl: cost by length")
    lengths = worker(
        "textrl.bench.rollout_worker", "lengths", "--batch", "8", "--repeats", "3", "--longest", longest
    )
    checks = [
        *(
            Check(
                f"{row['size']}: at least {RATIO} times as fast as generate",
                f"{row['ratio']:.2f}",
                row["ratio"] >= RATIO,
            )
            for row in speeds
        ),
        Check(
            f"a step of 64 environments costs under {SHARE:.0%} of the model's",
            f"{stepping['share']:.1%}",
            stepping["share"] < SHARE,
        ),
        Check(
            f"cost follows a T + b T^2 within {DEVIATION:.0%} up to T = {lengths['tokens'][-1]}",
            f"{lengths['worst']:.1%}",
            lengths["worst"] <= DEVIATION,
        ),
    ]
    tables = [_speed_table(speeds), _length_table(lengths), checks_table(checks, "Checks")]
    write(options, {"speed": speeds, "stepping": stepping, "lengths": lengths}, tables)
    return 0


def chosen(sizes: Sequence[str]) -> list[str]:
    """Return the sizes to measure: SmolLM2 by default only where its weights are installed."""
    if sizes:
        return list(dict.fromkeys(sizes))
    from textrl.models.smollm import smollm2_135m

    try:
        smollm2_135m()
    except UserError as error:
        say(f"textrl: without smollm2. {error}")
        return [size for size in USUAL if size != "smollm2"]
    return list(USUAL)


def worker(module: str, *arguments: str, python: str = sys.executable) -> dict[str, Any]:
    """Run a measurement in a process and return the JSON of its last line.

    Args:
        module: Dotted name, or the path of a script.
        arguments: Its command line.
        python: The interpreter.

    Raises:
        UserError: When it fails; says what it wrote last.
    """
    start = [python, module] if module.endswith(".py") else [python, "-m", module]
    outcome = subprocess.run([*start, *arguments], capture_output=True, text=True, check=False)
    if outcome.returncode:
        said = (outcome.stderr.strip() or "no message").splitlines()[-1]
        raise UserError(f"The measurement '{module} {' '.join(arguments)}' failed: {said}")
    result: dict[str, Any] = json.loads(outcome.stdout.strip().splitlines()[-1])
    return result


def write(options: Options, data: Mapping[str, Any], tables: Sequence[Table]) -> None:
    """Write results.json, tables.txt and tables.md, and print the tables or the JSON."""
    folder = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    date = datetime.now().astimezone().isoformat(timespec="seconds")
    whole = {"what": options.what, "date": date, "machine": machine(), **data}
    text = json.dumps(whole, indent=1, allow_nan=False) + "\n"
    readable = "\n\n\n".join(plain(table) for table in tables) + "\n"
    write_whole(folder / "results.json", text)
    write_whole(folder / "tables.txt", readable)
    write_whole(folder / "tables.md", "\n\n".join(markdown(table) for table in tables) + "\n")
    sys.stdout.write(text if options.json else readable)
    say(f"textrl: written to {folder}: tables.md, tables.txt, results.json")


def limits_note(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the measured limits as a sentence."""
    products = max(row["limits"]["matmul_gflops"] for row in rows)
    reads = max(row["limits"]["read_gbs"] for row in rows)
    return (
        f"Measured in the same run: matrix products up to {products:.0f} GFLOP/s in fp32, reads up to "
        f"{reads:.0f} GB/s, {rows[0]['threads']} threads."
    )


def _speed_table(speeds: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for row in speeds:
        ours, theirs = statistics.median(row["ours_s"]), statistics.median(row["generate_s"])
        count = row["batch"] * row["response"]
        rows.append(
            (
                row["size"],
                str(row["batch"]),
                figure(count / ours, 0),
                figure(count / theirs, 0),
                figure(1e3 * ours / row["response"], 2),
                figure(row["ratio"], 2),
                figure(ours / row["floor_s"], 2),
            )
        )
    columns = ("model", "batch", "tokens/s", "generate, tokens/s", "ms a step", "ratio", "times the limit")
    notes = (
        "32 prompt tokens, 48 new tokens, no early stop, fp32; medians over turns of one process.",
        limits_note(speeds),
    )
    return Table("Rollout", columns, tuple(rows), notes)


def _length_table(found: Mapping[str, Any]) -> Table:
    rows = tuple(
        (str(count), figure(seconds, 3), f"{deviation:+.1%}")
        for count, seconds, deviation in zip(
            found["tokens"], found["seconds"], found["deviations"], strict=True
        )
    )
    fitted = f"{found['a_ms']:.3f} ms T + {found['b_us']:.3f} us T^2"
    note = f"Fit: {fitted}; {found['size']}, batch {found['batch']}."
    return Table("Rollout by length", ("new tokens T", "s", "off the fit"), rows, (note,))
