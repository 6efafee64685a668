"""Ranked completions: what a reward model learns from.

Four forms of record are read, from JSONL, parquet or a dataset, and may be mixed:

    {"prompt": ..., "chosen": ..., "rejected": ...}                     a pair; "tie": true, "margin": 0.5
    {"prompt": ..., "completions": [...], "ranks": [...]}               a whole ranking
    {"group": ..., "prompt": ..., "completion": ..., "rank": ...}       one completion of a ranking
    {"prompt": ..., "completion": ..., "rating": ...}                   one rated completion of a prompt

A smaller rank is better, and equal ranks are a tie. ``annotator`` and ``user_id`` may stand in any record.
`textrl.data.preferences.schema` has all forms and columns.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from textrl.data.preferences.ranked import Ranked
from textrl.data.preferences.rated import RatedCompletion, rated
from textrl.data.preferences.schema import canonical, ranks_of
from textrl.data.records import read_records
from textrl.errors import UserError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RankingGroup:
    """K completions of one prompt, ranked by one person.

    Attributes:
        prompt: May be empty.
        completions: K texts, K >= 2; pairwise data has K = 2.
        ranks: K numbers; smaller is better, equal is a tie.
        annotator: Who ranked, where known: splits by person need it.
        group: The id in the file, where there is one.
        margin: Of a pair: how much better the first completion is, where people said so; >= 0.
        user_id: Who wrote the prompt, where known.
        ratings: K numbers, larger is better, where people gave them; a single text can be rated too.
        split: The part of the data that its record names, if it names one.
        where: Its place in a file; no part of what is compared.
    """

    prompt: str
    completions: tuple[str, ...]
    ranks: tuple[float, ...]
    annotator: str | None = None
    group: str | None = None
    margin: float | None = None
    user_id: str | None = None
    ratings: tuple[float, ...] | None = None
    split: str | None = None
    where: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.ratings is not None and len(self.ratings) != len(self.completions):
            raise UserError(
                f"{len(self.completions)} completions have {len(self.ratings)} ratings; give one rating each."
            )
        if len(self.completions) < 2 and not self.ratings:
            raise UserError(f"A ranking needs two completions or more, this one has {len(self.completions)}.")
        if len(self.completions) != len(self.ranks):
            raise UserError(
                f"{len(self.completions)} completions have {len(self.ranks)} ranks; give one rank each."
            )
        if not all(math.isfinite(rank) for rank in self.ranks):
            raise UserError(f"The ranks {list(self.ranks)} are not all finite numbers; correct them.")
        if self.margin is not None and not (len(self.ranks) == 2 and 0 <= self.margin < math.inf):
            raise UserError(
                f"The margin {self.margin} stands at a ranking of {len(self.ranks)}; a margin is a number "
                "of 0 or more, and belongs to a pair."
            )


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
        Groups in the order of their first record; then those that `rankings_from_ratings` makes.

    Raises:
        UserError: When the file or a record cannot be used; names the file and the line.
    """
    return assemble(read_records(source, split=split))


def assemble(records: Iterable[tuple[str, Mapping[str, Any]]]) -> list[RankingGroup]:
    """Make rankings of (place, record); see `read_rankings`.

    Raises:
        UserError: When a record cannot be used; names its place.
    """
    parts: dict[tuple[str, str | None], _Open] = {}
    groups: list[RankingGroup | _Open] = []
    scored: list[tuple[str, Mapping[str, Any]]] = []
    ranked = Ranked()
    for where, record in records:
        form, given = canonical(record, where)
        ranked.add(form, given)
        if form == "ranking_row":
            key = (str(given["group"]), _name(given, "annotator"))
            if key not in parts:
                parts[key] = _Open(where, given, key)
                groups.append(parts[key])
            parts[key].add(given, where)
        elif form == "rating":
            scored.append((where, given))
        else:
            groups.append(_whole(form, given, where))
    made = [group.close() if isinstance(group, _Open) else group for group in groups]
    ratings = [rated(given, where) for where, given in scored if not ranked.holds(given)]
    if len(ratings) < len(scored):
        _log.warning(
            "%d ratings of completions that the same person ranked are left out.", len(scored) - len(ratings)
        )
    return made + rankings_from_ratings(ratings) if ratings else made


