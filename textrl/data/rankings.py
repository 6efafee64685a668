"""Ranked completions: what a reward model learns from.

Three forms of record are read, from JSONL, parquet or a dataset, and may be mixed:

    {"prompt": ..., "chosen": ..., "rejected": ...}                     a pair; "tie": true for a tie
    {"prompt": ..., "completions": [...], "ranks": [...]}               a whole ranking
    {"group": ..., "prompt": ..., "completion": ..., "rank": ...}       one completion of a ranking

A smaller rank is better, and equal ranks are a tie. ``annotator`` may stand in any record.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from textrl.data.records import read_records
from textrl.errors import UserError


@dataclass(frozen=True)
class RankingGroup:
    """K completions of one prompt, ranked by one person.

    Attributes:
        prompt: May be empty.
        completions: K texts, K >= 2; pairwise data has K = 2.
        ranks: K numbers; smaller is better, equal is a tie.
        annotator: Who ranked, where known: splits by person need it.
        group: The id in the file, where there is one.
    """

    prompt: str
    completions: tuple[str, ...]
    ranks: tuple[float, ...]
    annotator: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        if len(self.completions) < 2:
            raise UserError(f"A ranking needs two completions or more, this one has {len(self.completions)}.")
        if len(self.completions) != len(self.ranks):
            raise UserError(
                f"{len(self.completions)} completions have {len(self.ranks)} ranks; give one rank each."
            )
        if not all(math.isfinite(rank) for rank in self.ranks):
            raise UserError(f"The ranks {list(self.ranks)} are not all finite numbers; correct them.")


class RatedText(Protocol):
    """A text with people's mean rating; `textrl.data.ratings.Rated` is one."""

    @property
    def text(self) -> str:
        """The text."""
        ...

    @property
    def mean(self) -> float:
        """Mean rating; larger is better."""
        ...


def read_rankings(source: str | Path, *, split: str = "train") -> list[RankingGroup]:
    """Read rankings.

    Args:
        source: A ``.jsonl(.gz)`` or ``.parquet`` file, or what `datasets` loads; see the module's text
            for the forms of record.
        split: Which part of a dataset.

    Returns:
        Groups in the order of their first record.

    Raises:
        UserError: When the file or a record cannot be used; names the file and the line.
    """
    parts: dict[tuple[str, str | None], _Open] = {}
    groups: list[RankingGroup | _Open] = []
    for where, record in read_records(source, split=split):
        # Tables carry every column in every row, with None where it does not apply.
        given = {str(column): value for column, value in record.items() if value is not None}
        if "group" in given and "completion" in given:
            key = (str(given["group"]), _annotator(given, where))
            if key not in parts:
                parts[key] = _Open(where, _text(given, "prompt", where), key)
                groups.append(parts[key])
            parts[key].add(given, where)
        else:
            groups.append(_whole(given, where))
    return [group.close() if isinstance(group, _Open) else group for group in groups]


def groups_from_ratings(
    rated: Sequence[RatedText], k: int, seed: int, *, tie_margin: float = 0.0, rounds: int = 1
) -> list[RankingGroup]:
    """Make rankings of K unrelated texts by what people rated them.

    Texts are dealt into groups at random. Within a group, walking from the best mean rating down, a text
    shares the rank of the texts above it while it is within `tie_margin` of the first of them, so that
    ties are transitive.

    Args:
        rated: Texts with mean ratings.
        k: Texts per group; the remainder of a deal is left out.
        seed: Of the deals.
        tie_margin: Ratings that differ by no more than this tie.
        rounds: Deals; each uses every text once (but for the remainder).

    Raises:
        UserError: When `k` is below 2 or there are fewer than `k` texts.
    """
    if k < 2 or tie_margin < 0 or rounds < 1:
        raise UserError(
            f"k is {k}, tie_margin {tie_margin} and rounds {rounds}; use k >= 2, tie_margin >= 0 and "
            "rounds >= 1."
        )
    if len(rated) < k:
        raise UserError(f"There are {len(rated)} rated texts, fewer than the {k} of one ranking; lower k.")
    generator = random.Random(seed)
    groups = []
    for _ in range(rounds):
        deal = list(rated)
        generator.shuffle(deal)
        for start in range(0, len(deal) - k + 1, k):
            chosen = deal[start : start + k]
            ranks = _ranks([text.mean for text in chosen], tie_margin)
            groups.append(RankingGroup("", tuple(text.text for text in chosen), ranks))
    return groups


