"""`textrl bench optimum`: does a learner, PPO-ptx by default, find the optimum that is known exactly?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from textrl.bench import drawing, optimum_groups
from textrl.bench.jobs import Job
from textrl.bench.page import page
from textrl.bench.running import Options, carry_out, check_names, machines, machines_note, publish
from textrl.bench.tables import NOTHING, Check, Table, checks_table, figure

TARGET = "textrl.bench.optimum_trial:run_world"
SEEDS = 10
BETAS = (1.0, 0.5)
#: What is to be reached on every seed: total variation, and share of the objective's gap that is closed.
MOST_DISTANCE, LEAST_CLOSED = 0.02, 0.99
#: Kinds of rewards, and the worlds they are paid in: the most tokens, and the longest responses.
SIZES: dict[str, dict[str, int]] = {
    "episode": {"vocabulary": 6, "horizon": 3, "iterations": 200, "measured": 25},
    "token": {"vocabulary": 4, "horizon": 4, "iterations": 200, "measured": 25},
}
QUICK = {"vocabulary": 5, "horizon": 2, "iterations": 40, "measured": 20}
#: Of the learner, beyond the conditions under which the optimum is the known one: gamma 1, k1 in the reward,
#: no pretraining term, no whitening or clipping of rewards, one temperature.
SETTINGS: dict[str, Any] = {
    "precision": "fp32",
    "episodes_per_iteration": 256,
    "minibatches": 2,
    "epochs": 4,
    "micro_batch_size": 256,
    "learning_rate": 3e-3,
    "value_learning_rate": 4e-3,
    "adam_beta2": 0.999,
    "warmup_iterations": 0,
    "lam": 1.0,
    "value_clip": None,
    "whiten_advantages": False,
    "ema_decay": 0.98,
}
LEARNERS = ("ppo_ptx", *optimum_groups.ARMS)
_LEAD = (
    "Learners on worlds small enough to write down every response, against pi* = pi_ref exp(r / beta) / Z. "
    "Each seed is another world: another reference, other rewards, other samples."
)
_QUICK = "QUICK: smaller worlds and fewer seeds."


@dataclass(frozen=True)
class Cell:
    """One row of the table.

    Attributes:
        rewards: See `textrl.bench.optimum_world.make_rewards`.
        beta: Weight of the KL penalty.
        quick: A smaller world.
        learner: One of `LEARNERS`.
    """

    rewards: str
    beta: float
    quick: bool = False
    learner: str = LEARNERS[0]

    @property
    def name(self) -> str:
        """In tables and pictures."""
        own = "" if self.learner == LEARNERS[0] else f"{self.learner}, "
        return f"{own}{self.rewards}, beta {self.beta:g}"

    def spec(self, seed: int) -> dict[str, Any]:
        """Return the spec of one job."""
        size = QUICK if self.quick else SIZES[self.rewards]
        own: dict[str, Any] = {"settings": SETTINGS}
        if self.learner != LEARNERS[0]:
            own = optimum_groups.job(self.learner, self.beta, size["iterations"])
        return {"seed": seed, "rewards": self.rewards, "beta": self.beta, **size, **own}


def bench(options: Options, only: Sequence[str], learners: Sequence[str] = ()) -> int:
    """Run all worlds and publish what came out.

    Args:
        options: Of the command line.
        only: Kinds of rewards; empty for all.
        learners: Of `LEARNERS`; empty for the first.

    Returns:
        0, or 1 where a job failed.

    Raises:
        UserError: On an unknown kind or learner.
    """
    check_names(only, SIZES, "kind of rewards")
    check_names(learners, LEARNERS, "learner here")
    kinds = [rewards for rewards in SIZES if not only or rewards in only]
    chosen = [name for name in LEARNERS if name in (learners or LEARNERS[:1])]
    cells = [
        Cell(rewards, beta, options.quick, name) for name in chosen for rewards in kinds for beta in BETAS
    ]
    seeds = range(options.count(SEEDS))
    jobs = {
        cell: [Job(f"{cell.name} seed {seed}", TARGET, cell.spec(seed)) for seed in seeds] for cell in cells
    }
    # Seed by seed, so that what is finished early says something about every cell.
    grid = [job for of_one_seed in zip(*jobs.values(), strict=True) for job in of_one_seed]
    outcome = carry_out(options, grid, "the analytic optimum")
    found = {
        cell: [outcome.results[job.name] for job in some if job.name in outcome.results]
        for cell, some in jobs.items()
    }
    rows = [row(cell, results, len(seeds)) for cell, results in found.items()]
    came_from = machines(result for results in found.values() for result in results)
    shown = table(rows, [*([_QUICK] if options.quick else []), *_notes(cells), machines_note(came_from)])
    checks = [check for one in rows for check in reached(one)]
    grouped = [one for one in rows if one["learner"] in optimum_groups.ARMS]
    beside = [optimum_groups.table(grouped)] if grouped else []
    tables = [shown, *beside, checks_table(checks, "Figures to reach")]
    pictures = {
        "optimum-distance": distances({cell.name: results for cell, results in found.items()}),
        "optimum-gap": gaps({cell.name: results for cell, results in found.items()}),
    }
    lead = f"{_QUICK} {_LEAD}" if options.quick else _LEAD
    html = page(
        "textrl bench optimum",
        lead,
        [
            ("Standing at the end", tables[:-1], list(pictures.values())),
            ("Figures to reach", tables[-1:], []),
        ],
    )
    data = {
        "what": options.what,
        "quick": options.quick,
        "cells": rows,
        "checks": [asdict(check) for check in checks],
        "failures": outcome.failures,
        "machines": came_from,
    }
    return publish(options, data, tables, html, pictures, outcome.failures)


def row(cell: Cell, results: Sequence[Mapping[str, Any]], seeds: int) -> dict[str, Any]:
    """Return everything about a cell as plain data; its keys are those of results.json."""
    z = [one for result in results for one in result["z"]]
    return {
        "name": cell.name,
        "learner": cell.learner,
        "rewards": cell.rewards,
        "beta": cell.beta,
        "seeds": seeds,
        "finished": len(results),
        **{when: [result[when] for result in results] for when in ("start", "last", "averaged")},
        "best": [result["best"] for result in results],
        "responses": results[0]["responses"] if results else None,
        "episodes": results[0]["episodes"] if results else None,
        "z": {
            "count": len(z),
            "mean": float(np.mean(z)) if z else None,
            "sd": float(np.std(z, ddof=1)) if len(z) > 1 else None,
        },
        "cpu_s": [result["cpu_s"] for result in results],
        **(optimum_groups.figures(results) if cell.learner in optimum_groups.ARMS else {}),
    }


def table(rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> Table:
    """Return the table of all cells from rows of results.json."""
    columns = (
        "rewards, beta", "responses", "seeds", "distance at the start", "distance", "worst", "gap closed, %",
        "worst", "KL", "distance, last weights", "k1 - KL, mean and sd of z", "CPU s a seed",
    )  # fmt: skip
    return Table("Distance from the optimum", columns, tuple(_cells(one) for one in rows), tuple(notes))


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    seeds = str(one["seeds"]) if one["finished"] == one["seeds"] else f"{one['finished']}/{one['seeds']}"
    if not one["finished"]:
        return (one["name"], NOTHING, seeds, *[NOTHING] * 9)
    distance, closed = _of(one, "averaged", "total_variation"), _of(one, "averaged", "gap_closed")
    z = one["z"]
    return (
        one["name"],
        str(one["responses"]),
        seeds,
        figure(fmean(_of(one, "start", "total_variation")), 3),
        figure(fmean(distance), 4),
        figure(max(distance), 4),
        figure(100 * fmean(closed), 2),
        figure(100 * min(closed), 2),
        figure(fmean(_of(one, "averaged", "kl")), 2),
        figure(fmean(_of(one, "last", "total_variation")), 4),
        NOTHING if z["sd"] is None else f"{z['mean']:+.2f}, {z['sd']:.2f} ({z['count']})",
        figure(fmean(one["cpu_s"]), 0),
    )


def _of(one: Mapping[str, Any], when: str, key: str) -> list[float]:
    return [standing[key] for standing in one[when]]


def _notes(cells: Sequence[Cell]) -> list[str]:
    sizes = {cell.rewards: cell.spec(0) for cell in cells}
    worlds = "; ".join(
        f"{rewards}: {spec['vocabulary']} tokens, responses of at most {spec['horizon']}"
        for rewards, spec in sizes.items()
    )
    return [
        f"Two prompts. {worlds}. Distance: total variation between the learnt policy (its averaged weights) "
        "and pi*, mean over the prompts; worst: of the seeds. Gap: the objective's, between pi_ref and pi*.",
        "z: the KL that the learner logs (mean of k1 over an iteration's episodes) minus the exact KL of the "
        "policy that sampled them, in exact standard errors; right are mean 0 and sd 1 (how many).",
    ]


def reached(one: Mapping[str, Any]) -> list[Check]:
    """Hold a cell that was run to the end against what was to be reached."""
    if one["finished"] < one["seeds"]:
        return []
    own = optimum_groups.reached(one) if one["learner"] in optimum_groups.ARMS else []
    if "own" in one:
        return own  # pi* is not where it goes
    distance, closed = _of(one, "averaged", "total_variation"), _of(one, "averaged", "gap_closed")
    near = sum(value <= MOST_DISTANCE for value in distance)
    done = sum(value >= LEAST_CLOSED for value in closed)
    z, count, seeds = one["z"], one["z"]["count"], one["seeds"]
    return [
        Check(f"{one['name']}: distance at most {MOST_DISTANCE}", f"{near} of {seeds} seeds", near == seeds),
        Check(f"{one['name']}: {LEAST_CLOSED:.0%} of the gap", f"{done} of {seeds} seeds", done == seeds),
        Check(
            f"{one['name']}: logged KL = exact KL within 3 standard errors of the mean",
            f"{z['mean'] * math.sqrt(count):+.2f} standard errors",
            abs(z["mean"]) * math.sqrt(count) <= 3,
        ),
        *own,
    ]


def distances(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Draw the distance of the policy being trained; bands reach from the nearest to the farthest seed."""
    return drawing.chart(
        "Total variation between the policy being trained and the optimum",
        [_curve(name, results, lambda point: point["total_variation"]) for name, results in found.items()],
        x_label="episodes",
        y_label="1/2 sum |pi - pi*|",
    )


def gaps(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Draw what is left of the objective's gap, in powers of ten, so that -2 is 99 % closed."""
    return drawing.chart(
        "What is left of the gap in the objective",
        [
            _curve(name, results, lambda point: math.log10(max(1 - point["gap_closed"], 1e-6)))
            for name, results in found.items()
        ],
        x_label="episodes",
        y_label="log10 of the share that is left: -2 is 99 % closed",
    )


def _curve(
    name: str, results: Sequence[Mapping[str, Any]], height: Callable[[Mapping[str, float]], float]
) -> drawing.Curve:
    """Return mean, least and greatest over seeds; all of them are measured after the same episodes."""
    if not results:
        return drawing.Curve(name, [], [])
    values = np.array([[height(point) for point in result["curve"]] for result in results])
    at = [point["episodes"] for point in results[0]["curve"]]
    return drawing.Curve(name, at, values.mean(0).tolist(), values.min(0).tolist(), values.max(0).tolist())
