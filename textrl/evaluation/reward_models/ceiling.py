"""How well one person agrees with the others: what a model could reach, and where more is no better.

Two kinds of data say something about it. Where single ratings of each text are known, one rating of each of
the two texts is set apart and held against the mean of the others; the model is held against that same mean.
Raters of one text need not be those of the other, so a rating stands for a person drawn at random. Where
several annotators judged the same two texts, each of them is held against the majority of the others.

Shapes: ``N`` texts, ``P`` pairs, ``D`` draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from textrl.evaluation.reward_models.comparisons import Comparisons, Pairs
from textrl.evaluation.reward_models.orders import agreement
from textrl.evaluation.reward_models.resampling import Share, Shares
from textrl.evaluation.statistics import Floats

DRAWS = 16


@dataclass(frozen=True)
class Ceiling:
    """What people reach on these data, and the model beside them.

    Attributes:
        basis: ``ratings`` or ``annotators``.
        human: One person against the others.
        model: The model against the same others, on the same pairs.
        between: Two persons against each other, where both decide.
        annotators: How many are known by name; None where ratings have none.
    """

    basis: str
    human: Share
    model: Share
    between: Share
    annotators: int | None = None

    def plain(self) -> dict[str, object]:
        """Return a plain mapping for JSON."""
        return {
            "basis": self.basis,
            "annotators": self.annotators,
            "human": self.human.plain(),
            "model": self.model.plain(),
            "between": self.between.plain(),
        }


def ceiling(
    comparisons: Comparisons, scores: Floats, *, least: float = 0.0, seed: int = 0, resamples: int = 1000
) -> Ceiling | None:
    """Return people's agreement, or None where the data do not say.

    Args:
        comparisons: The data.
        scores: (N,) the model's.
        least: Smallest margin of the others' mean rating that decides a pair.
        seed: Of draws and resamples.
        resamples: Bootstrap resamples.
    """
    if comparisons.ratings:
        found = _from_ratings(
            comparisons.pairs, comparisons.ratings, scores, least=least, seed=seed, resamples=resamples
        )
        if found is not None or not comparisons.rankings:
            return found
    return _from_annotators(comparisons, scores, seed=seed, resamples=resamples)


def _from_ratings(
    pairs: Pairs,
    ratings: Sequence[tuple[float, ...]],
    scores: Floats,
    *,
    least: float,
    seed: int,
    resamples: int,
) -> Ceiling | None:
    """Set one rating of each text apart, `DRAWS` times."""
    size = np.array([len(one) for one in ratings])
    usable = (size[pairs.better] >= 2) & (size[pairs.worse] >= 2)
    if not usable.any():
        return None
    one, two = pairs.better[usable], pairs.worse[usable]
    table = np.zeros((len(ratings), int(size.max())))
    for index, single in enumerate(ratings):
        table[index, : len(single)] = single
    sums = table.sum(axis=1)
    rng = np.random.default_rng(seed)
    shape = (DRAWS, len(one))
    # A second rating, apart from the first, for the agreement of two persons.
    first = [np.floor(rng.random(shape) * size[ends]).astype(np.int64) for ends in (one, two)]
    step = [1 + np.floor(rng.random(shape) * (size[ends] - 1)).astype(np.int64) for ends in (one, two)]
    other = [(a + b) % size[ends] for a, b, ends in zip(first, step, (one, two), strict=True)]
    own = table[one, first[0]] - table[two, first[1]]  # (D, P)
    their = table[one, other[0]] - table[two, other[1]]
    rest = [
        (sums[ends] - table[ends, drawn]) / (size[ends] - 1)
        for ends, drawn in zip((one, two), first, strict=True)
    ]
    truth = rest[0] - rest[1]
    decided = (np.abs(truth) >= least - 1e-9) & (np.abs(truth) > 1e-9)
    both = (own != 0) & (their != 0)
    gap = scores[one] - scores[two]
    shares = Shares(pairs.first[usable], pairs.second[usable], seed=seed, resamples=resamples)
    _add_mean_over_draws(shares, "human", agreement(own * np.sign(truth)), decided)
    _add_mean_over_draws(shares, "model", agreement(gap * np.sign(truth)), decided)
    # Of the pairs that count above: two people agree more often the further the texts lie apart.
    _add_mean_over_draws(shares, "between", agreement(own * their), both & decided)
    return Ceiling("ratings", shares.get("human"), shares.get("model"), shares.get("between"))


def _add_mean_over_draws(shares: Shares, name: str, values: Floats, counted: Floats) -> None:
    weight = counted.astype(np.float64).mean(axis=0)
    total = (values * counted).mean(axis=0)
    shares.add(name, np.divide(total, weight, out=np.zeros_like(total), where=weight > 0), weight)


def _from_annotators(
    comparisons: Comparisons, scores: Floats, *, seed: int, resamples: int
) -> Ceiling | None:
    """Hold each annotator of a pair of texts against the majority of the others."""
    votes = _votes(comparisons)
    rows: dict[str, list[tuple[float, bool, int, int]]] = {"human": [], "model": [], "between": []}
    for (a, b), (said, first, second) in votes.items():
        if len(said) < 2:
            continue
        total = sum(said.values())
        for vote in said.values():
            others = np.sign(total - vote)
            if others != 0:
                # A person who ties is half right, as a model with equal scores is.
                rows["human"].append((0.5 * (1 + vote * others), True, first, second))
                model = float(agreement([(scores[a] - scores[b]) * others])[0])
                rows["model"].append((model, True, first, second))
        for one, two in combinations(said.values(), 2):
            rows["between"].append((float(one == two), one != 0 and two != 0, first, second))
    if not rows["between"]:
        return None
    found = {}
    for name, some in rows.items():
        values, counted, firsts, seconds = zip(*some, strict=True) if some else ((), (), (), ())
        shares = Shares(firsts, seconds, seed=seed, resamples=resamples)
        shares.add(name, values, counted)
        found[name] = shares.get(name)
    people = {ranking.annotator for ranking in comparisons.rankings} - {None}
    return Ceiling("annotators", found["human"], found["model"], found["between"], len(people))


def _votes(comparisons: Comparisons) -> Mapping[tuple[int, int], tuple[dict[str, float], int, int]]:
    """Return for every two texts who prefers the one of lower index (1), the other (-1) or neither (0).

    Somebody who judged two texts twice is counted once, by the sum.
    """
    pairs = comparisons.pairs
    found: dict[tuple[int, int], tuple[dict[str, float], int, int]] = {}
    rows = zip(
        pairs.better.tolist(),
        pairs.worse.tolist(),
        pairs.tie.tolist(),
        pairs.ranking.tolist(),
        pairs.first.tolist(),
        pairs.second.tolist(),
        strict=True,
    )
    for better, worse, tie, ranking, first, second in rows:
        who = comparisons.rankings[ranking].annotator
        if who is None or better == worse:
            continue
        key = (min(better, worse), max(better, worse))
        said, _, _ = found.setdefault(key, ({}, first, second))
        vote = 0.0 if tie else 1.0 if better < worse else -1.0
        said[who] = float(np.sign(said.get(who, 0.0) + vote))
    return found
