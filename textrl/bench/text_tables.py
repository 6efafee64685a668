"""Tables, pictures and claims of `textrl bench text`, from rows of its results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textrl.bench import drawing
from textrl.bench.measures import Summary, band
from textrl.bench.tables import NOTHING, Check, Table, figure, with_interval
from textrl.bench.text_grid import ROWS, TASKS, why_not
from textrl.evaluation.statistics import bootstrap_mean

#: What is to be reached by whom, and beside whom.
LEAST, OURS, THEIRS = 0.95, "ppo_ptx", "contrib/maskable_ppo"
NOTES = (
    "Score: 0 is the mean return of uniformly drawn tokens, 1 the best mean return; keyword and sentiment "
    "have a prior, and their score is that of E[return] - beta KL(policy || prior), where 0 is the prior.",
    "Without a prior the policy is judged without exploration (the most probable or most valuable token), on "
    "all prompts: exact for each seed. With one it is judged as it samples, by enumeration of all responses: "
    "exact too. 'As it samples' is an estimate from some 4,000 episodes.",
    "Brackets: 95 % bootstrap interval of the mean over seeds. Tokens/s: tokens sampled and learnt from, per "
    "second of CPU, one thread. best-of-16 spends 16 responses on each that it gives.",
    "+masks: told which tokens the rules leave open, while it learns and while it is judged. +h: a simulated "
    "reader (stoc, 300 presses at most) beside it; judged with the advice as it stands at the end.",
)
_CHANCE = "bootstrap of the difference over seeds"


def overview(rows: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> list[Table]:
    """Return the one table, rows by tasks, the same as policies sample, and what it cost.

    Tasks whose optimum is not known have a table of their own.

    Args:
        rows: Of results.json.
        notes: Below the first.
    """
    known = [one for one in rows if not _unknown(one)]
    tables = []
    tasks = [name for name in TASKS if any(one["task"] == name for one in known)]
    names = [name for name in ROWS if any(one["row"] == name for one in rows)]
    if known:
        found = {(one["row"], one["task"]): one for one in known}
        difficulty = known[0]["difficulty"]
        lines = [(name, *(_score(found.get((name, task))) for task in tasks)) for name in names]
        budgets = ("budget, tokens", *(f"{_any(known, task)['budget']:,}" for task in tasks))
        gaps = [f"Not run: {text}." for text in _not_run(names, tasks, difficulty)]
        tables.append(Table(f"Score, {difficulty}", ("", *tasks), (budgets, *lines), (*notes, *gaps)))
        tables.append(_sampled(names, tasks, found))
        tables.append(_costs(names, tasks, found))
    unknown = [one for one in rows if _unknown(one)]
    return [*tables, *([_estimates(unknown)] if unknown else [])]


def _sampled(names: Sequence[str], tasks: Sequence[str], found: Mapping[tuple[str, str], Any]) -> Table:
    """Return the scores of policies as they sample, where that is another score."""
    lines = []
    for name in names:
        cells = [found.get((name, task)) for task in tasks]
        if any(cell is not None and cell["sampled"] for cell in cells):
            shown = (None if cell is None else summary(cell["sampled"]) for cell in cells)
            lines.append((name, *(with_interval(one, 3) for one in shown)))
    return Table("Score as it samples", ("", *tasks), tuple(lines))


def _costs(names: Sequence[str], tasks: Sequence[str], found: Mapping[tuple[str, str], Any]) -> Table:
    """Return tokens per second and seconds of CPU for each learner on each task."""
    lines = []
    for name in names:
        cells = [found.get((name, task)) for task in tasks]
        if not any(cell is not None and cell["cpu_s"] for cell in cells):
            continue
        lines.append((name, *(_cost(cell) for cell in cells)))
    return Table("Tokens per second of CPU; seconds of one seed", ("", *tasks), tuple(lines))


def _cost(cell: Mapping[str, Any] | None) -> str:
    if cell is None or not cell["cpu_s"]:
        return NOTHING
    return f"{figure(cell['tokens_per_s']['mean'], 0)}; {figure(cell['cpu_s']['mean'], 0)}"


def _estimates(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return what is known of tasks whose optimum is not."""
    lines = tuple(
        (
            f"{one['row']}, {one['task']}",
            _seeds(one),
            with_interval(summary(one["value"]), 3),
            with_interval(summary(one["reward"]), 3),
            with_interval(summary(one["kl"]), 2),
            _cost(one),
        )
        for one in rows
    )
    notes = (
        "The best value is not known, so that nothing is normalised. J: estimated from 512 responses of each "
        "seed; best-of-16: the least that J can be, with the KL at its bound log n - (n - 1) / n.",
    )
    columns = ("", "seeds", "J", "mean return", "KL, nats", "tokens/s; seconds")
    return Table("Optimum not known: J = E[return] - beta KL", columns, lines, notes)


