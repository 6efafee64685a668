"""Everything that is measured about one scorer on one set of comparisons, as a plain nested mapping.

Shapes: ``N`` texts, ``P`` pairs, ``G`` rankings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from textrl.errors import UserError
from textrl.evaluation.reward_models import aspects, calibration, orders, shortcuts
from textrl.evaluation.reward_models.ceiling import ceiling
from textrl.evaluation.reward_models.combining import combined, in_words
from textrl.evaluation.reward_models.comparisons import Comparisons
from textrl.evaluation.reward_models.resampling import Shares
from textrl.evaluation.statistics import Floats, pearson

SCHEMA = 1
#: Groups of a column that are shown; the largest come first.
MOST_GROUPS = 40
_MARGIN_BINS = 6


@dataclass(frozen=True, eq=False)
class Scored:
    """A scorer's answer.

    Attributes:
        name: Of the scorer.
        about: What it is.
        scores: (N,).
    """

    name: str
    about: str
    scores: Floats


@dataclass(frozen=True)
class Options:
    """How to measure.

    Attributes:
        by: Columns of the records whose values get an accuracy each.
        groups: Annotator -> group, which gets an accuracy too.
        least: Smallest margin of ratings that decides a pair.
        combine: How an ensemble's scores become one; see `textrl.evaluation.reward_models.combining`.
        pessimism: Standard deviations that ``pessimistic`` subtracts.
        seed: Of resamples and simulations.
        resamples: Bootstrap resamples.
    """

    by: Sequence[str] = ()
    groups: Mapping[str, str] | None = None
    least: float = 0.0
    combine: str = "mean"
    pessimism: float = 1.0
    seed: int = 0
    resamples: int = 1000


def evaluate(
    comparisons: Comparisons,
    members: Sequence[Scored],
    beside: Sequence[Scored] = (),
    options: Options | None = None,
) -> dict[str, Any]:
    """Measure a scorer, or an ensemble of several.

    Args:
        comparisons: What people said.
        members: One scorer, or the members of an ensemble, each with N scores.
        beside: Scorers to compare it with.
        options: See `Options`.

    Returns:
        What `docs/reward_evaluation.md` describes; None stands for what the data do not say.

    Raises:
        UserError: When people decided no pair.
    """
    options = options if options is not None else Options()
    _refuse_ties(comparisons, options)
    pairs = comparisons.pairs
    scores = combined([one.scores for one in members], options.combine, options.pessimism)
    shares = Shares(pairs.first, pairs.second, seed=options.seed, resamples=options.resamples)
    right = orders.agreement(scores[pairs.better] - scores[pairs.worse])
    shares.add("accuracy", right, pairs.decided)
    groups = _ask_groups(shares, comparisons, right, options)
    margins = _ask_margins(shares, comparisons, right)
    measures = shortcuts.measured(comparisons.texts)
    aspects.ask_shortcuts(shares, comparisons, scores, measures)
    length = aspects.ask_length(shares, comparisons, scores, measures)
    best = aspects.ask_reachable(shares, comparisons, measures)
    for number, one in enumerate([*members, *beside]):
        _ask_other(shares, comparisons, scores, one, number)
    calibrated = _calibrated(shares, comparisons, scores, right, options.seed)
    people = ceiling(comparisons, scores, least=options.least, seed=options.seed, resamples=options.resamples)
    return {
        "schema": SCHEMA,
        "model": _model(members, scores, options, shares),
        "data": _data(comparisons, options),
        "accuracy": shares.get("accuracy").plain(),
        "reachable": aspects.reachable_rows(shares, comparisons, best),
        "ceiling": None if people is None else people.plain(),
        "by": {
            column: [{"name": name, "accuracy": shares.get(key).plain()} for name, key in some]
            for column, some in groups.items()
        },
        "margins": [
            {"low": low, "high": high, "accuracy": shares.get(key).plain()} for low, high, key in margins
        ],
        "kwise": aspects.kwise(comparisons, scores, seed=options.seed, resamples=options.resamples),
        "calibration": calibrated,
        "length": aspects.length_rows(shares, length),
        "shortcuts": aspects.shortcut_rows(shares, comparisons, scores, measures),
        "scores": aspects.distribution(comparisons, scores),
        "beside": [
            _other(shares, scores, one, number) for number, one in enumerate(beside, start=len(members))
        ],
        "mistakes": aspects.mistakes(comparisons, scores),
    }


def _refuse_ties(comparisons: Comparisons, options: Options) -> None:
    """Refuse data without any order."""
    pairs = comparisons.pairs
    if not pairs.decided.any():
        least = f" at a margin of {options.least:g}" if options.least else ""
        raise UserError(
            f"{comparisons.source}: all of the {len(pairs):,} pairs are ties{least}, so there is no order to "
            "compare with; give pairs that differ."
        )


def _calibrated(
    shares: Shares, comparisons: Comparisons, scores: Floats, right: Floats, seed: int
) -> dict[str, Any]:
    """Return the calibration, with an interval of every bin that respects prompts."""
    pairs = comparisons.pairs
    where = np.flatnonzero(pairs.decided)
    gaps = scores[pairs.better[where]] - scores[pairs.worse[where]]
    found = calibration.calibration(gaps, seed=seed)
    assert found is not None  # some pair is decided
    plain = found.plain()
    bins = [asdict(one) for one in found.bins]
    for number, part in enumerate(calibration.members(gaps, calibration.how_many(len(gaps)))):
        inside = np.zeros(len(pairs), dtype=np.bool_)
        inside[where[part]] = True
        shares.add(f"bin {number}", right, inside)
    for number, one in enumerate(bins):
        share = shares.get(f"bin {number}")
        one |= {"accuracy_lo": share.lo, "accuracy_hi": share.hi}
    return {**plain, "bins": bins}


def _model(members: Sequence[Scored], scores: Floats, options: Options, shares: Shares) -> dict[str, Any]:
    if len(members) == 1:
        return {"name": members[0].name, "about": members[0].about, "members": []}
    spread = np.stack([one.scores for one in members]).std(axis=0, ddof=1)
    return {
        "name": f"ensemble of {len(members)}",
        "about": f"{in_words(options.combine, options.pessimism)} of {len(members)} models",
        "members": [_other(shares, scores, one, number) for number, one in enumerate(members)],
        "combine": options.combine,
        "pessimism": options.pessimism if options.combine == "pessimistic" else None,
        # Of what texts differ by at all: members that agree tell texts apart better than each other.
        "disagreement": float(spread.mean() / scores.std()) if scores.std() > 0 else None,
    }


def _data(comparisons: Comparisons, options: Options) -> dict[str, Any]:
    pairs, rankings = comparisons.pairs, comparisons.rankings
    sizes = [len(ranking.texts) for ranking in rankings]
    people = {ranking.annotator for ranking in rankings} - {None}
    return {
        "source": comparisons.source,
        "texts": len(comparisons.texts),
        "prompts": len({text.prompt for text in comparisons.texts}),
        "rankings": len(rankings),
        "k": [min(sizes), max(sizes)] if sizes else None,
        "annotators": len(people),
        "pairs": len(pairs),
        "decided": int(pairs.decided.sum()),
        "ties": int(pairs.tie.sum()),
        "possible_pairs": comparisons.possible,
        "same_text": int((pairs.better == pairs.worse).sum()),
        "margin": comparisons.margin_kind or None,
        "least_margin": options.least,
        "seed": options.seed,
        "resamples": options.resamples,
        "notes": list(comparisons.notes),
    }


def _ask_groups(
    shares: Shares, comparisons: Comparisons, right: Floats, options: Options
) -> dict[str, list[tuple[str, str]]]:
    """Ask for the accuracy of every group; returns column -> (group, key of its figure)."""
    columns = {name: comparisons.column(name) for name in dict.fromkeys(options.by)}
    if options.groups is not None:
        people = comparisons.column("annotator")
        known = options.groups
        columns["annotator group"] = [
            None if who is None else known.get(who, "(in no group)") for who in people
        ]
    asked: dict[str, list[tuple[str, str]]] = {}
    decided = comparisons.pairs.decided
    for column, values in columns.items():
        found = np.array(["(none)" if value is None else value for value in values])
        names, counts = np.unique(found[decided], return_counts=True)
        order = np.argsort(-counts, kind="stable")[:MOST_GROUPS]
        asked[column] = []
        for name in names[order].tolist():
            key = f"by {column} {name}"
            shares.add(key, right, decided & (found == name))
            asked[column].append((name, key))
    return asked


def _ask_margins(shares: Shares, comparisons: Comparisons, right: Floats) -> list[tuple[float, float, str]]:
    """Ask for the accuracy of pairs of like margin; returns (least, greatest, key)."""
    pairs = comparisons.pairs
    known = pairs.decided & np.isfinite(pairs.margin)
    values = np.unique(pairs.margin[known])
    if len(values) < 2:
        return []
    if len(values) <= _MARGIN_BINS:
        bounds = [(float(value), float(value)) for value in values]
    else:
        cuts = np.unique(np.quantile(pairs.margin[known], np.linspace(0, 1, _MARGIN_BINS + 1)))
        inner = [float(np.nextafter(cut, -np.inf)) for cut in cuts[1:-1]]
        bounds = list(zip(cuts[:-1].tolist(), [*inner, float(cuts[-1])], strict=True))
    asked = []
    for number, (low, high) in enumerate(bounds):
        inside = known & (pairs.margin >= low) & (pairs.margin <= high)
        if inside.any():
            shares.add(f"margin {number}", right, inside)
            asked.append((low, high, f"margin {number}"))
    return asked


def _ask_other(shares: Shares, comparisons: Comparisons, scores: Floats, one: Scored, number: int) -> None:
    pairs = comparisons.pairs
    gap, other = (values[pairs.better] - values[pairs.worse] for values in (scores, one.scores))
    right, theirs = orders.agreement(gap), orders.agreement(other)
    shares.add(f"{number} accuracy", theirs, pairs.decided)
    shares.add(f"{number} difference", right - theirs, pairs.decided, difference=True)
    distinct = pairs.better != pairs.worse
    shares.add(f"{number} agreement", orders.agreement(gap * np.sign(other)), distinct)


def _other(shares: Shares, scores: Floats, one: Scored, number: int) -> dict[str, Any]:
    return {
        "name": one.name,
        "about": one.about,
        "accuracy": shares.get(f"{number} accuracy").plain(),
        "difference": shares.get(f"{number} difference").plain(),
        "agreement": shares.get(f"{number} agreement").plain(),
        "correlation": aspects.finite(pearson(scores, one.scores)),
    }
