"""`textrl bench ppo`: one iteration of PPO against TRL 1.12.0, the same work, in one run.

Ours (`textrl.bench.ppo_worker`) and the baseline (`textrl.bench.ppo_trl`, in an environment that
`textrl.bench.ppo_peer` makes) take turns, one process at a time.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from textrl.bench.ppo_peer import peer_python
from textrl.bench.rollout import chosen, limits_note, worker, write
from textrl.bench.running import Options, check_names, say
from textrl.bench.tables import Check, Table, checks_table, figure
from textrl.models.precision import has_native_bf16

#: Size -> batch.
BATCHES = {"tiny": 64, "tiny-50k": 64, "gpt2": 16, "smollm2": 16}
#: Size -> our speed over TRL's in fp32, to be reached in fp32 and, where the processor multiplies bf16, by
#: default.
RATIOS = {"fp32": dict.fromkeys(BATCHES, 1.4), "bf16": {"tiny": 2.5, "tiny-50k": 2.5, "gpt2": 4.0}}
#: Sizes whose single iteration takes so long that warming up changes nothing.
SLOW = ("gpt2", "smollm2")
#: Our peak memory over TRL's, not to be exceeded.
MEMORY = 0.5


def bench(options: Options, sizes: Sequence[str], baseline: bool) -> int:
    """Measure, print, write; return 0.

    Args:
        options: Of the command.
        sizes: Names in `BATCHES`; empty takes the usual ones.
        baseline: Whether to run TRL too.

    Raises:
        UserError: When a size does not exist or a measurement fails.
    """
    check_names(sizes, BATCHES, "size")
    python = str(peer_python()) if baseline else None
    precisions = ["fp32", "bf16"] if has_native_bf16("cpu") else ["fp32"]
    rows = []
    for size in chosen(sizes):
        for precision in precisions:
            rows.append(_measure(size, precision, python, options.quick))
    _beside_fp32(rows)
    checks = [check for row in rows if "ratio" in row for check in _checks(row)]
    tables = [_table(rows, precisions), *([checks_table(checks, "Checks")] if checks else [])]
    write(options, {"rows": rows}, tables)
    return 0


def _measure(size: str, precision: str, python: str | None, quick: bool) -> dict[str, Any]:
    """Run both in turns and put their figures side by side."""
    iterations, turns = (1, 1) if quick or size in SLOW else (2, 2)
    ours: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    for _ in range(turns):
        if python is not None:
            say(f"textrl: TRL, {size}, {precision}")
            script = str(Path(__file__).with_name("ppo_trl.py"))
            theirs.append(worker(script, json.dumps(trl_job(size, precision, iterations)), python=python))
        say(f"textrl: ours, {size}, {precision}")
        arguments = ["--size", size, "--batch", str(BATCHES[size]), "--precision", precision]
        arguments += ["--iterations", str(iterations), "--warm-up", str(_warm_up(size))]
        ours.append(worker("textrl.bench.ppo_worker", *arguments))
    row: dict[str, Any] = {"size": size, "batch": BATCHES[size], "precision": precision, "ours": ours}
    if theirs:
        row |= {"trl": theirs, "ratio": _median(theirs) / _median(ours)}
        row["memory_ratio"] = _most(ours, "peak_mb") / _most(theirs, "peak_mb")
    return row


def _beside_fp32(rows: Sequence[dict[str, Any]]) -> None:
    """Give every row our speed over TRL's in fp32, the precision in which TRL's speed is on record."""
    theirs = {row["size"]: _median(row["trl"]) for row in rows if row["precision"] == "fp32" and "trl" in row}
    for row in rows:
        if row["size"] in theirs:
            row["ratio_to_fp32"] = theirs[row["size"]] / _median(row["ours"])


def trl_job(size: str, precision: str, iterations: int) -> dict[str, Any]:
    """Return what `textrl.bench.ppo_trl` is to do: the work of `textrl.bench.ppo_worker`."""
    from textrl.bench.ppo_worker import EPOCHS, MINIBATCH
    from textrl.bench.rollout_sizes import GPT2_SIZES, PROMPT, RESPONSE
    from textrl.models.smollm import smollm2_135m

    job: dict[str, Any] = {
        "size": size,
        "batch": BATCHES[size],
        "prompt": PROMPT,
        "response": RESPONSE,
        "epochs": EPOCHS,
        "minibatches": BATCHES[size] // MINIBATCH,
        "micro_batch": MINIBATCH,
        "iterations": iterations,
        "warm_up": _warm_up(size),
        "precision": precision,
    }
    if size == "smollm2":
        return job | {"folder": str(smollm2_135m())}
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return job | {"config": {**GPT2_SIZES[size], **dropout, "n_positions": 256}}


def _warm_up(size: str) -> int:
    return 0 if size in SLOW else 1


def _checks(row: Mapping[str, Any]) -> list[Check]:
    what = f"{row['size']}, {row['precision']}"
    wanted = RATIOS[row["precision"]].get(row["size"])
    found = []
    if wanted is not None:
        claim = f"{what}: at least {wanted} times as fast as TRL in fp32"
        found.append(Check(claim, f"{row['ratio_to_fp32']:.2f}", row["ratio_to_fp32"] >= wanted))
    memory = row["memory_ratio"]
    return [
        *found,
        Check(f"{what}: at most {MEMORY:.0%} of TRL's peak memory", f"{memory:.0%}", memory <= MEMORY),
    ]


def _median(runs: Sequence[Mapping[str, Any]]) -> float:
    return statistics.median(float(time) for run in runs for time in run["iteration_s"])


def _most(runs: Sequence[Mapping[str, Any]], name: str) -> float:
    return max(float(run[name]) for run in runs)


def _table(rows: Sequence[Mapping[str, Any]], precisions: Sequence[str]) -> Table:
    lines = []
    for row in rows:
        theirs = row.get("trl")
        floor = statistics.median(run["floor_s"] for run in row["ours"])
        lines.append(
            (
                f"{row['size']}, {row['precision']}",
                str(row["batch"]),
                figure(_median(row["ours"]), 2),
                figure(_median(theirs) if theirs else None, 2),
                figure(row.get("ratio"), 2),
                figure(row.get("ratio_to_fp32"), 2),
                figure(_median(row["ours"]) / floor, 2) if row["precision"] == "fp32" else "-",
                figure(_most(row["ours"], "peak_mb"), 0),
                figure(_most(theirs, "peak_mb") if theirs else None, 0),
            )
        )
    timed = ("ours, s", "TRL, s", "ratio", "to its fp32", "times the limit")
    columns = ("model", "batch", *timed, "ours, MB", "TRL, MB")
    notes = [
        "One iteration: 32 prompt and 48 response tokens, no early stop, 4 epochs of minibatches of 16 on "
        "policy and value; four separate networks; medians.",
        "The limit is the iteration's operations at the measured speed of fp32 matrix products.",
        limits_note([run for row in rows for run in row["ours"]]),
    ]
    if "bf16" not in precisions:
        notes.append("This processor has no bf16 instructions, so the default precision is fp32.")
    return Table("One PPO iteration", columns, tuple(lines), tuple(notes))
