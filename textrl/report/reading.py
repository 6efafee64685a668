"""Reads a run folder, whole or broken off, into `RunData`.

A run that was killed may leave a half-written last line or no summary at all. Nothing here raises on
that: what cannot be read is left out and named in `RunData.notes`, which the report prints.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from textrl.errors import UserError
from textrl.report.schema import FrontierPoint, Headline, JudgeSummary, Summary
from textrl.report.text import number

#: A run folder has at least one of these.
FILES = ("config.yaml", "metrics.jsonl", "summary.json", "environment.json", "stages.json", "samples.jsonl")
_NOT_METRICS = frozenset({"stage", "step", "time_s"})
_STATUSES = frozenset({"finished", "interrupted", "running", "failed"})


@dataclass(frozen=True)
class Series:
    """One metric over a stage, in order of step.

    Attributes:
        steps: The logger's steps.
        values: Finite values, one for each step.
        nonfinite: How many values were NaN or infinite and are therefore not in `values`.
    """

    steps: tuple[float, ...]
    values: tuple[float, ...]
    nonfinite: int = 0

    def head(self, fraction: float = 0.2) -> tuple[float, ...]:
        """Return the first `fraction` of the values, at least one."""
        return self.values[: max(1, round(len(self.values) * fraction))]

    def tail(self, fraction: float = 0.2) -> tuple[float, ...]:
        """Return the last `fraction` of the values, at least one."""
        return self.values[-max(1, round(len(self.values) * fraction)) :]


@dataclass(frozen=True)
class Stage:
    """The metrics of one stage; `end_s` is the time of its last row, since the run began."""

    name: str
    series: Mapping[str, Series]
    last_step: float
    end_s: float | None

    @property
    def is_rl(self) -> bool:
        """Whether the stage trains a policy on rewards."""
        return any(key.startswith(("reward/", "rollout/")) or key == "train/kl_ref" for key in self.series)


@dataclass(frozen=True)
class RunData:
    """Everything the report needs.

    Attributes:
        done: Stages that ran to their end, with the payload they left.
        notes: Sentences about what could not be read.
    """

    path: Path
    config: str = ""
    stages: tuple[Stage, ...] = ()
    summary: Summary = field(default_factory=lambda: Summary())
    environment: Mapping[str, Any] = field(default_factory=dict)
    done: Mapping[str, Any] = field(default_factory=dict)
    samples: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The run's title."""
        title = self.summary.get("title")
        return title if isinstance(title, str) and title else self.path.resolve().name

    @property
    def headline(self) -> Headline:
        """The headline figures, possibly none."""
        return cast(Headline, _mapping(self.summary.get("headline")))

    @property
    def judges(self) -> list[JudgeSummary]:
        """The judges that scored this run, the first being the one the headline quotes."""
        return cast("list[JudgeSummary]", _mappings(self.summary.get("judges")))

    @property
    def frontier(self) -> list[FrontierPoint]:
        """Evaluated checkpoints that have at least a KL."""
        points = _mappings(self.summary.get("frontier"))
        return cast("list[FrontierPoint]", [p for p in points if number(p.get("kl")) is not None])

    @property
    def commands(self) -> list[str]:
        """What was typed: the stated command, else one line for each session of the run."""
        stated = self.summary.get("command")
        typed = (
            [stated] if stated else [s.get("command") for s in _mappings(self.environment.get("sessions"))]
        )
        return [shlex.join(map(str, c)) if isinstance(c, list) else str(c) for c in typed if c]

    @property
    def status(self) -> str:
        """One of finished, interrupted, running, failed.

        Where the run does not say, it has finished when it left its total time or its headline, or
        when every stage that logged anything is marked as done.
        """
        stated = self.summary.get("status")
        if isinstance(stated, str) and stated in _STATUSES:
            return stated
        planned = self.summary.get("planned_stages")
        wanted = [str(name) for name in planned] if isinstance(planned, list) else []
        wanted += [stage.name for stage in self.stages]
        complete = bool(wanted) and all(name in self.done for name in wanted)
        ended = number(self.summary.get("wall_s")) is not None or bool(self.headline)
        return "finished" if ended or complete else "interrupted"

    def part(self, key: str) -> Mapping[str, Any]:
        """Return a mapping of the summary, empty when it is missing or something else."""
        return _mapping(self.summary.get(key))

    def name_of(self, side: str) -> str:
        """Return what to call the policy `before` or `after` RL."""
        given = self.part("names").get(side)
        return str(given) if given else {"before": "before RL", "after": "after RL"}[side]


@dataclass(frozen=True)
class Estimate:
    """A figure and, where known, its 95 % interval."""

    value: float
    lo: float | None = None
    hi: float | None = None


def estimate(raw: object) -> Estimate | None:
    """Read an interval or a bare number; None when there is no finite value."""
    if isinstance(raw, Mapping):
        value, lo, hi = number(raw.get("value")), number(raw.get("lo")), number(raw.get("hi"))
        if value is None:
            return None
        return Estimate(value) if lo is None or hi is None else Estimate(value, lo, hi)
    value = number(raw)
    return None if value is None else Estimate(value)