def detail(task: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return everything about one task."""
    columns = ("learner", "seeds", "score", "as it samples", "mean return", "KL, nats", "tokens to .95",
               "tokens/s", "wall s")  # fmt: skip
    lines = tuple(
        (
            one["row"],
            _seeds(one),
            _score(one),
            with_interval(summary(one["sampled"]), 3),
            with_interval(summary(one["reward"]), 3),
            with_interval(summary(one["kl"]), 2),
            _reached(one),
            NOTHING if one["tokens_per_s"] is None else figure(one["tokens_per_s"]["mean"], 0),
            NOTHING if one["wall_s"] is None else figure(one["wall_s"]["mean"], 0),
        )
        for one in rows
    )
    return Table(TASKS[task].env, columns, lines, tuple(_advice(rows)))


def _advice(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        f"{one['row']}: {figure(one['presses']['mean'], 0)} presses; without the advice its policy scores "
        f"{with_interval(summary(one['without']), 3)}."
        for one in rows
        if one["without"] is not None and one["presses"] is not None
    ]


def checks(rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Return the figures to reach, as far as their cells were run to the end."""
    done = {(one["row"], one["task"]): one for one in rows if one["finished"] == one["seeds"]}
    found = []
    for task in TASKS:
        ours, theirs = done.get((OURS, task)), done.get((THEIRS, task))
        if ours is None or ours["score"] is None:
            continue
        score = Summary(**ours["score"])
        said = with_interval(score, 3)
        if ours["sampled"] is not None:
            said += f"; as it samples {with_interval(Summary(**ours['sampled']), 3)}"
        found.append(Check(f"{OURS}, {task}: score at least {LEAST}", said, score.mean >= LEAST))
        if theirs is not None and theirs["score"] is not None:
            found.append(_beside(task, score, Summary(**theirs["score"])))
    return found


def _beside(task: str, ours: Summary, theirs: Summary) -> Check:
    """Hold one score against another: not worse, unless by what chance between seeds explains."""
    shared = min(len(ours.values), len(theirs.values))  # both begin with the same seed
    difference = np.asarray(ours.values[:shared]) - np.asarray(theirs.values[:shared])
    claim = f"{OURS}, {task}: at least as good as {THEIRS}"
    if len(difference) == 1:
        return Check(claim, f"{difference[0]:+.3f}", bool(difference[0] >= 0))
    interval = bootstrap_mean(difference)
    said = f"{interval.value:+.3f} [{interval.lo:+.3f}, {interval.hi:+.3f}] ({_CHANCE})"
    return Check(claim, said, interval.value >= 0 or interval.hi >= 0)


def curves(task: str, runs: Sequence[tuple[str, Sequence[Mapping[str, Any]]]]) -> str:
    """Draw the learning curves of one task from the results of its rows."""
    lines = []
    for name, results in runs:
        x, y, low, high = band([result["curve"] for result in results])
        lines.append(drawing.Curve(name, x, y, low, high))
    known = any(result["score"] is not None for _, results in runs for result in results)
    return drawing.chart(
        f"{TASKS[task].env}: {'score' if known else 'what a response is paid, KL penalty included'}",
        lines,
        x_label="tokens",
        y_label="0 is random, 1 is the optimum" if known else "J",
    )


def summary(plain: Mapping[str, Any] | None) -> Summary | None:
    """Return a summary as the results hold it; None where there is none."""
    return None if plain is None else Summary(**plain)


def _score(cell: Mapping[str, Any] | None) -> str:
    if cell is None or cell["score"] is None:
        return NOTHING
    text = with_interval(summary(cell["score"]), 3)
    missing = cell["finished"] < cell["seeds"]
    return f"{text} ({cell['finished']} of {cell['seeds']} seeds)" if missing else text


def _seeds(one: Mapping[str, Any]) -> str:
    whole = one["finished"] == one["seeds"]
    return str(one["seeds"]) if whole else f"{one['finished']}/{one['seeds']}"


def _reached(one: Mapping[str, Any]) -> str:
    """Return after how many tokens .95 was reached first, and by how many seeds if not by all."""
    if one["tokens"] is None or not one["tokens"]["mean"] or _unknown(one):
        return NOTHING
    if not one["reached"]:
        return f"never (0 of {one['finished']})"
    at = with_interval(summary(one["reached"]), 0)
    return at if one["reached_by"] == one["finished"] else f"{at} ({one['reached_by']} of {one['finished']})"


def _unknown(one: Mapping[str, Any]) -> bool:
    return one["scale"] is not None and one["scale"]["optimum"] is None


def _any(rows: Sequence[Mapping[str, Any]], task: str) -> Mapping[str, Any]:
    return next(one for one in rows if one["task"] == task)


def _not_run(names: Sequence[str], tasks: Sequence[str], difficulty: str) -> list[str]:
    """Return sentences about the cells that no run can fill, one for each row and reason."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        for task in tasks:
            why = why_not(name, task, difficulty)
            if why is not None:
                found.setdefault((name, why), []).append(task)
    return [f"{name} on {', '.join(on)}, since {why}" for (name, why), on in found.items()]
