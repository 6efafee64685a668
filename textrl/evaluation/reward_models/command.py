"""``textrl eval reward``: reading, scoring, measuring, and the files that come out."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textrl.errors import UserError
from textrl.evaluation.reward_models.comparisons import Comparisons
from textrl.evaluation.reward_models.evaluate import Options, Scored, evaluate
from textrl.evaluation.reward_models.page import render
from textrl.evaluation.reward_models.reading import annotator_groups, read_comparisons
from textrl.evaluation.reward_models.scorers import RewardScorer, Scorer, find_scorers, score_all
from textrl.evaluation.reward_models.terminal import summary


@dataclass(frozen=True)
class Arguments:
    """What the command line says; `textrl.cli.eval` documents it."""

    model: str
    data: str
    judges: Sequence[str] = ()
    split: str | None = None
    by: Sequence[str] = ()
    annotator_groups: Path | None = None
    margin: float = 0.0
    pairs: int = 50_000
    combine: str = "mean"
    pessimism: float = 1.0
    eos: bool | None = None
    resamples: int = 1000
    seed: int = 0
    out: Path | None = None
    json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            UserError: Names the option.
        """
        for name, value, least in (("pairs", self.pairs, 1), ("resamples", self.resamples, 100)):
            if value < least:
                raise UserError(f"--{name} is {value}; it must be at least {least}.")
        if not 0 <= self.margin < float("inf"):
            raise UserError(f"--margin is {self.margin}; it must be 0 or more.")
        if not 0 <= self.pessimism < float("inf"):
            raise UserError(f"--pessimism is {self.pessimism}; it must be 0 or more.")
        if self.pessimism != 1.0 and self.combine != "pessimistic":
            raise UserError(
                f"--pessimism does nothing with --combine {self.combine}; add --combine pessimistic, or "
                "leave it out."
            )
        if self.seed < 0:
            raise UserError(f"--seed is {self.seed}; it must be 0 or more.")

    @property
    def folder(self) -> Path:
        """Where the files go."""
        if self.out is not None:
            return self.out
        parts = [
            re.sub(r"[^\w.-]+", "-", Path(part).name)[:40].strip("-.") for part in (self.model, self.data)
        ]
        return Path("runs") / "-".join(["eval-reward", *(part for part in parts if part)])


def run(arguments: Arguments, command_line: str = "") -> dict[str, Any]:
    """Evaluate, write ``results.json`` and ``report.html``, and print.

    Args:
        arguments: What to do.
        command_line: For the page.

    Returns:
        What was found.

    Raises:
        UserError: On input that cannot be used; nothing is written then.
    """
    began_s = time.perf_counter()
    groups = annotator_groups(arguments.annotator_groups) if arguments.annotator_groups is not None else None
    comparisons = read_comparisons(
        arguments.data,
        split=arguments.split,
        least=arguments.margin,
        most_pairs=arguments.pairs,
        seed=arguments.seed,
    )
    for column in arguments.by:  # a misspelt one is said before the model is loaded
        comparisons.column(column)
    members = find_scorers(arguments.model, eos=arguments.eos)
    # EOS is the model's affair; judges read what they say themselves.
    beside = [one for judge in arguments.judges for one in find_scorers(judge)]
    comparisons = _with_note_on_columns(comparisons, [*members, *beside])
    scored = _score([*members, *beside], comparisons)
    options = Options(
        by=arguments.by,
        groups=groups,
        least=arguments.margin,
        combine=arguments.combine,
        pessimism=arguments.pessimism,
        seed=arguments.seed,
        resamples=arguments.resamples,
    )
    found = evaluate(comparisons, scored[: len(members)], scored[len(members) :], options)
    found["seconds"] = round(time.perf_counter() - began_s, 2)
    _write(arguments.folder, found, command_line)
    print(json.dumps(found, indent=1, allow_nan=False) if arguments.json else summary(found))  # noqa: T201
    print(f"textrl: written to {arguments.folder}: report.html, results.json", file=sys.stderr)  # noqa: T201
    return found


def _with_note_on_columns(comparisons: Comparisons, scorers: Sequence[Scorer]) -> Comparisons:
    """Say it where a reward that reads columns sees but one of several records of a text."""
    readers = [one.name for one in scorers if isinstance(one, RewardScorer) and one.reads_columns]
    if not comparisons.differing or not readers:
        return comparisons
    columns = ", ".join(f"'{name}'" for name in comparisons.differing[:5])
    more = ", ..." if len(comparisons.differing) > 5 else ""
    note = (
        f"Some texts stand in several records, which differ in the columns {columns}{more}; "
        f"{', '.join(readers)} got those of the first."
    )
    return replace(comparisons, notes=(*comparisons.notes, note))


def _score(scorers: Sequence[Scorer], comparisons: Comparisons) -> list[Scored]:
    """Score all texts with all scorers, with a bar where somebody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    found = []
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        for scorer in scorers:
            task = progress.add_task(scorer.name, total=len(comparisons.texts))
            scores = score_all(
                scorer, comparisons.texts, lambda count, task=task: progress.advance(task, count)
            )
            found.append(Scored(scorer.name, scorer.about, scores))
    return found


def _write(folder: Path, found: dict[str, Any], command_line: str) -> None:
    """Write both files, or say why not.

    Raises:
        UserError: When they cannot be written.
    """
    from textrl.files import replace_file

    # Texts of other people may hold half a surrogate pair, which UTF-8 cannot say.
    page = render(found, command_line).encode("utf-8", "replace").decode("utf-8")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / "results.json", json.dumps(found, indent=1, allow_nan=False) + os.linesep)
        replace_file(folder / "report.html", page)
    except OSError as error:
        raise UserError(
            f"The evaluation cannot be written to {folder} ({error.strerror}); name a folder with --out."
        ) from error