def gain_of(scores: Mapping[str, Any]) -> Estimate | None:
    """Return a scorer's gain, from its own figure or as after minus before."""
    stated = estimate(scores.get("gain"))
    if stated is not None:
        return stated
    before, after = number(scores.get("before")), number(scores.get("after"))
    return None if before is None or after is None else Estimate(after - before)


def phrases_of(run: RunData, side: str) -> list[tuple[str, float]]:
    """Return the most common phrases of ``before`` or ``after`` with their share of texts."""
    rows = _mappings(run.part("phrases").get(side))
    return [
        (str(row["phrase"]), v)
        for row in rows
        if "phrase" in row and (v := number(row.get("share"))) is not None
    ]


def perplexity_change(headline: Mapping[str, Any]) -> Estimate | None:
    """Return the change of perplexity in per cent, stated or computed."""
    stated = estimate(headline.get("perplexity_change_percent"))
    before, after = number(headline.get("perplexity_before")), number(headline.get("perplexity_after"))
    if stated is not None or before is None or after is None or before <= 0:
        return stated
    return Estimate(100 * (after / before - 1))


def read_run(run_dir: Path) -> RunData:
    """Read a run folder.

    Raises:
        UserError: When the folder does not exist or holds nothing of a run.
    """
    if not run_dir.is_dir():
        raise UserError(f"There is no run folder at '{run_dir}'; name one below runs/.")
    if not any((run_dir / name).is_file() for name in FILES):
        raise UserError(f"'{run_dir}' is not a run folder: it holds none of {', '.join(FILES)}.")
    notes: list[str] = []
    return RunData(
        path=run_dir,
        config=_text(run_dir / "config.yaml", notes),
        stages=_stages(_rows(run_dir / "metrics.jsonl", notes)),
        summary=cast(Summary, _mapping(_json(run_dir / "summary.json", notes))),
        environment=_mapping(_json(run_dir / "environment.json", notes)),
        done=_done(_json(run_dir / "stages.json", notes)),
        samples=tuple(_rows(run_dir / "samples.jsonl", notes)),
        notes=tuple(notes),
    )


def _mapping(raw: object) -> Mapping[str, Any]:
    return raw if isinstance(raw, Mapping) else {}


def _mappings(raw: object) -> list[Mapping[str, Any]]:
    return [item for item in raw if isinstance(item, Mapping)] if isinstance(raw, list) else []


def _text(path: Path, notes: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        notes.append(f"{path.name} could not be read: {error.strerror}.")
        return ""


def _json(path: Path, notes: list[str]) -> object:
    text = _text(path, notes)
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        notes.append(f"{path.name} is not valid JSON ({error}); its figures are left out.")
        return None


def _rows(path: Path, notes: list[str]) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    bad: list[int] = []
    # Not splitlines(): it also splits at U+2028, which JSON allows inside a string.
    for index, line in enumerate(_text(path, notes).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, Mapping):
            rows.append(row)
        else:
            bad.append(index)
    if bad:
        which = f"line {bad[0]} of {path.name}" if len(bad) == 1 else f"{len(bad)} lines of {path.name}"
        notes.append(f"{which} could not be read and {'is' if len(bad) == 1 else 'are'} left out.")
    return rows


def _done(raw: object) -> dict[str, Any]:
    """Read stages.json: a mapping of finished stages to payloads, or a list of names or records."""
    if isinstance(raw, Mapping):
        return {
            str(name): payload
            for name, payload in raw.items()
            if payload is not False and payload is not None
        }
    done: dict[str, Any] = {}
    for item in raw if isinstance(raw, list) else []:
        if isinstance(item, str):
            done[item] = {}
        elif isinstance(item, Mapping) and isinstance(item.get("name"), str):
            done[item["name"]] = item
    return done


def _stages(rows: list[Mapping[str, Any]]) -> tuple[Stage, ...]:
    values: dict[str, dict[str, dict[float, float]]] = {}
    ends: dict[str, float] = {}
    for index, row in enumerate(rows):
        name = str(row.get("stage", "run"))
        found = number(row.get("step"))
        step = float(index) if found is None else found
        metrics = values.setdefault(name, {})
        for key, value in row.items():
            if key in _NOT_METRICS or isinstance(value, bool | str | list | dict):
                continue
            # The last row of a step wins: a resumed run may have logged it twice.
            metrics.setdefault(str(key), {})[step] = _float(value)
        time_s = number(row.get("time_s"))
        if time_s is not None:
            ends[name] = max(time_s, ends.get(name, 0.0))
    stages = []
    for name, metrics in values.items():
        series = {key: _series(points) for key, points in metrics.items()}
        last = max((max(points) for points in metrics.values()), default=0.0)
        stages.append(Stage(name, series, last, ends.get(name)))
    return tuple(stages)


def _float(value: float | None) -> float:
    """Return a metric's value; the run folder writes null where a figure was NaN or infinite."""
    if value is None:
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _series(points: Mapping[float, float]) -> Series:
    finite = sorted((step, value) for step, value in points.items() if math.isfinite(value))
    return Series(tuple(s for s, _ in finite), tuple(v for _, v in finite), len(points) - len(finite))
