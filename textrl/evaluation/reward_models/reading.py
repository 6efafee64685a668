"""From a file of pairs, rankings or ratings to `Comparisons`.

Besides the forms that `textrl.data.rankings` reads, a file may hold ratings of single texts,

    {"prompt": ..., "completion": ..., "rating": 2.5}          one person, or the mean of several
    {"prompt": ..., "completion": ..., "ratings": [3, 2, 3]}   several people
    {"prompt": ..., "completion": ..., "likert": 6}            1 to 7

one line a text, or one line a text and person; the prompt may be left out. Ratings and rankings may stand
in one file. ``ratings:movie`` names the human ratings of movie snippets that the quickstart uses
(``ratings:movie/rm_test`` those it holds out).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textrl.data.preferences.ranked import Ranked
from textrl.data.preferences.rated import rated
from textrl.data.preferences.schema import canonical, kind_of
from textrl.data.rankings import RankingGroup, assemble
from textrl.data.ratings import DOMAINS, Rated, load_ratings, movie_splits
from textrl.data.records import read_records
from textrl.errors import UserError, did_you_mean
from textrl.evaluation.reward_models.comparisons import (
    Comparisons,
    Ranking,
    TextTable,
    from_rankings,
    from_ratings,
)

#: The forms of record in which people say what is better.
_VERDICTS = ("pair", "ranking", "ranking_row", "rating")
#: What completions and verdicts stand in; a scorer must not see it.
_VERDICT_COLUMNS = frozenset({
    "chosen", "rejected", "completion", "completions", "ranks", "rank", "tie", "margin", "annotator",
    "annotators", "rating", "ratings", "likert", "flags",
})  # fmt: skip
_LONGEST_VALUE = 80
#: A record in its canonical form, with its place.
Placed = tuple[str, Mapping[str, Any]]


def read_comparisons(
    source: str,
    *,
    split: str | None = None,
    least: float = 0.0,
    most_pairs: int = 50_000,
    seed: int = 0,
) -> Comparisons:
    """Read what people said.

    Args:
        source: A file or dataset, or ``ratings:DOMAIN``; see the module's text.
        split: Of a dataset (``train`` by default); of a file, only the records whose ``split`` it is.
        least: Pairs whose known margin is smaller count as ties.
        most_pairs: Of more pairs, a random part is used.
        seed: Of that part.

    Raises:
        UserError: When it cannot be read, or holds nothing to compare; names the file and the line.
    """
    if source.startswith("ratings:"):
        if split is not None:
            raise UserError(f"--split does nothing for {source}; write ratings:movie/{split}.")
        table, ratings = TextTable(), list[tuple[int, ...]]()
        for one in _own_ratings(source):
            if table.index("", one.text, f"{source}, text {one.id}") == len(ratings):
                ratings.append(one.ratings)
        return from_ratings(source, table, ratings, least=least, most_pairs=most_pairs, seed=seed)
    said = _read(source, split)
    notes = []
    if split is None and len(said.splits) > 1:
        counts = ", ".join(f"{name} ({count:,} records)" for name, count in sorted(said.splits.items()))
        notes.append(f"The file holds the splits {counts}, and all were used; choose one with --split.")
    # Only now, since a rating may stand before its ranking.
    rated_only = [(where, given) for where, given in said.ratings if not said.ranked.holds(given)]
    if len(rated_only) < len(said.ratings):
        count = len(said.ratings) - len(rated_only)
        notes.append(f"{count:,} ratings of completions that the same person ranked are left out.")
    options: dict[str, Any] = {"least": least, "most_pairs": most_pairs, "seed": seed, "notes": notes}
    table = TextTable()
    rankings = [_ranking(group, records, table) for group, records in said.groups()]
    if not rated_only:
        return from_rankings(source, table, rankings, **options)
    if rankings:
        notes.append("The file holds rankings and ratings; rated texts are compared within their prompt.")
    return from_ratings(source, table, _single_ratings(rated_only, table), rankings=rankings, **options)


def _own_ratings(source: str) -> list[Rated]:
    domain, _, part = source.removeprefix("ratings:").partition("/")
    if domain not in DOMAINS:
        raise UserError(f"There are no ratings '{domain}' in {source}.{did_you_mean(domain, DOMAINS)}")
    rated = load_ratings(domain)
    if not part:
        return rated
    splits = movie_splits(0, snippets=rated) if domain == "movie" else {}
    if part not in splits:
        raise UserError(
            f"There is no part '{part}' in {source}.{did_you_mean(part, splits)}"
            if splits
            else f"Only ratings:movie has parts; write ratings:{domain}."
        )
    return splits[part]


@dataclass
class _Said:
    """The verdicts of a file.

    Attributes:
        rankings: The records of each ranking: one, or the lines of its completions.
        ratings: Records that rate a text.
        splits: How many records name each split.
        ranked: Who has ranked what.
    """

    rankings: list[list[Placed]] = field(default_factory=list)
    ratings: list[Placed] = field(default_factory=list)
    splits: dict[str, int] = field(default_factory=dict)
    ranked: Ranked = field(default_factory=Ranked)
    _rows: dict[tuple[str, str | None], list[Placed]] = field(default_factory=dict)

    def add(self, where: str, record: Mapping[str, Any]) -> None:
        """Take in a record.

        Raises:
            UserError: When it holds no verdict, or a wrong one; names its place.
        """
        kind = kind_of(record)
        if kind is not None and kind not in _VERDICTS:
            columns = ", ".join(sorted(str(name) for name, value in record.items() if value is not None))
            raise UserError(
                f"{where} has no rating, no rank and no pair; it has the columns {columns}. Give prompt, "
                "chosen, rejected, or prompt, completions, ranks, or prompt, completion, rating."
            )
        if kind == "rating" and record.get("prompt") is None:
            record = {**record, "prompt": ""}  # texts can be rated without one
        form, given = canonical(record, where)
        self.ranked.add(form, given)
        if form == "rating":
            self.ratings.append((where, given))
        elif form == "ranking_row":
            key = (str(given["group"]), str(given["annotator"]) if "annotator" in given else None)
            if key not in self._rows:
                self._rows[key] = []
                self.rankings.append(self._rows[key])
            self._rows[key].append((where, given))
        else:
            self.rankings.append([(where, given)])

    def groups(self) -> Iterator[tuple[RankingGroup, list[Placed]]]:
        """Yield each ranking with the records that it was made of."""
        for records in self.rankings:
            for group in assemble(records):
                yield group, records


def _read(source: str, split: str | None) -> _Said:
    """Read the verdicts of one split, or all, in one pass."""
    said = _Said()
    for where, record in read_records(source, split=split or "train"):
        part = record.get("split")
        if isinstance(part, str):
            said.splits[part] = said.splits.get(part, 0) + 1
        if split is None or part in (None, split):
            said.add(where, record)
    if split is not None and said.splits and split not in said.splits:
        raise UserError(f"{source}: no record has the split '{split}'.{did_you_mean(split, said.splits)}")
    return said


def _ranking(group: RankingGroup, records: list[Placed], table: TextTable) -> Ranking:
    where, given = records[0]
    own = {row["completion"]: (place, row) for place, row in reversed(records) if "completion" in row}
    texts = []
    for completion in group.completions:
        place, record = own.get(completion, (where, given))
        texts.append(table.index(group.prompt, completion, place, _shared(record)))
    margin = given.get("margin")
    return Ranking(
        texts=tuple(texts),
        ranks=group.ranks,
        annotator=group.annotator,
        margin=abs(float(margin)) if _is_number(margin) else None,  # type: ignore[arg-type]
        ratings=tuple(map(float, given["ratings"])) if {"completions", "ratings"} <= given.keys() else (),
        shown="chosen" not in given,
        columns={
            key: str(value)
            for key, value in _shared(given).items()
            if key != "prompt" and isinstance(value, str | int | bool) and len(str(value)) < _LONGEST_VALUE
        },
    )


def _shared(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that say nothing about which text is better."""
    return {str(name): value for name, value in record.items() if name not in _VERDICT_COLUMNS}


