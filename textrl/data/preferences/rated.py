"""Rated completions: read from records of the form ``rating``, one entry a record.

    {"prompt": ..., "completion": ..., "rating": 4, "annotator": "ann"}
    {"prompt": ..., "completion": ..., "ratings": [4, 2], "annotators": ["ann", "bob"]}
    {"prompt": ..., "completion": ..., "likert": 6, "flags": {"hallucination": false}}

More is better. A Likert score counts as a rating where there is no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textrl.data.preferences.schema import canonical
from textrl.data.records import read_records
from textrl.errors import UserError


@dataclass(frozen=True)
class RatedCompletion:
    """A completion and what people thought of it.

    Attributes:
        prompt: May be empty.
        completion: The text.
        ratings: One or more; larger is better.
        annotators: Who gave each of the ratings, or empty where that is not known.
        flags: What was ticked, by name.
        group: The id in the file, where there is one.
        user_id: Who wrote the prompt, where known.
        where: Its place in the file.
        split: The part of the data that its record names, if it names one.
    """

    prompt: str
    completion: str
    ratings: tuple[float, ...]
    annotators: tuple[str, ...] = ()
    flags: Mapping[str, bool] = field(default_factory=dict)
    group: str | None = None
    user_id: str | None = None
    where: str = ""
    split: str | None = None

    @property
    def text(self) -> str:
        """The completion, as `textrl.data.rankings.groups_from_ratings` asks for it."""
        return self.completion

    @property
    def mean(self) -> float:
        """Mean rating."""
        return sum(self.ratings) / len(self.ratings)


def read_ratings(source: str | Path, *, split: str = "train") -> list[RatedCompletion]:
    """Read rated completions.

    Args:
        source: A ``.jsonl(.gz)`` or ``.parquet`` file, or what `datasets` loads.
        split: Which part of a dataset.

    Raises:
        UserError: When the file or a record cannot be used, or has no number; names file and line.
    """
    found = []
    for where, record in read_records(source, split=split):
        form, given = canonical(record, where)
        if form != "rating":
            raise UserError(
                f"{where} holds a {form.replace('_', ' ')} and no rating; give prompt, completion, rating."
            )
        found.append(rated(given, where))
    return found


def rated(given: Mapping[str, Any], where: str) -> RatedCompletion:
    """Make an entry of a canonical record of the form ``rating``.

    Raises:
        UserError: When it has flags only; names the place.
    """
    annotators: tuple[str, ...] = ()
    if "ratings" in given:
        ratings = tuple(float(value) for value in given["ratings"])
        if "annotators" in given:
            annotators = tuple(str(name) for name in given["annotators"])
        elif len(ratings) == 1 and "annotator" in given:
            annotators = (str(given["annotator"]),)
    elif "rating" in given or "likert" in given:
        ratings = (float(given["rating"] if "rating" in given else given["likert"]),)
        annotators = (str(given["annotator"]),) if "annotator" in given else ()
    else:
        raise UserError(f"{where} has flags and no rating; add 'rating', 'ratings' or 'likert'.")
    return RatedCompletion(
        given["prompt"],
        given["completion"],
        ratings,
        annotators,
        given.get("flags", {}),
        _id(given, "group"),
        _id(given, "user_id"),
        where,
        _id(given, "split"),
    )


def _id(given: Mapping[str, Any], column: str) -> str | None:
    return str(given[column]) if column in given else None
