"""`textrl data agreement`: how far people agree, which bounds what a reward model can be asked for.

For each kind of judgement (see `textrl.data.preferences.judgements`): the share of pairs of people who say
the same of the same item, Krippendorff's alpha, and Cohen's kappa of each two people, with 95 % bootstrap
intervals over prompts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.sparse import coo_array

from textrl.data.preferences.convert import items_of
from textrl.data.preferences.formats import guess
from textrl.data.preferences.importers.base import Notes, Options
from textrl.data.preferences.judgements import COMPARISON, Collected, Collector
from textrl.data.preferences.reliability import (
    MOST_VALUES,
    Floats,
    Ids,
    Judgements,
    Metric,
    alpha,
    coincidences,
    kappa,
    ordered_pairs,
    pair_tables,
    with_interval,
)
from textrl.data.preferences.reshape import Item
from textrl.data.preferences.sources import open_source
from textrl.errors import UserError
from textrl.evaluation.statistics import Interval

#: Two people need as many common items before their kappa is worth a line.
COMMON = 10
#: Formats whose records need no import.
_OWN = ("textrl", "trl")
#: Records by which the format of a file is guessed.
_LOOK = 20
#: Pairs of people that get an interval and a line; the report says how many there are.
SHOWN = 10

Figure = dict[str, float | None]


@dataclass(frozen=True)
class KindReport:
    """Agreement in one kind of judgement.

    Attributes:
        items: That anybody judged.
        shared: That two people or more judged.
        clusters: Prompts that the shared items belong to: what is drawn for the intervals.
        judgements: Of all items.
        raters: Named people; 0 where nobody is named.
        repeated: Judgements left out since the same person had judged the item before.
        contradicted: Of those, the ones that say something else.
        ties: Comparisons: share of judgements that are ties.
        agreement: Share of pairs of people who say the same of an item.
        without_ties: Comparisons: the same among pairs of people of whom neither said tie.
        alpha: Metric -> Krippendorff's alpha.
        kappas: The pairs of people with most common items: who, items, kappa.
        kappa_mean: Mean kappa over all pairs of people with `COMMON` items or more, weighted by items.
        kappa_pairs: How many such pairs there are.
        notes: Sentences.
    """

    items: int
    shared: int
    clusters: int
    judgements: int
    raters: int
    repeated: int
    contradicted: int
    ties: float | None
    agreement: Figure | None
    without_ties: Figure | None
    alpha: dict[str, Figure | None]
    kappas: list[dict[str, Any]]
    kappa_mean: float | None
    kappa_pairs: int
    notes: list[str]


@dataclass(frozen=True)
class AgreementReport:
    """Agreement in a file.

    Attributes:
        kinds: Kind of judgement -> its figures.
        anonymous: Judgements by nobody known.
        others: Records that judge nothing.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        format: Of the file, guessed from its content.
        left_out: What the format's reader left out, and how often.
    """

    kinds: dict[str, KindReport]
    anonymous: int
    others: int
    resamples: int
    seed: int
    format: str = "textrl"
    left_out: dict[str, int] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return asdict(self)


def agreement_of(
    source: str | Path, *, resamples: int = 1000, seed: int = 0, split: str = "train"
) -> AgreementReport:
    """Measure the agreement in a file or a dataset.

    Args:
        source: What `textrl.data.preferences.sources` reads, in any format that `textrl data convert` reads.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        split: Which part of a dataset.

    Raises:
        UserError: On a record that cannot be used; and where no item has two judgements.
    """
    if resamples < 1:
        raise UserError(f"--resamples is {resamples}; it must be at least 1.")
    collector, notes = Collector(), Notes()
    name, items = _read(source, split, notes)
    try:
        for where, form, given in items:
            collector.take(form, given, where)
    except UserError as error:
        if name in _OWN:
            raise
        raise UserError(
            f"{error} This was read as {name}; what an import needs to be told (--columns, --buckets, "
            "--skip-bad) is told to `textrl data convert`, and its result can be measured."
        ) from error
    kinds = collector.finish()
    if not kinds:
        raise UserError(
            f"{source}: no record judges anything: it holds prompts, demonstrations or dialogues."
        )
    names = list(collector.raters)
    found = {kind: measure(kind, one, names, resamples, seed) for kind, one in kinds.items()}
    if not any(report.shared for report in found.values()):
        count = sum(report.items for report in found.values())
        raise UserError(
            f"{source}: none of the {count:,} items was judged by two people, so there is nothing to "
            "compare; have some items judged twice."
        )
    return AgreementReport(
        found, collector.anonymous, collector.others, resamples, seed, name, dict(notes.counts)
    )


def _read(source: str | Path, split: str, notes: Notes) -> tuple[str, Iterator[Item]]:
    """Open a file and guess its format.

    Raises:
        UserError: When the file cannot be read or no format fits it.
    """
    records = open_source(source, split=split)
    head = list(islice(records, _LOOK))
    made = guess(record for _, record in head)
    if made is None:
        columns = sorted({str(column) for _, record in head for column in record})
        raise UserError(
            f"{source}: no format fits its records, which have the columns {', '.join(columns) or '(none)'}; "
            "name those that are meant with `textrl data convert`, for example --columns completion=text."
        )
    return made.name, items_of(made, chain(head, records), Options(), notes)


def measure(kind: str, collected: Collected, names: list[str], resamples: int, seed: int) -> KindReport:
    """Compute the figures of one kind.

    Args:
        kind: Its name.
        collected: Its judgements.
        names: Of the raters by number.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """
    comparison = kind == COMPARISON
    judged = collected.judgements(both_ways=comparison)
    first, second = ordered_pairs(judged.item)
    shared = np.unique(judged.item[first])
    shared = shared[shared < len(collected.clusters)]
    bounds = _Bounds(judged.cluster, seed, resamples)
    notes: list[str] = []
    several = len(np.unique(judged.value)) <= MOST_VALUES
    if not several:
        notes.append(f"More than {MOST_VALUES} different values: no ordinal alpha, no kappa.")
    kappas, mean, pairs = _kappas(judged, first, second, names, kind, bounds) if several else ([], None, 0)
    if not kappas:
        notes.append(f"Cohen's kappa needs named people with {COMMON} common items or more.")
    values = np.asarray(collected.value)
    return KindReport(
        items=len(collected.items),
        shared=len(shared),
        clusters=len(np.unique(judged.cluster[shared])),
        judgements=len(collected.value),
        raters=len({rater for rater in collected.rater if rater >= 0}),
        repeated=collected.repeated,
        contradicted=collected.contradicted,
        ties=float((values == 0).mean()) if comparison else None,
        agreement=_share(judged, first, second, bounds),
        without_ties=_share(judged, *_decided(judged, first, second), bounds) if comparison else None,
        alpha={metric: _alpha(judged, first, second, metric, bounds) for metric in _metrics(kind, several)},
        kappas=kappas,
        kappa_mean=mean,
        kappa_pairs=pairs,
        notes=notes,
    )


@dataclass(frozen=True)
class _Bounds:
    """What every interval of a kind has in common."""

    cluster: Ids
    seed: int
    resamples: int

    def of(self, tables: Any, statistic: Any) -> Figure | None:
        interval = with_interval(tables, self.cluster, statistic, seed=self.seed, resamples=self.resamples)
        return None if interval is None else _figure(interval)


def _metrics(kind: str, several: bool) -> tuple[Metric, ...]:
    if kind in ("rating", "likert"):
        return ("ordinal", "interval") if several else ()
    return ("nominal",)


def _share(judged: Judgements, first: Ids, second: Ids, bounds: _Bounds) -> Figure | None:
    """Return the share of pairs of people who say the same; pairs stand twice, which changes no share."""
    if not len(first):
        return None
    # Two values, same and different: a table of all values would be large and is not needed.
    same = (judged.value[first] == judged.value[second]).astype(np.int64)
    table = coo_array((np.ones(len(first)), (judged.item[first], 1 - same)), shape=(len(judged.cluster), 4))
    return bounds.of(table.tocsr(), lambda counts: _ratio(counts[0, 0], counts[0, 0] + counts[0, 1]))


def _alpha(judged: Judgements, first: Ids, second: Ids, metric: Metric, bounds: _Bounds) -> Figure | None:
    if not len(first):
        return None
    values, tables = coincidences(judged, first, second)
    return bounds.of(tables, lambda table: alpha(table, values, metric))


def _decided(judged: Judgements, first: Ids, second: Ids) -> tuple[Ids, Ids]:
    kept = (judged.value[first] != 0) & (judged.value[second] != 0)
    return first[kept], second[kept]


def _kappas(
    judged: Judgements, first: Ids, second: Ids, names: list[str], kind: str, bounds: _Bounds
) -> tuple[list[dict[str, Any]], float | None, int]:
    """Return the lines, the weighted mean and the number of pairs of people with enough common items."""
    one, two = judged.rater[first], judged.rater[second]
    named = (one >= 0) & (one < two)
    first, second, one, two = first[named], second[named], one[named], two[named]
    people, inverse, counts = np.unique(
        np.stack([one, two], axis=1), axis=0, return_inverse=True, return_counts=True
    )
    inverse = inverse.reshape(-1)
    # Comparisons stand twice, once each way round.
    common = counts // (2 if kind == COMPARISON else 1)
    weights: Literal["none", "quadratic"] = "quadratic" if kind in ("rating", "likert") else "none"
    lines, sums = [], [0.0, 0.0]
    enough = [index for index in np.argsort(-common, kind="stable").tolist() if common[index] >= COMMON]
    for place, index in enumerate(enough):
        rows = np.flatnonzero(inverse == index)
        values, tables = pair_tables(judged, first[rows], second[rows])

        def statistic(table: Floats, values: Floats = values) -> float:
            return kappa(table, values, weights)

        if place < SHOWN:
            figure = bounds.of(tables, statistic)
            pair = [names[number] for number in people[index]]
            lines.append({"raters": pair, "items": int(common[index]), "weights": weights, "kappa": figure})
            value = math.nan if figure is None or figure["value"] is None else figure["value"]
        else:
            size = len(values)
            value = statistic(np.asarray(tables.sum(axis=0)).reshape(size, size))
        if not math.isnan(value):
            sums = [sums[0] + value * int(common[index]), sums[1] + int(common[index])]
    return lines, (sums[0] / sums[1] if sums[1] else None), len(enough)


def _figure(interval: Interval) -> Figure:
    """Return plain numbers, with None where there is none: JSON has no NaN."""
    return {key: None if math.isnan(value) else value for key, value in interval.plain().items()}


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
