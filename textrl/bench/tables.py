"""Tables for a terminal and for Markdown, and the figures in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textrl.bench.measures import Summary

NOTHING = "-"


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        title: Above it.
        columns: Their heads.
        rows: As many cells each; the first is the row's name.
        notes: Sentences below it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """A figure that was to be reached.

    Attributes:
        claim: What was to hold.
        found: Our figure.
        holds: Whether it does.
    """

    claim: str
    found: str
    holds: bool


def plain(table: Table) -> str:
    """Return the table for a terminal: the first and the last column to the left, numbers to the right."""
    every = [table.columns, *table.rows]
    widths = [max(len(row[i]) for row in every) for i in range(len(table.columns))]
    last = len(widths) - 1
    lines = [
        "  ".join(
            cell.ljust(width) if i in (0, last) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in every
    ]
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join([table.title, "", *lines, *([""] if table.notes else []), *table.notes])


def markdown(table: Table) -> str:
    """Return the table for a page under docs/."""
    lines = [_line(table.columns), "|---" * len(table.columns) + "|", *map(_line, table.rows)]
    notes = [f"- {_escaped(note)}" for note in table.notes]
    return "\n".join([f"**{_escaped(table.title)}**", "", *lines, *([""] if notes else []), *notes])


def checks_table(checks: Sequence[Check], title: str) -> Table:
    """Return what was to be reached as a table."""
    rows = tuple((check.claim, "yes" if check.holds else "NO", check.found) for check in checks)
    return Table(title, ("to reach", "holds", "found"), rows)


def figure(value: float | None, digits: int = 1) -> str:
    """Return a number for a cell."""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def with_interval(summary: Summary | None, digits: int = 1) -> str:
    """Return the mean and its 95 % interval for a cell."""
    if summary is None:
        return NOTHING
    if summary.lo is None:
        return figure(summary.mean, digits)
    low, high = figure(summary.lo, digits), figure(summary.hi, digits)
    return f"{figure(summary.mean, digits)} [{low}, {high}]"


def with_sem(summary: Summary | None, digits: int = 1) -> str:
    """Return the mean and its standard error for a cell."""
    if summary is None:
        return NOTHING
    mean = figure(summary.mean, digits)
    return mean if summary.sem is None else f"{mean} +- {figure(summary.sem, digits)}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    """Return text that Markdown and HTML inside it leave alone."""
    for character in "\\|*_`[]":
        text = text.replace(character, "\\" + character)
    return text.replace("&", "&amp;").replace("<", "&lt;")
