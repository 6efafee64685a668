"""From a file of pairs, rankings or ratings to `Comparisons`.

Besides the forms that `textrl.data.rankings` reads, a file may hold ratings of single texts,

    {"prompt": ..., "completion": ..., "rating": 2.5}          one person, or the mean of several
    {"prompt": ..., "completion": ..., "ratings": [3, 2, 3]}   several people
    {"prompt": ..., "completion": ..., "likert": 6}            1 to 7

one line a text, or one line a text and person; and ``ratings:movie`` names the human ratings of movie
snippets that the quickstart uses (``ratings:movie/rm_test`` those it holds out).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textrl.data.rankings import RankingGroup, read_rankings
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

_RATINGS = ("rating", "ratings", "likert")
#: What the texts and the verdicts stand in; everything else in a record can be evaluated by.
_CONTENT = frozenset({
    "prompt", "chosen", "rejected", "completion", "completions", "ranks", "rank", "tie", "margin",
    "annotator", *_RATINGS,
})  # fmt: skip
_LONGEST_VALUE = 80


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
            if table.index("", one.text) == len(ratings):
                ratings.append(one.ratings)
        return from_ratings(source, table, ratings, least=least, most_pairs=most_pairs, seed=seed)
    kind, splits = _look(source, split)
    notes = []
    if split is None and len(splits) > 1:
        counts = ", ".join(f"{name} ({count:,} records)" for name, count in sorted(splits.items()))
        notes.append(f"The file holds the splits {counts}, and all were used; choose one with --split.")
    options: dict[str, Any] = {"least": least, "most_pairs": most_pairs, "seed": seed, "notes": notes}
    table = TextTable()
    if kind == "ratings":
        return from_ratings(source, table, _read_ratings(source, split, table), **options)
    rankings = _read_rankings(source, split, table)
    return from_rankings(source, table, rankings, **options)


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


def _look(source: str, split: str | None) -> tuple[str, dict[str, int]]:
    """Return whether the first record is a rating or a ranking, and the records of each split."""
    kind, splits = "", dict[str, int]()
    for _, record in read_records(source, split=split or "train"):
        if not kind:
            rated = "completion" in record and any(record.get(name) is not None for name in _RATINGS)
            kind = "ratings" if rated and record.get("rank") is None else "rankings"
        part = record.get("split")
        if isinstance(part, str):
            splits[part] = splits.get(part, 0) + 1
    if split is not None and splits and split not in splits:
        raise UserError(f"{source}: no record has the split '{split}'.{did_you_mean(split, splits)}")
    return kind, splits


def _elsewhere(record: Mapping[str, Any], split: str | None) -> bool:
    """Whether a record belongs to another split."""
    return split is not None and record.get("split") not in (None, split)


def _read_rankings(source: str, split: str | None, table: TextTable) -> list[Ranking]:
    groups = read_rankings(source, split=split or "train")
    firsts = _first_records(source, split)
    if len(groups) != len(firsts):
        raise UserError(f"{source} changed while it was read; evaluate it again.")
    return [
        _ranking(group, record, table)
        for group, record in zip(groups, firsts, strict=True)
        if not _elsewhere(record, split)
    ]


def _first_records(source: str, split: str | None) -> list[Mapping[str, Any]]:
    """Return the first record of every ranking, in the order in which `read_rankings` returns them."""
    seen: set[tuple[str, str]] = set()
    found = []
    for _, record in read_records(source, split=split or "train"):
        if record.get("group") is not None and record.get("completion") is not None:
            key = (str(record["group"]), str(record.get("annotator")))
            if key in seen:
                continue
            seen.add(key)
        found.append(record)
    return found


def _ranking(group: RankingGroup, record: Mapping[str, Any], table: TextTable) -> Ranking:
    margin, ratings = record.get("margin"), record.get("ratings")
    whole = "completions" in record and record["completions"] is not None
    numbers = isinstance(ratings, list) and all(_is_number(one) for one in ratings)
    return Ranking(
        texts=tuple(table.index(group.prompt, completion) for completion in group.completions),
        ranks=group.ranks,
        annotator=group.annotator,
        margin=abs(float(margin)) if _is_number(margin) else None,  # type: ignore[arg-type]
        ratings=tuple(map(float, ratings)) if whole and numbers and len(ratings) == len(group.ranks) else (),  # type: ignore[arg-type]
        shown=record.get("chosen") is None,
        columns={
            str(key): str(value)
            for key, value in record.items()
            if key not in _CONTENT
            and isinstance(value, str | int | bool)
            and len(str(value)) < _LONGEST_VALUE
        },
    )


def _read_ratings(source: str, split: str | None, table: TextTable) -> list[list[float]]:
    """Return the single ratings of every text of the table, which this fills."""
    ratings: list[list[float]] = []
    for where, record in read_records(source, split=split or "train"):
        if _elsewhere(record, split):
            continue
        name = next((name for name in ("ratings", "rating", "likert") if record.get(name) is not None), None)
        if name is None:
            raise UserError(
                f"{where} has no rating; a file holds ratings of single texts in every line, or pairs and "
                "rankings in every line."
            )
        given = record[name] if isinstance(record[name], list) else [record[name]]
        if not given or not all(_is_number(one) for one in given):
            raise UserError(
                f"{where}: '{name}' is {record[name]!r}; write a finite number or a list of them."
            )
        prompt, completion = record.get("prompt") or "", record.get("completion")
        for column, text in (("prompt", prompt), ("completion", completion)):
            if not isinstance(text, str) or "\0" in text:
                raise UserError(f"{where}: '{column}' is {text!r}; it must be text without NUL.")
        assert isinstance(completion, str)
        index = table.index(prompt, completion)
        if index == len(ratings):
            ratings.append([])
        ratings[index].extend(float(one) for one in given)
    return ratings


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
