"""One form of record made of another: pairs of rankings, rankings of rows or ratings, and so on.

    ->               from
    pair             ranking, rows (all pairs; ties stay ties; ratings give margins)
    ranking          pair (K = 2), rows, ratings (see `textrl.data.rankings.rankings_from_ratings`)
    ranking_row      ranking, pair
    rating           ranking with ratings
    label            pair (chosen true, rejected false)
    demonstration    pair, ranking (every best completion)
    prompt           all but dialogues; each prompt once

What cannot be made into the form asked for is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from textrl.data.preferences.importers.answers import candidates
from textrl.data.preferences.importers.base import Notes, pairs_of
from textrl.data.preferences.ranked import Ranked
from textrl.data.preferences.rated import RatedCompletion, rated
from textrl.data.preferences.schema import COLUMNS, Form, Record
from textrl.errors import UserError

#: (place, form, canonical record).
Item = tuple[str, Form, Record]


def reshape(items: Iterable[Item], form: Form, notes: Notes) -> Iterator[Item]:
    """Yield the items as records of one form.

    Args:
        items: Canonical.
        form: Wanted.
        notes: Told of records that have no such form.

    Raises:
        UserError: When the rows of a group do not belong together.
    """
    make = _MAKERS.get(form)
    if form in ("pair", "ranking", "label", "demonstration"):
        items = gather(items, notes)
    if form == "ranking":
        items = _ranked(items, notes)
    seen: set[str] = set()
    for where, kind, record in items:
        if kind == form:
            yield where, form, record
            continue
        made = list(make(kind, record, notes)) if make is not None else []
        if not made:
            notes.count(f"{kind.replace('_', ' ')}s left out that cannot become a {form.replace('_', ' ')}")
        for one in made:
            if form == "prompt":
                if one["prompt"] in seen:
                    continue
                seen.add(one["prompt"])
            yield where, form, one


def gather(items: Iterable[Item], notes: Notes) -> Iterator[Item]:
    """Put the rows of rankings together; all other items pass at once, the rankings come at the end.

    Raises:
        UserError: When two rows of a group have different prompts.
    """
    groups: dict[tuple[str, str], tuple[str, Record]] = {}
    for where, form, record in items:
        if form != "ranking_row":
            yield where, form, record
            continue
        key = (str(record["group"]), str(record.get("annotator")))
        if key not in groups:
            kept = {c: v for c, v in record.items() if c not in ("completion", "rank", "rating")}
            groups[key] = (where, {**kept, "completions": [], "ranks": [], "ratings": []})
        started, ranking = groups[key]
        if ranking["prompt"] != record["prompt"]:
            raise UserError(
                f"{where}: the group '{record['group']}' has another prompt here than at {started}; give "
                "each prompt a group of its own."
            )
        ranking["completions"].append(record["completion"])
        ranking["ranks"].append(record["rank"])
        if "rating" in record:
            ranking["ratings"].append(record["rating"])
    for where, ranking in groups.values():
        rated_all = len(ranking["ratings"]) == len(ranking["ranks"])
        if not rated_all:
            notes.count("ratings left out of rankings that are not rated throughout", len(ranking["ratings"]))
            del ranking["ratings"]
        if len(ranking["ranks"]) < 2:
            notes.count("groups left out with a single completion")
        else:
            yield where, "ranking", ranking


def _ranked(items: Iterable[Item], notes: Notes) -> Iterator[Item]:
    """Make rankings of ratings, at the end; all other items pass at once."""
    from textrl.data.rankings import rankings_from_ratings  # here: that module reads these forms itself

    ratings: list[RatedCompletion] = []
    scored: list[tuple[str, Record]] = []
    ranked = Ranked()
    for where, form, record in items:
        if form == "rating":
            scored.append((where, record))
            continue
        ranked.add(form, record)
        yield where, form, record
    for where, record in scored:
        if ranked.holds(record):
            notes.count("ratings left out of completions that the same person ranked")
        elif record.keys() & {"rating", "ratings", "likert"}:
            ratings.append(rated(record, where))
        else:
            notes.count("ratings left out that have flags only")
    if not ratings:
        return
    notes.count("ratings made into rankings of their order")
    for group in rankings_from_ratings(ratings):
        known = {"group": group.group, "user_id": group.user_id, "annotator": group.annotator}
        yield (
            ratings[0].where,
            "ranking",
            {
                "prompt": group.prompt,
                "completions": list(group.completions),
                "ranks": list(group.ranks),
                **{column: value for column, value in known.items() if value is not None},
            },
        )


def _without(form: Form, record: Record) -> Record:
    """Return the columns that are not those of the form itself, and the prompt."""
    return {c: v for c, v in record.items() if c == "prompt" or c not in COLUMNS[form]}


def _pairs(form: Form, record: Record, notes: Notes) -> Iterator[Record]:
    return pairs_of(form, record) if form == "ranking" else iter(())


def _rankings(form: Form, record: Record, notes: Notes) -> Iterator[Record]:
    if form == "pair":
        notes.count("margins left out: a ranking has none", "margin" in record)
        texts, ranks = candidates(record)
        yield {**_without(form, record), "completions": texts, "ranks": ranks}


def _rows(form: Form, record: Record, notes: Notes) -> Iterator[Record]:
    if form not in ("pair", "ranking"):
        return
    notes.count("margins left out: rows have none", "margin" in record)
    texts, ranks = candidates(record)
    ratings: Sequence[float | None] = record.get("ratings", [None] * len(texts))
    group = record.get("group", f"ranking-{notes.next_serial()}")
    for text, rank, rating in zip(texts, ranks, ratings, strict=True):
        row = {**_without(form, record), "group": group, "completion": text, "rank": rank}
        yield row if rating is None else {**row, "rating": rating}


def _ratings(form: Form, record: Record, notes: Notes) -> Iterator[Record]:
    if form == "ranking" and "ratings" in record:
        for text, rating in zip(record["completions"], record["ratings"], strict=True):
            yield {**_without(form, record), "completion": text, "rating": rating}
    elif form == "ranking_row" and "rating" in record:
        yield {c: v for c, v in record.items() if c != "rank"}


def _labels(form: Form, record: Record, notes: Notes) -> Iterator[Record]:
    if form == "pair" and not record.get("tie"):
        for column in ("chosen", "rejected"):
            yield {**_without(form, record), "completion": record[column], "label": column == "chosen"}


def _demonstrations(form: Form, record: Record, notes: Notes) -> Iterator[Record]:
    if form in ("pair", "ranking"):
        texts, ranks = candidates(record)
        for text, rank in zip(texts, ranks, strict=True):
            if rank == min(ranks):
                yield {**_without(form, record), "completion": text}
    elif form in ("rating", "label"):
        return


def _prompts(form: Form, record: Record, notes: Notes) -> Iterator[Record]:
    if "prompt" in record:
        yield {c: v for c, v in _without(form, record).items() if c not in ("annotator", "completion")}


_MAKERS: Mapping[Form, Callable[[Form, Record, Notes], Iterator[Record]]] = {
    "pair": _pairs,
    "ranking": _rankings,
    "ranking_row": _rows,
    "rating": _ratings,
    "label": _labels,
    "demonstration": _demonstrations,
    "prompt": _prompts,
}
