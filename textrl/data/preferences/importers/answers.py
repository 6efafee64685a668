"""What the labelling tools have in common: finding the texts, and reading what people answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textrl.data.preferences.importers.base import Notes
from textrl.data.preferences.schema import COLUMNS, COMMON, Record

#: Columns that go into a tool's data or metadata and come back from there.
CARRIED = (*(column for column in COMMON if column != "annotator"), "margin")
#: Columns that the texts and the answers hold.
SAID = frozenset({"annotator"}.union(*COLUMNS.values()) - {"margin"})

PROMPTS = ("prompt", "question", "instruction", "input", "query", "context")
COMPLETIONS = ("completion", "response", "answer", "output", "text")
_YES = ("yes", "true", "good", "positive", "accept", "accepted", "correct")
_NO = ("no", "false", "bad", "negative", "reject", "rejected", "incorrect")
TIE = ("tie", "equal", "same", "both", "neither")
YES, NO = _YES[0], _NO[0]
_SCORES = ("rating", "likert", "flags")


def first_text(data: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the first of the names that is a text in the data."""
    return next((name for name in names if isinstance(data.get(name), str)), None)


def verdict(answer: str) -> bool | None:
    """Read a choice as a label: yes, no, or None for a word that is neither."""
    word = answer.strip().lower()
    return True if word in _YES else False if word in _NO else None


def by_buckets(buckets: Sequence[Sequence[str]]) -> tuple[list[str], list[int]]:
    """Return names and ranks of buckets that go from best to worst; a bucket is a tie."""
    names = [name for bucket in buckets for name in bucket]
    return names, [rank for rank, bucket in enumerate(buckets, start=1) for _ in bucket]


def buckets_of(ranks: Sequence[float]) -> list[list[int]]:
    """Return the indices of each rank, best first."""
    return [[index for index, other in enumerate(ranks) if other == rank] for rank in sorted(set(ranks))]


def candidates(record: Record) -> tuple[list[str], list[float]]:
    """Return the completions of a pair or a ranking and their ranks."""
    if "chosen" in record:
        return [record["chosen"], record["rejected"]], [1, 1] if record.get("tie") else [1, 2]
    return list(record["completions"]), list(record["ranks"])


def scores(record: Record) -> list[tuple[Any, dict[str, Any]]]:
    """Return who gave which scores of a rating record: (annotator or None, {rating, likert, flags})."""
    rest: dict[str, Any] = {column: record[column] for column in _SCORES if column in record}
    if "ratings" in record:
        names = record.get("annotators") or [record.get("annotator")] * len(record["ratings"])
        each = [(name, {"rating": value}) for name, value in zip(names, record["ratings"], strict=True)]
        return [*each, (record.get("annotator"), rest)] if rest else each
    return [(record.get("annotator"), rest)]


def ticked(flags: Mapping[str, bool], notes: Notes) -> list[str]:
    """Return the flags that are set; the tools list what was ticked and nothing else."""
    names = [name for name, value in flags.items() if value]
    notes.count("flags left out that are false: only what is ticked is held", len(flags) - len(names))
    return names
