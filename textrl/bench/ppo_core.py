"""`textrl bench ppo-core`: the core of PPO-ptx on Cart Pole, beside Stable-Baselines3's PPO in the same run.

Both are given the values that RL Baselines3 Zoo tuned for SB3 on CartPole-v1, 100,000 steps, and the same
evaluation: 100 episodes without exploration, from start states that no training has seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from textrl.bench import drawing, trial
from textrl.bench.jobs import Job
from textrl.bench.measures import WINDOW, Summary, band, summarise
from textrl.bench.page import page
from textrl.bench.running import Options, carry_out, machines, machines_note, publish
from textrl.bench.tables import NOTHING, Check, Table, checks_table, figure, with_interval
from textrl.learners.sb3.tuned import TUNED

ENV, THEIRS, OURS = "CartPole-v1", "sb3/ppo", "ppo"
#: What a seed has to reach, and how many of ten.
SOLVED, SHARE = 475.0, 0.9
SEEDS, EVALUATION = 10, 100
QUICK_STEPS, QUICK_EVALUATION = 2048, 10
#: Counts the changes after which the same settings give another result.
REVISION = 1
#: Expected environment steps per second of CPU, for the time left.
_SPEED = {OURS: 2000.0, THEIRS: 1600.0}
_LEAD = (
    "The PPO core that trains language models, with two networks of two layers of 64, and PPO of "
    "Stable-Baselines3, both with the Zoo's values for the latter. Lines are means over seeds, bands 95 % "
    "intervals of those."
)
_QUICK = "QUICK: budgets are small and seeds few, so returns say only that everything runs."


def bench(options: Options) -> int:
    """Train both, and publish.

    Args:
        options: Of the command line.

    Returns:
        0, or 1 where a job failed.
    """
    jobs = {name: _jobs(name, options) for name in (OURS, THEIRS)}
    outcome = carry_out(options, [job for some in jobs.values() for job in some], "PPO's core")
    found = {
        name: [outcome.results[job.name] for job in some if job.name in outcome.results]
        for name, some in jobs.items()
    }
    rows = [summary(name, found[name], len(jobs[name])) for name in jobs]
    came_from = machines(result for results in found.values() for result in results)
    shown = table(rows, [*([_QUICK] if options.quick else []), *_notes(options), machines_note(came_from)])
    checks = [] if options.quick else reached(rows)
    tables = [shown, *([checks_table(checks, "To reach")] if checks else [])]
    picture = curves(found)
    lead = f"{_QUICK} {_LEAD}" if options.quick else _LEAD
    html = page("textrl bench ppo-core", lead, [(ENV, tables, [picture])])
    data = {
        "what": options.what,
        "quick": options.quick,
        "rows": rows,
        "checks": [asdict(check) for check in checks],
        "failures": outcome.failures,
        "machines": came_from,
    }
    return publish(options, data, tables, html, {f"ppo-core-{ENV}": picture}, outcome.failures)


def tuned() -> dict[str, Any]:
    """Return the Zoo's settings for SB3's PPO on Cart Pole, without the length of the training."""
    return {name: value for name, value in TUNED[THEIRS][ENV].items() if name != "timesteps"}


def _jobs(name: str, options: Options) -> list[Job]:
    steps = QUICK_STEPS if options.quick else TUNED[THEIRS][ENV]["timesteps"]
    base = {
        "learner": name,
        "env": {"id": ENV},
        "total_timesteps": steps,
        "settings": tuned(),
        "evaluation": QUICK_EVALUATION if options.quick else EVALUATION,
        "reach": SOLVED,
        "core_revision": REVISION,
    }
    return [
        Job(f"{name} {ENV} seed {seed}", trial.TARGET, {**base, "seed": seed}, cost=1 + steps / _SPEED[name])
        for seed in range(options.count(SEEDS))
    ]


def summary(name: str, results: Sequence[Mapping[str, Any]], seeds: int) -> dict[str, Any]:
    """Return everything about one learner's seeds as plain data; its keys are those of results.json."""
    finals = [float(result["final"]) for result in results]
    at = [result["reached"] for result in results if result["reached"] is not None]
    speeds = [result["steps_per_s"] for result in results if result["steps_per_s"] is not None]
    return {
        "learner": name,
        "seeds": seeds,
        "finished": len(results),
        "final": asdict(summarise(finals)) if finals else None,
        "lowest": min(finals, default=None),
        "solved": sum(value >= SOLVED for value in finals),
        "reached_by": len(at),
        "reached": asdict(summarise(at)) if at else None,
        "steps_per_s": asdict(summarise(speeds)) if speeds else None,
        "settings": results[0]["settings"] if results else None,
    }


def table(rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> Table:
    """Return the table from rows of results.json."""
    level = f"{SOLVED:.0f}"
    head = ("learner", "seeds", "final policy", "lowest seed", f"at least {level}", "steps/s")
    cells = tuple(_cells(row) for row in rows)
    return Table(ENV, (*head, f"steps to {level} in training"), cells, tuple(notes))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    finished, speed = row["finished"], row["steps_per_s"]
    at = with_interval(_summary(row["reached"]), 0)
    return (
        row["learner"],
        str(finished) if finished == row["seeds"] else f"{finished}/{row['seeds']}",
        with_interval(_summary(row["final"])),
        figure(row["lowest"]),
        f"{row['solved']} of {finished}",
        NOTHING if speed is None else figure(speed["mean"], 0),
        f"{at} ({row['reached_by']} of {finished})" if row["reached"] else "never",
    )


def _summary(plain: Mapping[str, Any] | None) -> Summary | None:
    return None if plain is None else Summary(**plain)


def _notes(options: Options) -> list[str]:
    episodes = QUICK_EVALUATION if options.quick else EVALUATION
    return [
        f"Final policy: {episodes} episodes a seed without exploration, from the same start states for all. "
        f"Steps to {SOLVED:.0f}: the mean of {WINDOW} training episodes, with the exploration in it. "
        "Brackets: 95 % bootstrap interval of the mean over seeds 0, 1, ... Steps/s: per second of CPU while "
        "training.",
    ]


def reached(rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Return whether our core solves Cart Pole, as far as all of its seeds are finished."""
    ours = next(row for row in rows if row["learner"] == OURS)
    if ours["finished"] < ours["seeds"]:
        return []
    claim = f"{OURS}: the final policy has at least {SOLVED:.0f} on {SHARE:.0%} of the seeds"
    return [Check(claim, f"{ours['solved']} of {ours['seeds']}", ours["solved"] >= SHARE * ours["seeds"])]


def curves(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Draw the learning curves of both."""
    lines = []
    for name, results in found.items():
        x, y, low, high = band([result["curve"] for result in results])
        lines.append(drawing.Curve(name, x, y, low, high))
    return drawing.chart(
        f"{ENV}: return while training, mean over seeds",
        lines,
        x_label="environment steps",
        y_label="return of an episode",
    )