def rankings_from_ratings(ratings: Sequence[RatedCompletion]) -> list[RankingGroup]:
    """Rank the rated completions of each prompt: one ranking for each annotator, by that person's ratings.

    Completions belong together that share a ``group``, or, without one, the prompt. Ratings whose
    annotators are not known give one ranking by their mean. A completion that one person rated twice
    has the mean of both. A prompt of which somebody rated one completion only gives no ranking of
    theirs; how many there were is logged.

    Raises:
        UserError: When no prompt has two completions that one person rated, or a record has neither
            prompt nor group, so that nothing says which completions compare.
    """
    together: dict[tuple[str, str, str | None, str | None], dict[str, list[float]]] = {}
    first: dict[tuple[str, str, str | None, str | None], RatedCompletion] = {}
    for entry in ratings:
        if not entry.prompt.strip() and entry.group is None:
            raise UserError(
                f"{entry.where}: a rating without a prompt and without a 'group' says not what it compares "
                "with; add 'group', or rank the texts with textrl.data.rankings.groups_from_ratings."
            )
        names: Sequence[str | None] = entry.annotators or (None,)
        values = [(value,) for value in entry.ratings] if entry.annotators else [entry.ratings]
        for name, given in zip(names, values, strict=True):
            # A group's id outranks the prompt; the prompt stays in the key so that groups cannot mix two.
            key = (entry.group or "", entry.prompt, name, entry.split)
            first.setdefault(key, entry)
            mean = sum(given) / len(given)
            together.setdefault(key, {}).setdefault(entry.completion, []).append(mean)
    groups = []
    for key, texts in together.items():
        if len(texts) > 1:
            means = tuple(sum(values) / len(values) for values in texts.values())
            entry = first[key]
            groups.append(
                RankingGroup(
                    entry.prompt,
                    tuple(texts),
                    ranks_of(means),
                    key[2],
                    entry.group,
                    user_id=entry.user_id,
                    ratings=means,
                    split=entry.split,
                    where=entry.where,
                )
            )
    alone = len(together) - len(groups)
    if not groups:
        raise UserError(
            f"{ratings[0].where}: no prompt has two completions that one person rated, so nothing can be "
            "ranked; train on the ratings themselves, or collect more completions a prompt."
        )
    if alone:
        _log.warning("%d prompts with one rated completion (per annotator) give no ranking.", alone)
    return groups


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
    first: Mapping[str, Any]
    key: tuple[str, str | None]
    completions: list[str] = field(default_factory=list)
    ranks: list[float] = field(default_factory=list)
    ratings: list[float] = field(default_factory=list)

    def add(self, given: Mapping[str, Any], where: str) -> None:
        if given["prompt"] != self.first["prompt"]:
            raise UserError(
                f"{where}: the group '{given['group']}' has another prompt here than at {self.where}; give "
                "each prompt a group of its own."
            )
        self.completions.append(given["completion"])
        self.ranks.append(float(given["rank"]))
        self.ratings += [float(given["rating"])] if "rating" in given else []

    def close(self) -> RankingGroup:
        group, annotator = self.key
        if len(self.completions) < 2:
            raise UserError(
                f"{self.where}: the group '{group}' has only one completion; a ranking needs two."
            )
        return RankingGroup(
            self.first["prompt"],
            tuple(self.completions),
            tuple(self.ranks),
            annotator,
            group,
            user_id=_name(self.first, "user_id"),
            ratings=tuple(self.ratings) if len(self.ratings) == len(self.ranks) else None,
            split=_name(self.first, "split"),
            where=self.where,
        )


def _whole(form: str, given: Mapping[str, Any], where: str) -> RankingGroup:
    """Make a ranking of a canonical record that holds a pair or a whole ranking."""
    margin = ratings = None
    completions: tuple[str, ...]
    ranks: tuple[float, ...]
    if form == "pair":
        completions = (given["chosen"], given["rejected"])
        ranks = (1.0, 1.0) if given.get("tie") else (1.0, 2.0)
        margin = float(given["margin"]) if "margin" in given else None
    elif form == "ranking":
        completions = tuple(given["completions"])
        ranks = tuple(float(rank) for rank in given["ranks"])
        ratings = tuple(float(one) for one in given["ratings"]) if "ratings" in given else None
    elif form == "demonstration" and "group" in given:
        raise UserError(f"{where}: 'rank' is None; it must be a finite number (1 is best).")
    else:
        raise UserError(
            f"{where} has the columns {', '.join(sorted(given))}; a ranking has prompt, chosen, "
            "rejected, or prompt, completions, ranks, or group, prompt, completion, rank."
        )
    return RankingGroup(
        given["prompt"],
        completions,
        ranks,
        _name(given, "annotator"),
        _name(given, "group"),
        margin,
        _name(given, "user_id"),
        ratings,
        _name(given, "split"),
        where,
    )


def _name(given: Mapping[str, Any], column: str) -> str | None:
    return str(given[column]) if column in given else None