def _single_ratings(records: list[Placed], table: TextTable) -> list[list[float]]:
    """Return the single ratings of every text of the table, to which this adds the rated ones."""
    found: dict[int, list[float]] = {}
    for where, given in records:
        one = rated(given, where)
        index = table.index(one.prompt, one.completion, where, _shared(given))
        found.setdefault(index, []).extend(one.ratings)
    return [found.get(index, []) for index in range(len(table.found))]


def _is_number(value: Any) -> bool:
    """Whether this is a finite number; a truth value is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def annotator_groups(path: Path) -> dict[str, str]:
    """Read which annotator belongs to which group.

    Args:
        path: YAML or JSON: group -> list of annotators.

    Returns:
        Annotator -> group.

    Raises:
        UserError: When the file cannot be read, or an annotator is in two groups.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: the annotator groups cannot be read ({reason:.160}).") from error
    if not isinstance(content, dict) or not all(isinstance(names, list) for names in content.values()):
        raise UserError(
            f"{path}: write a mapping from groups to lists of annotators, as in 'held-out: [a, b]'."
        )
    found: dict[str, str] = {}
    for group, names in content.items():
        for name in names:
            if found.setdefault(str(name), str(group)) != str(group):
                raise UserError(
                    f"{path}: the annotator '{name}' is in the groups '{found[str(name)]}' and '{group}'; "
                    "keep one of them."
                )
    return found
