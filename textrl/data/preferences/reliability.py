"""Agreement between people: pairwise share, Krippendorff's alpha, Cohen's kappa, with intervals.

Sources: Krippendorff, "Computing Krippendorff's alpha-reliability" (2011); Cohen, "A coefficient of
agreement for nominal scales" (1960), with the weights of "Weighted kappa" (1968). Intervals are percentile
bootstraps in which whole clusters (all items of a prompt) are drawn, since judgements of one prompt
resemble each other.

Shapes: J judgements, U items, G clusters, C values, S resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array

from textrl.evaluation.statistics import Interval

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]
Metric = Literal["nominal", "ordinal", "interval"]
#: More different values than these are a measurement, for which ranks are the better description.
MOST_VALUES = 200
_BLOCK = 50  # resamples at a time, so that memory stays within megabytes


@dataclass(frozen=True)
class Judgements:
    """Who said what of which item.

    Attributes:
        item: (J,) 0..U-1.
        value: (J,) numbers.
        rater: (J,) a number for each person; -1 where nobody knows who it was.
        cluster: (U,) which items stand or fall together, 0..G-1.
    """

    item: Ids
    value: Floats
    rater: Ids
    cluster: Ids

    @property
    def clusters(self) -> int:
        """G."""
        return int(self.cluster.max()) + 1 if len(self.cluster) else 0


def pair_tables(
    judged: Judgements, first: Ids, second: Ids, weight: Floats | None = None
) -> tuple[Floats, Any]:
    """Return the C values and sparse (U, C * C) tables, for each item, of how often they were said in pairs.

    Args:
        judged: All judgements; C counts the values of all of them.
        first: Indices of judgements, whose value is the row.
        second: As many, whose value is the column.
        weight: Of each pair; 1 where not given.
    """
    values, code = np.unique(judged.value, return_inverse=True)
    weight = np.ones(len(first)) if weight is None else weight
    cell = code[first] * len(values) + code[second]
    shape = (len(judged.cluster), len(values) ** 2)
    return values, coo_array((weight, (judged.item[first], cell)), shape=shape).tocsr()


def coincidences(judged: Judgements, first: Ids, second: Ids) -> tuple[Floats, Any]:
    """Return `pair_tables` as alpha wants them: a judgement counts once, however many others its item has.

    Args:
        judged: All judgements.
        first: Of `ordered_pairs`.
        second: Of `ordered_pairs`.
    """
    others = np.bincount(judged.item, minlength=len(judged.cluster))[judged.item[first]] - 1
    return pair_tables(judged, first, second, 1.0 / others)


def ordered_pairs(item: Ids) -> tuple[Ids, Ids]:
    """Return the indices of all ordered pairs of different judgements of one item."""
    order = np.argsort(item, kind="stable")
    counts = np.bincount(item)
    counts = counts[counts > 0]
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    first, second = [], []
    for size in np.unique(counts[counts > 1]):
        block = order[starts[counts == size][:, None] + np.arange(size)]
        left, right = np.nonzero(~np.eye(size, dtype=bool))
        first.append(block[:, left].ravel())
        second.append(block[:, right].ravel())
    none = np.zeros(0, np.int64)
    return np.concatenate([*first, none]), np.concatenate([*second, none])


def alpha(table: Floats, values: Floats, metric: Metric) -> float:
    """Return Krippendorff's alpha: 1 - observed / expected disagreement.

    Args:
        table: (C, C) coincidences, symmetric.
        values: (C,) ascending.
        metric: Of the differences between values.

    Returns:
        1 for perfect agreement, 0 for chance; NaN where all judgements are equal and nothing can disagree.
    """
    marginal = table.sum(axis=1)
    total = marginal.sum()
    distance = _squared_distance(marginal, values, metric)
    expected = float((np.outer(marginal, marginal) * distance).sum())
    observed = float((table * distance).sum())
    return 1 - (total - 1) * observed / expected if expected > 0 else float("nan")


def _squared_distance(marginal: Floats, values: Floats, metric: Metric) -> Floats:
    if metric == "nominal":
        return 1.0 - np.eye(len(values))
    if metric == "interval":
        return np.asarray((values[:, None] - values[None, :]) ** 2)
    # Half of the judgements at both ends and all between them: ranks that ties share.
    middle = np.cumsum(marginal) - marginal / 2
    return np.asarray((middle[:, None] - middle[None, :]) ** 2)


def kappa(table: Floats, values: Floats, weights: Literal["none", "quadratic"] = "none") -> float:
    """Return Cohen's kappa of two people.

    Args:
        table: (C, C) how often the first said the row's and the second the column's value.
        values: (C,) ascending.
        weights: ``none``, or ``quadratic`` differences of the values.

    Returns:
        NaN where both always say the same one thing.
    """
    distance = 1.0 - np.eye(len(values)) if weights == "none" else (values[:, None] - values[None, :]) ** 2
    expected = float((np.outer(table.sum(axis=1), table.sum(axis=0)) * distance).sum())
    total = float(table.sum())
    return 1 - total * float((table * distance).sum()) / expected if expected > 0 else float("nan")


def with_interval(
    tables: Any, cluster: Ids, statistic: Callable[[Floats], float], *, seed: int, resamples: int
) -> Interval | None:
    """Return a statistic of summed tables with its 95 % interval.

    Args:
        tables: Sparse (U, C * C), one table for each item.
        cluster: (U,) which items are drawn together.
        statistic: Of a (C, C) table.
        seed: Of the resampling.
        resamples: S.

    Returns:
        None where the statistic is not defined; NaN ends where there is only one cluster to draw from.
    """
    size = round(tables.shape[1] ** 0.5)
    value = statistic(np.asarray(tables.sum(axis=0)).reshape(size, size))
    if np.isnan(value):
        return None
    grouped = _sum_by(tables, cluster)
    groups = grouped.shape[0]
    if groups < 2:
        return Interval(value, float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    drawn = []
    for start in range(0, resamples, _BLOCK):
        count = min(_BLOCK, resamples - start)
        picks = rng.integers(groups, size=(count, groups))
        weights = np.stack([np.bincount(row, minlength=groups) for row in picks]).astype(np.float64)
        drawn += [statistic(table.reshape(size, size)) for table in weights @ grouped]
    known = np.asarray(drawn)[~np.isnan(drawn)]
    low, high = np.quantile(known, [0.025, 0.975]) if len(known) else (float("nan"), float("nan"))
    return Interval(value, float(low), float(high))


def _sum_by(tables: Any, cluster: Ids) -> Any:
    """Sum the rows of each cluster, leaving out clusters without any judgement to compare."""
    rows = np.flatnonzero(np.diff(tables.indptr))
    used, number = np.unique(cluster[rows], return_inverse=True)
    summing = coo_array((np.ones(len(rows)), (number, rows)), shape=(len(used), tables.shape[0]))
    return (summing.tocsr() @ tables).tocsr()
