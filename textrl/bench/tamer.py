"""`textrl bench tamer`: the papers on TAMER+RL, repeated with simulated trainers, in one command.

Data flow: H models (trained on the spot, or given) -> jobs of `tamer_arms` -> rows over seeds -> tables,
checks, and the pictures of `tamer_pictures`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from textrl.bench import tamer_arms, trial
from textrl.bench.jobs import Job, Outcome, write_whole
from textrl.bench.measures import LAST, Summary, summarise
from textrl.bench.page import page
from textrl.bench.running import Options, carry_out, check_names, machines, machines_note, publish
from textrl.bench.tables import NOTHING, Table, checks_table, figure, with_interval, with_sem
from textrl.bench.tamer_arms import PARTS, PEOPLE, Arm, Theirs
from textrl.bench.tamer_checks import reached
from textrl.bench.tamer_pictures import pictures
from textrl.errors import UserError

_QUICK = "QUICK: runs are short and seeds few, so returns say only that everything runs."
_TITLES = {
    "h-models": "H learnt from simulated trainers (MountainCar-v0)",
    "sequential": "Sequential TAMER+RL (MountainCar-v0, pessimistic SARSA(lambda), beta x .98 per episode)",
    "simultaneous": "Simultaneous TAMER+RL (TextRL/MountainCarRLLibrary-v0, pessimistic SARSA(lambda))",
    "cart-pole": "Simultaneous TAMER+RL (TextRL/CartPoleRLLibrary-v0)",
}
_LEAD = (
    "TAMER+RL with simulated trainers: mean return while training, over seeds. Lines are means over seeds "
    "and ten episodes, bands 95 % intervals of the mean."
)
#: Expected environment steps per second of CPU, by what stands beside the learner.
_SPEED = {"nothing": 15_000.0, "h": 9_000.0, "person": 3_500.0}
_LENGTH = {"cart-pole": 300, "simultaneous": 125, "sequential": 130, "h-models": 130}


@dataclass(frozen=True)
class HModel:
    """H of the sequential part.

    Attributes:
        name: In tables.
        path: JSON list of its weights.
        digest: SHA-256 of the file.
    """

    name: str
    path: Path
    digest: str

    @property
    def person(self) -> str | None:
        """H1 or H2 where it is one of those that people trained, else None."""
        return PEOPLE.get(self.digest)


def bench(options: Options, only: Sequence[str], given: tuple[Path, Path] | None) -> int:
    """Run the study and publish it.

    Args:
        options: Of the command line.
        only: Parts to run; empty for all.
        given: H models to use instead of training some.

    Returns:
        0, or 1 where a job failed.

    Raises:
        UserError: On an unknown part, or an H model that cannot be used or made.
    """
    check_names(only, PARTS, "part")
    parts = [part for part in PARTS if not only or part in only]
    quick = options.quick
    results: dict[str, Any] = {}
    failures: dict[str, str] = {}
    arms: list[Arm] = []
    models: tuple[HModel, ...] = () if given is None else _given(given)
    if given is None and {"h-models", "sequential"} & set(parts):
        training = list(tamer_arms.h_models(quick))
        arms += training
        outcome = _run(options, training, (), "H models")
        results |= outcome.results
        failures |= outcome.failures
        models = _keep(options.folder / "h_models", training, outcome)
    further: list[Arm] = []
    if "sequential" in parts:
        further += tamer_arms.sequential(tuple(model.name for model in models), quick)
    if "simultaneous" in parts:
        further += tamer_arms.simultaneous(quick)
    if "cart-pole" in parts:
        further += tamer_arms.cart_pole(quick)
    if not arms and not further:
        raise UserError("Nothing is left to run: with --h-models no H is trained; leave out --only h-models.")
    if further:
        outcome = _run(options, further, models, "TAMER+RL")
        results |= outcome.results
        failures |= outcome.failures
        arms += further
    return _publish(options, arms, models, results, failures)


def _given(paths: tuple[Path, Path]) -> tuple[HModel, ...]:
    """Check H models that somebody else trained.

    Raises:
        UserError: When a file is no H over Mountain Car.
    """
    import gymnasium

    from textrl.tamer import Tamer, TamerSettings

    space = gymnasium.make(tamer_arms.MOUNTAIN_CAR).observation_space
    found: list[HModel] = []
    for path in paths:
        Tamer.from_weights(path, TamerSettings(), space, 3)
        name = path.stem if all(path.stem != other.name for other in found) else f"{path.stem}-2"
        found.append(HModel(name, path.resolve(), trial.digest(path)))
    return tuple(found)


def _keep(folder: Path, arms: Sequence[Arm], outcome: Outcome) -> tuple[HModel, ...]:
    """Write the H models that were trained, and return them.

    Raises:
        UserError: When one could not be trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for arm in arms:
        name = _job_name(arm, 0)
        if name not in outcome.results:
            raise UserError(f"The H model '{arm.name}' could not be trained: {outcome.failures[name]}")
        path = folder / f"{arm.name}.json"
        text = json.dumps(outcome.results[name]["weights"]) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_whole(path, text)
        found.append(HModel(arm.name, path.resolve(), trial.digest(path)))
    return tuple(found)


def _job_name(arm: Arm, seed: int) -> str:
    return f"{arm.key} seed {seed}"


def _seeds(arm: Arm, options: Options) -> int:
    # The two H models are material for what follows, not figures over seeds.
    return 1 if arm.part == "h-models" else options.count(tamer_arms.SEEDS)


