"""`textrl bench classic-control`: learners x environments x seeds, and a table beside others' figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from textrl.bench import drawing, trial
from textrl.bench.classic_grid import (
    CART_POLE,
    ENVS,
    MOUNTAIN_CAR,
    PUBLISHED,
    QUICK_EVALUATION,
    REACH,
    SKIPPED,
    Cell,
    Published,
    grid,
    select,
)
from textrl.bench.jobs import Job
from textrl.bench.measures import LAST, WINDOW, Summary, band, summarise
from textrl.bench.page import page
from textrl.bench.running import Options, carry_out, machines, machines_note, publish
from textrl.bench.tables import NOTHING, Check, Table, checks_table, figure, with_interval
from textrl.errors import UserError

EVALUATION = 100
_NAMES = {"final": "final policy", "mean": "mean", "last": f"last {LAST}", "steps": "steps"}
_LEAD = (
    "Each learner with its published settings. Mean over seeds and 95 % bootstrap interval of that mean. "
    "Lines are means over seeds, bands 95 % intervals of those."
)
_QUICK = (
    "QUICK: budgets are small and seeds few, so returns say only that everything runs. What a network needs "
    "to reach the level takes minutes: --learners sarsa sb3/dqn --envs MountainCar-v0 --seeds 3, without "
    "--quick."
)


def bench(options: Options, learners: Sequence[str], envs: Sequence[str]) -> int:
    """Run the grid and publish it.

    Args:
        options: Of the command line.
        learners: Rows to run; empty for all.
        envs: Environments; empty for all.

    Returns:
        0, or 1 where a job failed.

    Raises:
        UserError: On an unknown name.
    """
    cells = select(grid(options.quick), learners, envs)
    if not cells:
        reasons = [f"{row} on {env}: {why}" for (row, env), why in SKIPPED.items() if row in learners]
        raise UserError(f"Nothing is left to run: {'; '.join(reasons)}.")
    jobs = [_jobs(cell, options) for cell in cells]
    outcome = carry_out(options, [job for some in jobs for job in some], "classic control")
    found = [[outcome.results[job.name] for job in some if job.name in outcome.results] for some in jobs]
    rows = [_row(cell, results, len(some)) for cell, results, some in zip(cells, found, jobs, strict=True)]
    came_from = machines(result for results in found for result in results)
    notes = _notes(options, came_from)
    brief = [_QUICK] if options.quick else []
    shown_envs = [env for env in ENVS if any(cell.env == env for cell in cells)]
    tables = [
        table(
            env,
            [row for row in rows if row["env"] == env],
            [*brief, *(notes if env == shown_envs[-1] else [])],
        )
        for env in shown_envs
    ]
    checks = [] if options.quick else reached(rows)
    runs = list(zip(cells, found, strict=True))
    pictures = {f"curves-{env}": curves(env, runs) for env in shown_envs}
    sections: list[tuple[str, Sequence[Table], Sequence[str]]] = [
        (env, [shown], [pictures[f"curves-{env}"]]) for env, shown in zip(shown_envs, tables, strict=True)
    ]
    if checks:
        tables.append(checks_table(checks, "Figures to reach"))
        sections.append(("Figures to reach", tables[-1:], []))
    data = {
        "what": options.what,
        "quick": options.quick,
        "cells": rows,
        "checks": [asdict(check) for check in checks],
        "not_run": [{"learner": row, "env": env, "why": why} for (row, env), why in SKIPPED.items()],
        "failures": outcome.failures,
        "machines": came_from,
    }
    html = page("textrl bench classic-control", f"{_QUICK} {_LEAD}" if options.quick else _LEAD, sections)
    return publish(options, data, tables, html, pictures, outcome.failures)


def _jobs(cell: Cell, options: Options) -> list[Job]:
    evaluation = QUICK_EVALUATION if options.quick else EVALUATION
    return [
        Job(
            f"{cell.row} {cell.env} seed {seed}",
            trial.TARGET,
            cell.spec(seed, evaluation=evaluation),
            cost=cell.cost(),
        )
        for seed in range(options.count(cell.seeds))
    ]


def _row(cell: Cell, results: Sequence[Mapping[str, Any]], seeds: int) -> dict[str, Any]:
    """Return everything about a cell as plain data; its keys are those of results.json."""
    reached_at = [result["reached"] for result in results if result["reached"] is not None]
    return {
        "row": cell.row,
        "learner": cell.learner,
        "env": cell.env,
        "training": cell.training,
        "seeds": seeds,
        "finished": len(results),
        "final": _over_seeds(results, "final"),
        "mean": _over_seeds(results, "mean"),
        "last": _over_seeds(results, "last"),
        "reach": REACH.get(cell.env),
        "reached_by": len(reached_at),
        "reached": asdict(summarise(reached_at)) if reached_at else None,
        "steps_per_s": _over_seeds(results, "steps_per_s"),
        "steps": _over_seeds(results, "steps"),
        "published": [asdict(one) for one in PUBLISHED.get((cell.row, cell.env), ())],
        "settings": results[0]["settings"] if results else None,
        "sections": {name: cell.sections[name] for name in cell.sections if name != "settings"},
    }


def _over_seeds(results: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any] | None:
    values = [result[key] for result in results if result[key] is not None]
    return asdict(summarise(values)) if values else None


def table(env: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> Table:
    """Return the table of one environment from rows of results.json."""
    reach = REACH.get(env)
    columns = ["learner", "training", "seeds", "final policy", "mean of run", f"last {LAST}"]
    columns += [f"steps to {reach:.0f}"] if reach is not None else []
    columns += ["steps/s", "published or measured by others"]
    own = [f"Not run: {row}, since {why}." for (row, place), why in SKIPPED.items() if place == env]
    return Table(env, tuple(columns), tuple(_cells(row) for row in rows), (*notes, *own))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    seeds = str(row["seeds"]) if row["finished"] == row["seeds"] else f"{row['finished']}/{row['seeds']}"
    cells = [row["row"], row["training"], seeds]
    cells += [with_interval(_summary(row[key])) for key in ("final", "mean", "last")]
    if row["reach"] is not None:
        cells.append(_reached(row))
    speed = row["steps_per_s"]
    cells.append(NOTHING if speed is None else figure(speed["mean"], 0))
    cells.append(_theirs([Published(**one) for one in row["published"]]))
    return tuple(cells)


def _reached(row: Mapping[str, Any]) -> str:
    """Return after how many steps a level was reached, and by how many seeds if not by all."""
    if row["reached"]:
        at = with_interval(_summary(row["reached"]), 0)
        if row["reached_by"] == row["finished"]:
            return at
    else:  # whoever trained the longest had not reached it
        at = "never" if row["steps"] is None else f"not in {figure(row['steps']['mean'], 0)}"
    return f"{at} ({row['reached_by']} of {row['finished']})"


def _summary(plain: Mapping[str, Any] | None) -> Summary | None:
    return None if plain is None else Summary(**plain)


def _theirs(published: Sequence[Published]) -> str:
    """Return others' figures for a cell; what one source says under the same conditions stands together."""
    figures: dict[str, list[str]] = {}
    for one in published:
        source = "NumPy" if "NumPy" in one.source else one.source
        place = f"{source}; {one.note}" if one.note else source
        spread = "" if one.sem is None else f" +- {one.sem}"
        figures.setdefault(place, []).append(f"{_NAMES[one.measure]} {one.value}{spread}")
    return "; ".join(f"{', '.join(values)} ({place})" for place, values in figures.items()) or NOTHING