def _ranks(ratings: Sequence[float], tie_margin: float) -> tuple[float, ...]:
    """Return 1 for the best rating and its ties, 2 for the next, and so on."""
    ranks = [0.0] * len(ratings)
    rank, leader = 0.0, math.inf
    for i in sorted(range(len(ratings)), key=lambda i: -ratings[i]):
        if leader - ratings[i] > tie_margin + 1e-9:  # 2.2 - 2.0 is more than 0.2 in binary
            rank, leader = rank + 1, ratings[i]
        ranks[i] = rank
    return tuple(ranks)


@dataclass
class _Open:
    """A ranking whose lines are still being read."""

    where: str
    prompt: str
    key: tuple[str, str | None]
    completions: list[str] = field(default_factory=list)
    ranks: list[float] = field(default_factory=list)

    def add(self, record: Mapping[str, Any], where: str) -> None:
        prompt = _text(record, "prompt", where)
        if prompt != self.prompt:
            raise UserError(
                f"{where}: the group '{record['group']}' has another prompt here than at {self.where}; give "
                "each prompt a group of its own."
            )
        self.completions.append(_text(record, "completion", where))
        self.ranks.append(_number(record.get("rank"), "rank", where))

    def close(self) -> RankingGroup:
        group, annotator = self.key
        if len(self.completions) < 2:
            raise UserError(
                f"{self.where}: the group '{group}' has only one completion; a ranking needs two."
            )
        return RankingGroup(self.prompt, tuple(self.completions), tuple(self.ranks), annotator, group)


def _whole(record: Mapping[str, Any], where: str) -> RankingGroup:
    """Read a line that holds a pair or a whole ranking."""
    annotator = _annotator(record, where)
    group = str(record["group"]) if record.get("group") is not None else None
    if "chosen" in record or "rejected" in record:
        texts = (_text(record, "chosen", where), _text(record, "rejected", where))
        tie = record.get("tie", False)
        if not isinstance(tie, bool):
            raise UserError(f"{where}: 'tie' is {tie!r}; write true or false.")
        ranks = (1.0, 1.0) if tie else (1.0, 2.0)
        return RankingGroup(_text(record, "prompt", where), texts, ranks, annotator, group)
    if "completions" in record and "ranks" in record:
        completions, ranks_ = record["completions"], record["ranks"]
        if not isinstance(completions, list) or not isinstance(ranks_, list):
            raise UserError(f"{where}: 'completions' and 'ranks' must be lists of equal length.")
        for text in completions:
            if not isinstance(text, str):
                raise UserError(f"{where}: a completion is {text!r}; every completion must be text.")
        try:
            return RankingGroup(
                _text(record, "prompt", where),
                tuple(completions),
                tuple(_number(rank, "ranks", where) for rank in ranks_),
                annotator,
                group,
            )
        except UserError as error:
            raise error if str(error).startswith(where) else UserError(f"{where}: {error}") from None
    raise UserError(
        f"{where} has the columns {', '.join(sorted(record)) or '(none)'}; a ranking has prompt, chosen, "
        "rejected, or prompt, completions, ranks, or group, prompt, completion, rank."
    )


def _text(record: Mapping[str, Any], column: str, where: str) -> str:
    if column not in record:
        raise UserError(f"{where} has no '{column}'; add it.")
    value = record[column]
    if not isinstance(value, str):
        raise UserError(f"{where}: '{column}' is {value!r}; it must be text.")
    if "\0" in value:
        raise UserError(f"{where}: '{column}' contains a NUL character; remove it.")
    return value


def _number(value: Any, column: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{where}: '{column}' is {value!r}; it must be a finite number (1 is best).")
    return float(value)


def _annotator(record: Mapping[str, Any], where: str) -> str | None:
    value = record.get("annotator")
    if value is None or isinstance(value, str | int):
        return None if value is None else str(value)
    raise UserError(f"{where}: 'annotator' is {value!r}; it must be text or a number.")