def _run(options: Options, arms: Sequence[Arm], models: Sequence[HModel], title: str) -> Outcome:
    """Carry out all seeds of some arms."""
    known = {model.name: model for model in models}
    jobs = []
    for arm in arms:
        model = known[arm.model] if arm.model is not None else None
        digest = model.digest if model is not None else None
        local = {key: str(model.path) for key in arm.files} if model is not None else {}
        beside = "person" if "human" in arm.sections else "h" if arm.model else "nothing"
        cost = 0.5 + arm.episodes * _LENGTH[arm.part] / _SPEED[beside]
        jobs += [
            Job(_job_name(arm, seed), trial.TARGET, arm.spec(seed, digest=digest), local, cost)
            for seed in range(_seeds(arm, options))
        ]
    return carry_out(options, jobs, title)


def _publish(
    options: Options,
    arms: Sequence[Arm],
    models: Sequence[HModel],
    results: Mapping[str, Any],
    failures: Mapping[str, str],
) -> int:
    """Write everything that came out."""
    people = {model.name: model.person for model in models}
    found = {
        arm.key: [
            results[name] for seed in range(_seeds(arm, options)) if (name := _job_name(arm, seed)) in results
        ]
        for arm in arms
    }
    rows = [_row(arm, found[arm.key], _seeds(arm, options), people) for arm in arms]
    came_from = machines(result for several in found.values() for result in several)
    brief = [_QUICK] if options.quick else []
    shown = [part for part in PARTS if any(row["part"] == part for row in rows)]
    notes = {part: [*brief, *([machines_note(came_from)] if part == shown[-1] else [])] for part in shown}
    tables = [table(part, [row for row in rows if row["part"] == part], notes[part]) for part in shown]
    drawn = pictures(rows, found)
    of_part = {part: [drawn[stem] for stem in drawn if stem.startswith(part)] for part in shown}
    sections: list[tuple[str, Sequence[Table], Sequence[str]]] = [
        (part, [one], of_part[part]) for part, one in zip(shown, tables, strict=True)
    ]
    checks = [] if options.quick else reached(rows)
    if checks:
        tables.append(checks_table(checks, "Figures to reach, and what the papers found"))
        sections.append(("What holds", tables[-1:], []))
    data = {
        "what": options.what,
        "quick": options.quick,
        "h_models": [
            {"name": model.name, "file": str(model.path), "sha256": model.digest, "person": model.person}
            for model in models
        ],
        "arms": rows,
        "checks": [asdict(check) for check in checks],
        "failures": dict(failures),
        "machines": came_from,
    }
    lead = f"{_QUICK} {_LEAD}" if options.quick else _LEAD
    html = page("textrl bench tamer", lead, sections)
    return publish(options, data, tables, html, drawn, failures)


def _row(
    arm: Arm, results: Sequence[Mapping[str, Any]], seeds: int, people: Mapping[str, str | None]
) -> dict[str, Any]:
    """Return everything about an arm as plain data; its keys are those of results.json."""
    person = people.get(arm.model or "")
    theirs = {name: asdict(one) for name, one in arm.theirs.items() if name == "" or person in (None, name)}
    return {
        "part": arm.part,
        "name": arm.name,
        "label": arm.label,
        "h_model": arm.model,
        "h_person": person,
        "episodes": arm.episodes,
        "seeds": seeds,
        "finished": len(results),
        "mean": _over_seeds(results, "mean"),
        "last": _over_seeds(results, "last"),
        "final": _over_seeds(results, "final"),
        "presses": _over_seeds(results, "presses"),
        "steps_per_s": _over_seeds(results, "steps_per_s"),
        "steps": _over_seeds(results, "steps"),
        "theirs": theirs,
        "learner": arm.learner,
        "env": arm.env,
        "sections": dict(arm.sections),
    }


def _over_seeds(results: Sequence[Mapping[str, Any]], key: str) -> dict[str, Any] | None:
    values = [result[key] for result in results if result[key] is not None]
    return asdict(summarise(values)) if values else None


def table(part: str, rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> Table:
    """Return the table of one part from rows of results.json."""
    columns = ["agent", "H", "episodes", "seeds", "mean +- s.e.m.", "95 % interval", f"last {LAST}"]
    columns += ["presses", "measured elsewhere"]
    if part == "h-models":
        columns[6] = "greedy afterwards"
        own = ["Mean: return while the trainer teaches. Greedy afterwards: H alone, nobody teaching."]
    else:
        own = [
            "Mean return of all training episodes, over seeds 0, 1, ...; interval: 95 % bootstrap over "
            "seeds. Measured elsewhere: an independent NumPy implementation, 20 seeds.",
        ]
        if any(row["h_model"] and row["h_person"] is None for row in rows):
            own.append("H1 and H2, which people trained, are not the H models of these rows.")
    return Table(_TITLES[part], tuple(columns), tuple(_cells(row) for row in rows), (*notes, *own))


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    mean, last = (Summary(**row[key]) if row[key] else None for key in ("mean", "last"))
    seeds = str(row["seeds"]) if row["finished"] == row["seeds"] else f"{row['finished']}/{row['seeds']}"
    interval = NOTHING
    if mean is not None and mean.lo is not None:
        interval = f"[{figure(mean.lo)}, {figure(mean.hi)}]"
    third = with_interval(last) if row["part"] != "h-models" else figure((row["final"] or {}).get("mean"))
    presses = row["presses"]
    return (
        row["label"],
        row["h_model"] or NOTHING,
        str(row["episodes"]),
        seeds,
        with_sem(mean),
        interval,
        third,
        NOTHING if presses is None else figure(presses["mean"], 0),
        ", ".join(_theirs(name, Theirs(**one)) for name, one in row["theirs"].items()) or NOTHING,
    )


def _theirs(person: str, one: Theirs) -> str:
    last = "" if one.last is None else f", last 50 {one.last:g}"
    note = f" ({one.note})" if one.note else ""
    return f"{person} {one.mean:g}{last}{note}".strip()
