"""What is measured beside the accuracy: shortcuts, length, whole rankings, distributions, mistakes.

Functions that begin with ``ask`` add figures to `Shares`, which resamples all of them together; their
partners read the answers. Shapes: ``N`` texts, ``P`` pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textrl.evaluation.reward_models import orders, shortcuts
from textrl.evaluation.reward_models.comparisons import Bools, Comparisons, Text
from textrl.evaluation.reward_models.reachable import Reachable, reachable
from textrl.evaluation.reward_models.resampling import Ints, Shares
from textrl.evaluation.statistics import Floats

_BARS, _EXAMPLES, _CLIP = 30, 6, 600


def ask_shortcuts(
    shares: Shares, comparisons: Comparisons, scores: Floats, measures: Mapping[str, Floats]
) -> None:
    """Ask how often people, and how often the model, prefer the text with more of each measure."""
    pairs = comparisons.pairs
    gap = scores[pairs.better] - scores[pairs.worse]
    for name in shortcuts.MEASURES:
        difference = measures[name][pairs.better] - measures[name][pairs.worse]
        _ask_shortcut(shares, name, gap, difference, pairs.decided & (difference != 0))
    shown = pairs.decided & np.isfinite(pairs.earlier)
    # In a file that is sorted from best to worst the order is people's verdict and no position on a page.
    if shown.any() and 0 < pairs.earlier[shown].mean() < 1:
        _ask_shortcut(shares, "shown earlier", gap, 2 * pairs.earlier - 1, shown)


def _ask_shortcut(shares: Shares, name: str, gap: Floats, difference: Floats, counted: Bools) -> None:
    people = (difference > 0).astype(np.float64)
    model = orders.agreement(gap * np.sign(difference))
    shares.add(f"{name}: people", people, counted)
    shares.add(f"{name}: model", model, counted)
    shares.add(f"{name}: excess", model - people, counted, difference=True)


def shortcut_rows(
    shares: Shares, comparisons: Comparisons, scores: Floats, measures: Mapping[str, Floats]
) -> list[dict[str, Any]]:
    """Return a row for each measure: people's share, the model's, its excess, and the correlation."""
    prompts = _prompts(comparisons.texts)
    rows = []
    for name in (*shortcuts.MEASURES, "shown earlier"):
        if f"{name}: people" not in shares:
            continue
        people, model, excess = (shares.get(f"{name}: {part}") for part in ("people", "model", "excess"))
        known = name in measures
        rows.append({
            "measure": name,
            "people": people.plain(),
            "model": model.plain(),
            "excess": excess.plain(),
            "correlation": finite(shortcuts.correlation(scores, measures[name], prompts)) if known else None,
        })  # fmt: skip
    return rows


def _prompts(texts: Sequence[Text]) -> Ints:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text.prompt, len(numbers)) for text in texts])


def ask_length(
    shares: Shares, comparisons: Comparisons, scores: Floats, measures: Mapping[str, Floats]
) -> dict[str, Any]:
    """Ask for accuracies that length explains, and for those that it does not."""
    pairs = comparisons.pairs
    gap = scores[pairs.better] - scores[pairs.worse]
    longer = measures["log length"][pairs.better] - measures["log length"][pairs.worse]
    right, decided = orders.agreement(gap), pairs.decided
    shares.add("length alone", orders.agreement(longer), decided)
    shares.add("when longer", right, decided & (longer > 0))
    shares.add("when shorter", right, decided & (longer < 0))
    shares.add_mean("balanced", "when longer", "when shorter")
    words = measures["words"]
    shares.add("alike", right, decided & shortcuts.alike_in_length(words[pairs.better], words[pairs.worse]))
    rest, slope = shortcuts.without(gap[decided], longer[decided])
    left = np.zeros(len(gap))
    left[decided] = rest
    shares.add("residual", orders.agreement(left), decided)
    spread = float(gap[decided].std())
    return {"slope": slope * math.log(2) / spread if spread > 0 else 0.0}


def length_rows(shares: Shares, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `ask_length` asked for."""
    names = ("length alone", "when longer", "when shorter", "balanced", "alike", "residual")
    found = {name.replace(" ", "_"): shares.get(name).plain() for name in names}
    # In standard deviations of the gaps, for a text of twice the length.
    return {**found, "gap_for_twice_the_length": asked["slope"]}


def ask_reachable(shares: Shares, comparisons: Comparisons, measures: Mapping[str, Floats]) -> Reachable:
    """Ask for the accuracy, and the length-balanced one, of the best scores that there could be."""
    pairs = comparisons.pairs
    decided = pairs.decided
    best = reachable(pairs.better, pairs.worse, decided.astype(np.float64))
    shares.add("reachable", best.right, decided)
    longer = measures["log length"][pairs.better] - measures["log length"][pairs.worse]
    sides = [decided & (longer > 0), decided & (longer < 0)]
    # Both sides weigh the same in the balanced accuracy, so its best order is another one.
    weight = np.sum([side / max(int(side.sum()), 1) for side in sides], axis=0)
    balanced = reachable(pairs.better, pairs.worse, weight)
    for name, side in zip(("longer", "shorter"), sides, strict=True):
        shares.add(f"reachable when {name}", balanced.right, side)
    shares.add_mean("reachable balanced", "reachable when longer", "reachable when shorter")
    return best


