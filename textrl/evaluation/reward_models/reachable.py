"""What the best scores there could be reach: people contradict each other, and themselves.

Of a text that is ranked above another and below it, or of a circle (A over B over C over A), no scores have
every pair right. The texts of such contradictions are those that can be reached from each other along
"better than": a strongly connected component of that graph. Outside of components an order of all texts has
every pair right; within one, the best order is looked for among all (Held & Karp, "A dynamic programming
approach to sequencing problems", 1962). Equal scores are half right, which is the mean of an order and its
reverse, so they gain nothing.

Shapes: ``P`` pairs, ``K`` texts of one component, ``S`` = 2 ** K sets of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from textrl.evaluation.reward_models.comparisons import Bools
from textrl.evaluation.reward_models.resampling import Ints
from textrl.evaluation.statistics import Floats

#: 4,096 sets of texts; twice as many for each text more.
MOST_ORDERED = 12


@dataclass(frozen=True, eq=False)
class Reachable:
    """The best order of all texts, as far as it can be told.

    Attributes:
        right: (P,) how far the best order has each pair right: 1, 0, or 0.5 for a text and itself.
        contradicted: (P,) whether other verdicts speak against the pair, at once or in a circle.
        exact: False where a component has more than `MOST_ORDERED` texts: its pairs then count as right
            whose reverse is said less often, which no order can exceed and perhaps none reaches.
    """

    right: Floats
    contradicted: Bools
    exact: bool


def reachable(better: Ints, worse: Ints, weight: Floats) -> Reachable:
    """Find an order of texts with the greatest sum of the weights of right pairs.

    Args:
        better: (P,) index of the better text.
        worse: (P,) index of the worse text.
        weight: (P,) of each pair, 0 for those that do not count, such as ties.
    """
    right = np.where(better == worse, 0.5, 1.0)
    used = (weight > 0) & (better != worse)
    contradicted = np.zeros(len(better), dtype=np.bool_)
    if not used.any():
        return Reachable(right, contradicted, True)
    size = int(max(better.max(), worse.max())) + 1
    graph = coo_array((np.ones(int(used.sum())), (better[used], worse[used])), shape=(size, size))
    _, part = connected_components(graph.tocsr(), directed=True, connection="strong")
    contradicted = used & (part[better] == part[worse])
    inside = np.flatnonzero(contradicted)
    inside = inside[np.argsort(part[better[inside]], kind="stable")]
    borders = np.flatnonzero(np.diff(part[better[inside]])) + 1
    exact = True
    for pairs in np.split(inside, borders) if len(inside) else ():
        texts, flat = np.unique(np.concatenate([better[pairs], worse[pairs]]), return_inverse=True)
        first, second = flat[: len(pairs)], flat[len(pairs) :]
        wins = np.zeros((len(texts), len(texts)))
        np.add.at(wins, (first, second), weight[pairs])
        if len(texts) <= MOST_ORDERED:
            place = _best_order(wins)
            right[pairs] = place[first] < place[second]
        else:
            exact = False
            right[pairs] = 0.5 + 0.5 * np.sign(wins[first, second] - wins[second, first])
    return Reachable(right, contradicted, exact)


def _best_order(wins: Floats) -> Ints:
    """Return (K,) the place of each text, 0 for the best, with the most of (K, K) wins.

    The best order of a set of texts ends with one of them, which then wins against all texts outside of the
    set, behind the best order of the rest of the set.
    """
    count = len(wins)
    sets, layers = _sets(count)
    gain = (~sets).astype(np.float64) @ wins.T  # (S, K) what a text wins against those outside of a set
    best, last = np.zeros(len(sets)), np.zeros(len(sets), dtype=np.int64)
    for layer in layers:
        before = best[layer[:, None] & ~(1 << np.arange(count))]
        found = np.where(sets[layer], before + gain[layer], -np.inf)
        last[layer] = found.argmax(axis=1)
        best[layer] = found.max(axis=1)
    place = np.zeros(count, dtype=np.int64)
    left = len(sets) - 1
    for position in range(count - 1, -1, -1):
        place[last[left]] = position
        left &= ~(1 << int(last[left]))
    return place


@lru_cache(maxsize=MOST_ORDERED)
def _sets(count: int) -> tuple[Bools, tuple[Ints, ...]]:
    """Return (S, K) whether each set holds each text, and the numbers of the sets of each size from 1 on."""
    numbers = np.arange(1 << count)
    sets = (numbers[:, None] >> np.arange(count) & 1).astype(np.bool_)
    sizes = sets.sum(axis=1)
    return sets, tuple(np.flatnonzero(sizes == size) for size in range(1, count + 1))
