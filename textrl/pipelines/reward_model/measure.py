"""Accuracy of reward models on held-out pairs, with intervals, and what a single person reaches.

Pairs that share a text are not independent. So texts (or groups) are drawn with replacement, never
pairs (Efron & Tibshirani 1993, ch. 8). Shapes: ``N`` texts, ``G`` groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from textrl.data.preferences.rated import RatedCompletion
from textrl.data.rankings import RankingGroup
from textrl.evaluation.reward_models.reachable import reachable
from textrl.evaluation.reward_models.resampling import wilson
from textrl.evaluation.statistics import Interval

Floats = NDArray[np.float64]
_RESAMPLES = 1000


def rated_accuracy(scores: Floats, means: Floats, *, gap: float, seed: int = 0) -> tuple[Interval, int]:
    """Return the share of pairs in people's order, with its 95 % interval over texts, and the pairs.

    Args:
        scores: (N,) of the reward model; equal scores count half.
        means: (N,) mean ratings.
        gap: Pairs count whose means differ by this and more.
        seed: Of the resampling.
    """
    apart = means[:, None] - means[None, :]
    pairs = (apart >= gap - 1e-9) & (apart > 0)  # 2.2 - 1.2 is less than 1 in binary
    distance = scores[:, None] - scores[None, :]
    right = pairs * ((distance > 0) + 0.5 * (distance == 0))
    return _over_texts(right, pairs.astype(np.float64), seed), int(pairs.sum())


def rater_accuracy(texts: Sequence[RatedCompletion], *, gap: float, seed: int = 0) -> Interval:
    """Return how often one person's ratings order those pairs as the means of all do: the ceiling.

    For each of the two texts one rating is drawn from the ratings that it got; equal ones count half.
    The share is the mean over all draws, computed and not drawn. The person is part of the mean, which
    flatters them a little.

    Args:
        texts: With their single ratings.
        gap: Pairs count whose means differ by this and more.
        seed: Of the resampling.
    """
    means = np.array([text.mean for text in texts])
    apart = means[:, None] - means[None, :]
    pairs = (apart >= gap - 1e-9) & (apart > 0)
    levels = np.unique([rating for text in texts for rating in text.ratings])
    share = np.array(
        [[text.ratings.count(float(one)) / len(text.ratings) for one in levels] for text in texts]
    )
    below = np.cumsum(share, axis=1) - share  # P(rating < level)
    wins = share @ below.T + 0.5 * share @ share.T
    return _over_texts(wins * pairs, pairs.astype(np.float64), seed)


def group_accuracy(
    scores: Sequence[Sequence[float] | Floats], groups: Sequence[RankingGroup], *, seed: int = 0
) -> tuple[Interval, int, int]:
    """Return pair accuracy within groups, its 95 % interval over prompts, decided pairs and ties.

    Args:
        scores: G lists of K scores.
        groups: G groups; those of one prompt are drawn together.
        seed: Of the resampling.
    """
    tallies: dict[str, list[float]] = {}
    ties = 0
    for number, (own, group) in enumerate(zip(scores, groups, strict=True)):
        tally = tallies.setdefault(group.prompt if group.prompt.strip() else f"\0{number}", [0.0, 0.0])
        for i in range(len(own)):
            for j in range(i + 1, len(own)):
                order = np.sign(group.ranks[j] - group.ranks[i])
                if group.completions[i] == group.completions[j]:
                    continue  # no score tells a text from itself
                if order == 0:
                    ties += 1
                    continue
                tally[0] += 0.5 + 0.5 * float(np.sign(own[i] - own[j]) * order)
                tally[1] += 1
    right, decided = np.array(list(tallies.values())).T
    return _ratio(right, decided, seed), int(decided.sum()), ties


def order_ceiling(groups: Sequence[RankingGroup]) -> float:
    """Return the pair accuracy of the best scores there could be.

    People's pairs can contradict each other (A over B over C over A), and no score agrees with all of them;
    see `textrl.evaluation.reward_models.reachable`.

    Args:
        groups: G groups; NaN where none is decided, or where more texts of a prompt contradict each other
            than can be put in order.
    """
    places: dict[tuple[str, str], int] = {}
    decided: list[tuple[int, int]] = []
    for number, group in enumerate(groups):
        prompt = group.prompt if group.prompt.strip() else f"\0{number}"
        texts = [places.setdefault((prompt, text), len(places)) for text in group.completions]
        for i, j in permutations(range(len(texts)), 2):
            if group.ranks[i] < group.ranks[j] and texts[i] != texts[j]:
                decided.append((texts[i], texts[j]))
    if not decided:
        return float("nan")
    better, worse = np.array(decided, dtype=np.int64).T
    best = reachable(better, worse, np.ones(len(decided)))
    return float(best.right.mean()) if best.exact else float("nan")


def _over_texts(right: Floats, pairs: Floats, seed: int) -> Interval:
    """Bootstrap sum(right) / sum(pairs) of (N, N) matrices over texts."""
    value = float(right.sum() / pairs.sum()) if pairs.sum() else float("nan")
    draw, size, found = np.random.default_rng(seed), len(right), []
    for _ in range(_RESAMPLES // 50):
        # A text that was drawn twice is in twice as many pairs.
        times = draw.multinomial(size, np.full(size, 1 / size), size=50).astype(np.float64)
        upper, lower = ((times @ right) * times).sum(1), ((times @ pairs) * times).sum(1)
        found.append(upper[lower > 0] / lower[lower > 0])
    # As many independent pairs as texts could be dealt into.
    return _interval(value, np.concatenate(found), size / 2)


def _ratio(right: Floats, decided: Floats, seed: int) -> Interval:
    """Bootstrap sum(right) / sum(decided) of (G,) sums over prompts."""
    value = float(right.sum() / decided.sum()) if decided.sum() else float("nan")
    size = len(right)
    times = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=_RESAMPLES)
    upper, lower = times @ right, times @ decided
    return _interval(value, upper[lower > 0] / lower[lower > 0], float((decided > 0).sum()))


def _interval(value: float, drawn: Floats, trials: float) -> Interval:
    """Return the percentiles; where all draws agree, of which they would conclude certainty, Wilson's."""
    if not len(drawn):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(drawn, [0.025, 0.975])
    if high - low < 1e-12:
        low, high = wilson(value * trials, trials)
    return Interval(value, float(low), float(high))