def reachable_rows(shares: Shares, comparisons: Comparisons, best: Reachable) -> dict[str, Any]:
    """Return what `ask_reachable` asked for, and how many pairs and prompts are contradicted."""
    against = best.contradicted
    prompts = {comparisons.texts[index].prompt for index in comparisons.pairs.better[against].tolist()}
    return {
        "accuracy": shares.get("reachable").plain(),
        "balanced": shares.get("reachable balanced").plain(),
        "contradicted_pairs": int(against.sum()),
        "contradicted_prompts": len(prompts),
        "exact": best.exact,
    }


def kwise(comparisons: Comparisons, scores: Floats, *, seed: int, resamples: int) -> dict[str, Any] | None:
    """Kendall's tau-b and top-1 of rankings of three and more; None where there are none."""
    kept = [ranking for ranking in comparisons.rankings if len(ranking.texts) > 2]
    if not kept:
        return None
    firsts = {int(r): int(c) for r, c in zip(comparisons.pairs.ranking, comparisons.pairs.first, strict=True)}
    clusters = [firsts[i] for i, ranking in enumerate(comparisons.rankings) if len(ranking.texts) > 2]
    tau, best, chance = [], [], []
    for ranking in kept:
        mine = scores[list(ranking.texts)]
        tau.append(orders.kendall_tau_b(mine, ranking.ranks))
        best.append(orders.top_1(mine, ranking.ranks))
        chance.append(orders.top_1_by_chance(ranking.ranks))
    decided = np.isfinite(best)
    # Where the model ties everything it orders nothing: neither concordant nor discordant.
    taus = np.where(decided & ~np.isfinite(tau), 0.0, tau)
    shares = Shares(clusters, seed=seed, resamples=resamples)
    shares.add("tau", taus, decided, difference=True)
    shares.add("top 1", best, decided)
    shares.add("chance", chance, decided)
    return {
        "rankings": len(kept),
        "all_tied": int((~decided).sum()),
        "model_ties_all": int((decided & ~np.isfinite(tau)).sum()),
        "tau_b": shares.get("tau").plain(),
        "top_1": shares.get("top 1").plain(),
        "top_1_by_chance": shares.get("chance").plain()["value"],
    }


def distribution(comparisons: Comparisons, scores: Floats) -> dict[str, Any]:
    """Return how scores and gaps are spread, and a histogram of the sides of decided pairs."""
    pairs = comparisons.pairs
    decided = pairs.decided
    gap = scores[pairs.better] - scores[pairs.worse]
    low, high = (float(v) for v in np.quantile(scores, [0.001, 0.999]))
    edges = np.linspace(low, high, _BARS + 1) if high > low else np.array([low - 0.5, low + 0.5])
    counts = {
        name: np.histogram(np.clip(scores[ends[decided]], edges[0], edges[-1]), edges)[0].tolist()
        for name, ends in (("better", pairs.better), ("worse", pairs.worse))
    }
    return {
        "all": _summary(scores),
        "better": _summary(scores[pairs.better[decided]]),
        "worse": _summary(scores[pairs.worse[decided]]),
        "gap": _summary(gap[decided]),
        "tied_gap": _summary(np.abs(gap[pairs.tie])) if pairs.tie.any() else None,
        "decided_gap": _summary(np.abs(gap[decided])),
        "different": len(np.unique(scores)),
        "histogram": {"edges": edges.tolist(), **counts},
    }


def _summary(values: Floats) -> dict[str, float]:
    names = ("least", "q05", "q25", "median", "q75", "q95", "greatest")
    found = np.quantile(values, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
    return {
        "mean": float(values.mean()),
        "sd": float(values.std()),
        **dict(zip(names, found.tolist(), strict=True)),
    }


def mistakes(comparisons: Comparisons, scores: Floats) -> list[dict[str, Any]]:
    """Return the pairs that the model orders wrongly with the largest gaps, one of each prompt and text."""
    pairs = comparisons.pairs
    gap = np.where(pairs.decided, scores[pairs.better] - scores[pairs.worse], np.inf)
    rows: list[dict[str, Any]] = []
    seen: set[int] = set()
    for index in np.argsort(gap, kind="stable").tolist():
        if gap[index] >= 0 or len(rows) == _EXAMPLES:
            break
        ends = {int(pairs.first[index]), int(pairs.second[index])}
        if ends & seen:
            continue
        seen |= ends
        better, worse = (comparisons.texts[int(side[index])] for side in (pairs.better, pairs.worse))
        rows.append({
            "prompt": better.prompt[:_CLIP],
            "better": better.completion[:_CLIP],
            "worse": worse.completion[:_CLIP],
            "score_better": float(scores[pairs.better[index]]),
            "score_worse": float(scores[pairs.worse[index]]),
            "margin": finite(float(pairs.margin[index])),
        })  # fmt: skip
    return rows


def finite(value: float) -> float | None:
    """Return a number that JSON can say, else None."""
    return value if math.isfinite(value) else None
