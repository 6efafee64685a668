"""What the benchmarks of learners share: options, the grid's run, and the files that come out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textrl.bench.jobs import Job, Outcome, run_jobs, write_whole
from textrl.bench.tables import Table, markdown, plain
from textrl.errors import UserError, did_you_mean

#: Seeds with `--quick`.
QUICK_SEEDS = 2


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Attributes:
        what: The benchmark's name.
        seeds: Per cell; None takes each cell's own number.
        quick: Small budgets.
        jobs: Worker processes; None takes the cores.
        out: The folder; None takes runs/bench-WHAT.
        json: Print JSON, not tables.
    """

    what: str
    seeds: int | None = None
    quick: bool = False
    jobs: int | None = None
    out: Path | None = None
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            UserError: Names the option.
        """
        for name, value in (("seeds", self.seeds), ("jobs", self.jobs)):
            if value is not None and value < 1:
                raise UserError(f"--{name} is {value}; it must be at least 1.")

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        return self.out or Path("runs") / f"bench-{self.what}{'-quick' if self.quick else ''}"

    @property
    def workers(self) -> int:
        """How many processes work at the same time."""
        return self.jobs or cores()

    def count(self, usual: int) -> int:
        """Return how many seeds a cell has that usually has `usual`."""
        return self.seeds or (QUICK_SEEDS if self.quick else usual)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def carry_out(options: Options, jobs: Sequence[Job], title: str) -> Outcome:
    """Run a grid, and say on stderr where it stands.

    Raises:
        KeyboardInterrupt: After saying how to go on.
    """
    folder = options.folder / "jobs"
    try:
        outcome = run_jobs(jobs, folder, workers=options.workers, title=title)
    except KeyboardInterrupt:
        say(f"textrl: finished jobs are kept in {folder}; the same command goes on from there")
        raise
    for name, why in outcome.failures.items():
        say(f"textrl: job '{name}' failed: {why}")
    return outcome


def publish(
    options: Options,
    data: Mapping[str, Any],
    tables: Sequence[Table],
    html: str,
    pictures: Mapping[str, str],
    failures: Mapping[str, str],
) -> int:
    """Write results.json, tables.txt, tables.md, report.html and figures/, and print the tables or the JSON.

    Args:
        options: Of the command.
        data: Everything, for machines.
        tables: For people.
        html: The page.
        pictures: File stem -> SVG.
        failures: Job name -> why it failed.

    Returns:
        0, or 1 where a job failed.
    """
    folder = options.folder
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    for stem, picture in pictures.items():
        if picture:
            write_whole(figures / f"{stem}.svg", picture)
    text = json.dumps(dict(data), indent=1, allow_nan=False) + "\n"
    readable = "\n\n\n".join(plain(table) for table in tables) + "\n"
    write_whole(folder / "results.json", text)
    write_whole(folder / "tables.txt", readable)
    write_whole(folder / "tables.md", "\n\n".join(markdown(table) for table in tables) + "\n")
    write_whole(folder / "report.html", html)
    sys.stdout.write(text if options.json else readable)
    say(f"textrl: written to {folder}: report.html, tables.md, tables.txt, results.json, figures/")
    if failures:
        say(f"textrl: {len(failures)} jobs failed and are missing above; the same command tries them again")
    return 1 if failures else 0


def say(text: str) -> None:
    """Write a line to stderr, where it does not disturb the tables."""
    print(text, file=sys.stderr)  # noqa: T201


def check_names(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Refuse a name that does not exist.

    Raises:
        UserError: With the nearest one.
    """
    names = list(known)
    for name in given:
        if name not in names:
            raise UserError(f"There is no {what} '{name}' in this benchmark.{did_you_mean(name, names)}")


def machines(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the different machines and versions that results come from."""
    found: list[dict[str, Any]] = []
    for result in results:
        if result["machine"] not in found:
            found.append(result["machine"])
    return found


def machines_note(found: Sequence[Mapping[str, Any]]) -> str:
    """Return where results come from, as a sentence."""
    if not found:
        return "No job is finished."
    first = found[0]
    names = ("textrl-mdp", "torch", "gymnasium", "numpy", "stable-baselines3", "sb3-contrib")
    versions = ", ".join(f"{name} {first['versions'][name]}" for name in names if name in first["versions"])
    note = f"{first['cpu']}, {first['cores']} cores, one thread a job; {versions}."
    if len(found) > 1:
        note += f" The jobs come from {len(found)} machines or sets of versions; results.json names them."
    return note
