"""`textrl bench text`: learners x text tasks x seeds on one scale, from 0 (random) to 1 (best)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from textrl.bench import text_tables
from textrl.bench.jobs import Job, write_whole
from textrl.bench.measures import summarise
from textrl.bench.page import page
from textrl.bench.running import Options, carry_out, check_names, machines, machines_note, publish
from textrl.bench.tables import Table, checks_table
from textrl.bench.text_grid import DIFFICULTIES, FIRST_SEED, ROWS, TARGET, TASKS, Cell, grid, select, why_not
from textrl.errors import UserError

#: Figures of a result that are summarised over seeds.
_FIGURES = (
    "score", "value", "reward", "kl", "sampled", "without", "reached", "tokens", "tokens_per_s", "cpu_s",
    "wall_s", "presses",
)  # fmt: skip
_LEAD = (
    "Every learner on the same tasks, with the same budget of tokens. 0 is a random policy (the prior, where "
    "one is part of the task), 1 the best there is. Mean over seeds and 95 % bootstrap interval of that mean."
)
_QUICK = (
    "QUICK: tiny tasks, a small part of their budgets, one seed, so scores say only that everything runs. To "
    "see tasks solved: --difficulty tiny, without --quick."
)


def bench(
    options: Options, learners: Sequence[str], envs: Sequence[str], difficulty: str | None = None
) -> int:
    """Run the grid and publish it.

    Args:
        options: Of the command line.
        learners: Rows to run; empty for all.
        envs: Tasks; empty for all.
        difficulty: Of `DIFFICULTIES`; None is small, or tiny with `--quick`.

    Returns:
        0, or 1 where a job failed.

    Raises:
        UserError: On an unknown name.
    """
    level = difficulty or ("tiny" if options.quick else "small")
    check_names([level], DIFFICULTIES, "difficulty")
    cells = select(grid(level, options.quick), learners, envs)
    if not cells:
        raise UserError(f"Nothing is left to run: {_reasons(learners, envs, level)}.")
    jobs = [_jobs(cell, options) for cell in cells]
    # Seed by seed, so that what is finished early says something about every cell.
    order = [some[seed] for seed in range(max(map(len, jobs))) for some in jobs if seed < len(some)]
    outcome = carry_out(options, order, "text tasks")
    found = [[outcome.results[job.name] for job in some if job.name in outcome.results] for some in jobs]
    rows = [row(cell, results, len(some)) for cell, results, some in zip(cells, found, jobs, strict=True)]
    came_from = machines(result for results in found for result in results)
    data = {
        "what": options.what,
        "quick": options.quick,
        "difficulty": level,
        "first_seed": FIRST_SEED,
        "cells": rows,
        "checks": [] if options.quick else [asdict(check) for check in text_tables.checks(rows)],
        "failures": outcome.failures,
        "machines": came_from,
    }
    return _publish(options, data, cells, found)


def _publish(
    options: Options, data: dict[str, Any], cells: Sequence[Cell], found: Sequence[Sequence[Any]]
) -> int:
    """Make tables, pictures, page and the short form of the results, and write all of it."""
    rows, failures = data["cells"], data["failures"]
    notes = [*text_tables.NOTES, machines_note(data["machines"])]
    brief = [_QUICK] if options.quick else []
    tables = text_tables.overview(rows, [*brief, *notes])
    tasks = [name for name in TASKS if any(cell.task == name for cell in cells)]
    curves = {
        task: text_tables.curves(
            task,
            [(cell.row, results) for cell, results in zip(cells, found, strict=True) if cell.task == task],
        )
        for task in tasks
    }
    details = [text_tables.detail(task, [one for one in rows if one["task"] == task]) for task in tasks]
    sections: list[tuple[str, Sequence[Table], Sequence[str]]] = [("Scores", tables, [])]
    reached = text_tables.checks(rows) if data["checks"] else []
    if reached:
        tables = [*tables, checks_table(reached, "Figures to reach")]
        sections.append(("Figures to reach", tables[-1:], []))
    sections += [
        (TASKS[task].env, [shown], [curves[task]]) for task, shown in zip(tasks, details, strict=True)
    ]
    html = page("textrl bench text", f"{_QUICK} {_LEAD}" if options.quick else _LEAD, sections)
    pictures = {f"text-{task}": picture for task, picture in curves.items()}
    status = publish(options, data, [*tables, *details], html, pictures, failures)
    write_whole(options.folder / "short.json", json.dumps(short(data), indent=1, allow_nan=False) + "\n")
    return status


def _reasons(learners: Sequence[str], envs: Sequence[str], difficulty: str) -> str:
    tasks = [name for name, task in TASKS.items() if not envs or name in envs or task.env in envs]
    found = ((name, task, why_not(name, task, difficulty)) for name in learners for task in tasks)
    return "; ".join(f"{name} on {task}: {why}" for name, task, why in found)


def _jobs(cell: Cell, options: Options) -> list[Job]:
    seeds = options.seeds or (1 if options.quick else ROWS[cell.row].seeds)
    return [
        Job(
            f"{cell.row} {cell.task} {cell.difficulty} seed {seed}", TARGET, cell.spec(seed), cost=cell.cost()
        )
        for seed in range(FIRST_SEED, FIRST_SEED + seeds)
    ]


def row(cell: Cell, results: Sequence[Mapping[str, Any]], seeds: int) -> dict[str, Any]:
    """Return everything about a cell as plain data; its keys are those of results.json."""
    return {
        "row": cell.row,
        "task": cell.task,
        "env": TASKS[cell.task].env,
        "difficulty": cell.difficulty,
        "budget": cell.budget,
        "seeds": seeds,
        "finished": len(results),
        **{name: _over_seeds(results, name) for name in _FIGURES},
        "reached_by": sum(result["reached"] is not None for result in results),
        "scale": results[0]["scale"] if results else None,
        "settings": results[0]["settings"] if results else None,
    }


def _over_seeds(results: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any] | None:
    values = [float(result[key]) for result in results if result[key] is not None]
    return asdict(summarise(values)) if values else None


def short(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the results without settings and with four digits: what the repository keeps."""
    cells = [
        {
            key: _rounded(value)
            for key, value in cell.items()
            if key not in ("settings", "env", "difficulty", "wall_s", "tokens") and value is not None
        }
        for cell in data["cells"]
    ]
    return {**data, "cells": cells}


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items() if key != "sem"}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