def _notes(options: Options, came_from: Sequence[Mapping[str, Any]]) -> list[str]:
    episodes = QUICK_EVALUATION if options.quick else EVALUATION
    return [
        f"Final policy: {episodes} episodes from the same start states for all, without exploration. Mean of "
        f"run and last {LAST}: returns while training. Steps to: the mean of {WINDOW} training episodes.",
        "Brackets: 95 % bootstrap interval of the mean over seeds 0, 1, ... Steps/s: environment steps per "
        "second of CPU while training, one thread.",
        "Others: RL Zoo's published table; NumPy: measured with an independent NumPy implementation "
        "(+- is the standard error).",
        machines_note(came_from),
    ]


def reached(rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Return the figures to reach, as far as their cells were run to the end."""
    done = {(row["row"], row["env"]): row for row in rows if row["finished"] == row["seeds"]}
    measured = PUBLISHED["sarsa/rbf-pessimistic", CART_POLE][0]
    half = 1.96 * (measured.sem or 0.0)
    claims: list[tuple[str, str, str, str, Callable[[Summary], bool]]] = [
        ("sarsa/rbf-optimistic", MOUNTAIN_CAR, "mean", "mean of run in [-114, -110.5]",
         lambda s: -114.0 <= s.mean <= -110.5),
        ("sarsa/rbf-optimistic", MOUNTAIN_CAR, "last", "last 50 at least -104", lambda s: s.mean >= -104.0),
        ("sarsa/rbf-pessimistic", CART_POLE, "last", "last 50: interval overlaps 385.9 +- 1.96 x 28.6",
         lambda s: s.lo is not None and s.hi is not None
         and s.lo <= measured.value + half and s.hi >= measured.value - half),
    ]  # fmt: skip
    checks = []
    for name, env, key, claim, holds in claims:
        summary = _summary(done[name, env][key]) if (name, env) in done else None
        if summary is not None:
            checks.append(Check(f"{name}, {env}: {claim}", with_interval(summary), holds(summary)))
    return checks


def curves(env: str, runs: Sequence[tuple[Cell, Sequence[Mapping[str, Any]]]]) -> str:
    """Draw the learning curves of one environment from cells and their results."""
    lines = []
    for cell, results in runs:
        if cell.env == env:
            x, y, low, high = band([result["curve"] for result in results])
            lines.append(drawing.Curve(cell.row, x, y, low, high))
    return drawing.chart(
        f"{env}: return while training",
        lines,
        x_label="environment steps",
        y_label="return of an episode",
        log_x=True,
    )
