"""What people said, as texts and pairs of texts: the ground on which a reward model is evaluated.

`textrl.evaluation.reward_models.reading` reads them. Rated texts are compared with each other here. Every
text is kept once, so that it is scored once and ties with itself exactly.

Shapes: ``N`` texts, ``P`` pairs, ``K`` texts of a ranking.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from textrl.errors import UserError, did_you_mean
from textrl.evaluation.reward_models.drawing import draw_pairs, draw_rankings
from textrl.evaluation.reward_models.resampling import Ints
from textrl.evaluation.reward_models.texts import Text as Text
from textrl.evaluation.reward_models.texts import TextTable as TextTable
from textrl.evaluation.statistics import Floats

Bools = NDArray[np.bool_]
MarginKind = Literal["rating", "margin", "rank", ""]


@dataclass(frozen=True)
class Ranking:
    """What one person (or the mean of several) said about K texts.

    Attributes:
        texts: K indices of texts.
        ranks: K numbers; smaller is better, equal is a tie.
        annotator: Who, where known.
        margin: How much better, for K = 2; None where unknown.
        ratings: K ratings behind the ranks, or empty.
        shown: Whether the order of the texts is that in which the file lists them without regard to what
            is better; False for pairs, which name the better one first.
        columns: Other columns of the record, as text.
    """

    texts: tuple[int, ...]
    ranks: tuple[float, ...]
    annotator: str | None = None
    margin: float | None = None
    ratings: tuple[float, ...] = ()
    shown: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of texts in which people decided, or tied.

    Attributes:
        better: (P,) index of the better text; of either where they tie.
        worse: (P,).
        tie: (P,) bool.
        margin: (P,) how much better, >= 0; NaN where unknown.
        first: (P,) cluster of one end; see `textrl.evaluation.reward_models.resampling`.
        second: (P,) cluster of the other.
        ranking: (P,) index of the ranking; -1 for pairs of rated texts.
        earlier: (P,) 1 where the better text stands before the worse one, 0 where after, NaN where the file
            does not say.
    """

    better: Ints
    worse: Ints
    tie: Bools
    margin: Floats
    first: Ints
    second: Ints
    ranking: Ints
    earlier: Floats

    @property
    def decided(self) -> Bools:
        """(P,) bool."""
        return ~self.tie

    def __len__(self) -> int:
        return len(self.better)


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Everything that is known about a set of texts.

    Attributes:
        source: The file, for the page.
        texts: N texts, each once.
        rankings: Empty where texts were rated and prompts have one text each.
        pairs: All pairs, or a random part of them.
        ratings: N tuples of single ratings; empty where there are none.
        margin_kind: What `Pairs.margin` is.
        possible: How many pairs there were to draw from.
        notes: Sentences about what was done with the data.
        differing: Columns in which records of one and the same text differ.
    """

    source: str
    texts: tuple[Text, ...]
    rankings: tuple[Ranking, ...]
    pairs: Pairs
    ratings: tuple[tuple[float, ...], ...] = ()
    margin_kind: MarginKind = ""
    possible: int = 0
    notes: tuple[str, ...] = ()
    differing: tuple[str, ...] = ()

    def column(self, name: str) -> list[str | None]:
        """Return the (P,) values of a column of the records; the annotator counts as one.

        Raises:
            UserError: When no record has the column.
        """
        known = {key for ranking in self.rankings for key in ranking.columns}
        if any(ranking.annotator is not None for ranking in self.rankings):
            known.add("annotator")
        if name not in known:
            hint = did_you_mean(name, known) if known else " Its records have no further columns."
            raise UserError(f"{self.source}: no record has a column '{name}' to evaluate by.{hint}")
        values = [
            ranking.annotator if name == "annotator" else ranking.columns.get(name)
            for ranking in self.rankings
        ]
        return [values[index] if index >= 0 else None for index in self.pairs.ranking.tolist()]


def from_rankings(
    source: str,
    table: TextTable,
    rankings: Sequence[Ranking],
    *,
    least: float = 0.0,
    most_pairs: int = 50_000,
    seed: int = 0,
    notes: Iterable[str] = (),
) -> Comparisons:
    """Take every ranking apart into its pairs.

    Args:
        source: Where they come from.
        table: Holds their texts.
        rankings: What people said.
        least: A pair whose ratings or margin are known and differ by less counts as a tie.
        most_pairs: Of more, a random part is kept, whole rankings at a time.
        seed: Of that part.
        notes: Sentences to pass on.

    Raises:
        UserError: When there is no pair.
    """
    possible = sum(len(r.texts) * (len(r.texts) - 1) // 2 for r in rankings)
    kept, said = list(rankings), list(notes)
    if possible > most_pairs:
        drawn = draw_rankings([len(ranking.texts) for ranking in rankings], most_pairs, seed)
        kept = [rankings[index] for index in drawn]
        said.append(f"Of {len(rankings):,} rankings, {len(kept):,} were drawn at random (--pairs).")
    texts = table.texts()
    prompts = _clusters_of_prompts(texts)
    rows = [row for index, ranking in enumerate(kept) for row in _pairs_of(index, ranking, least)]
    if not rows:
        raise UserError(f"{source}: there is no pair of texts to compare; give pairs, rankings or ratings.")
    pairs = _pack(rows, prompts)
    return Comparisons(
        source=source,
        texts=texts,
        rankings=tuple(kept),
        pairs=pairs,
        margin_kind=_kind(kept),
        possible=possible,
        notes=(*said, _resampled(pairs)),
        differing=tuple(sorted(table.differing)),
    )


def from_ratings(
    source: str,
    table: TextTable,
    ratings: Sequence[Sequence[float]],
    *,
    least: float = 0.0,
    most_pairs: int = 50_000,
    seed: int = 0,
    notes: Iterable[str] = (),
    rankings: Sequence[Ranking] = (),
) -> Comparisons:
    """Compare rated texts: those of one prompt with each other, or all where no prompt has two.

    Args:
        source: Where they come from.
        table: Holds the N texts.
        ratings: N sequences of single ratings, empty for a text that is only ranked.
        least: Smallest difference of mean ratings that decides a pair; the others are ties.
        most_pairs: Of more, a random part is kept.
        seed: Of that part.
        notes: Sentences to pass on.
        rankings: What people said in other records. With any, rated texts are compared within prompts only.

    Raises:
        UserError: When fewer than two texts are rated.
    """
    texts, single = table.texts(), tuple(tuple(map(float, one)) for one in ratings)
    if len(texts) < 2:
        raise UserError(f"{source}: only {len(texts)} text is rated; a comparison needs two.")
    means = np.array([float(np.mean(one)) if one else math.nan for one in single])
    by_prompt: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        if single[index]:
            by_prompt.setdefault(text.prompt, []).append(index)
    if rankings or (len(by_prompt) > 1 and any(len(some) > 1 for some in by_prompt.values())):
        own = [
            Ranking(tuple(some), tuple((-means[some]).tolist()), ratings=tuple(means[some].tolist()))
            for some in by_prompt.values()
            if len(some) > 1
        ]
        lonely = sum(len(some) == 1 for some in by_prompt.values())
        said = [*notes, *([f"{lonely:,} prompts with one text each are left out."] if lonely else [])]
        found = from_rankings(
            source, table, [*rankings, *own], least=least, most_pairs=most_pairs, seed=seed, notes=said
        )
        return replace(found, ratings=single)
    possible = len(texts) * (len(texts) - 1) // 2
    pairs = _across(means, least, most_pairs, seed)
    said = list(notes)
    if len(pairs) < possible:
        said.append(f"Of {possible:,} pairs of texts, {len(pairs):,} were drawn at random (--pairs).")
    said.append(_resampled(pairs))
    differing = tuple(sorted(table.differing))
    return Comparisons(source, texts, (), pairs, single, "rating", possible, tuple(said), differing)


def _across(means: Floats, least: float, most_pairs: int, seed: int) -> Pairs:
    """Compare rated texts with each other, whatever their prompts; each is a cluster of its own."""
    one, two = draw_pairs(len(means), most_pairs, seed)
    gap = means[one] - means[two]
    size = np.abs(gap)
    swap = gap < 0
    return Pairs(
        better=np.where(swap, two, one),
        worse=np.where(swap, one, two),
        tie=(size < least - 1e-9) | (size == 0),
        margin=size,
        first=one,
        second=two,
        ranking=np.full(len(one), -1),
        earlier=np.full(len(one), np.nan),
    )


def _pairs_of(index: int, ranking: Ranking, least: float) -> Iterable[tuple[Any, ...]]:
    """Yield (better, worse, tie, margin, ranking, earlier)."""
    for i, j in combinations(range(len(ranking.texts)), 2):
        a, b = (i, j) if ranking.ranks[i] <= ranking.ranks[j] else (j, i)
        tie = ranking.ranks[a] == ranking.ranks[b]
        margin = known = math.nan  # the latter is what `least` is compared with
        if ranking.ratings:
            margin = known = abs(ranking.ratings[a] - ranking.ratings[b])
        elif ranking.margin is not None and len(ranking.texts) == 2:
            margin = known = ranking.margin
        elif len(ranking.texts) > 2:
            margin = ranking.ranks[b] - ranking.ranks[a]
        earlier = float(a < b) if ranking.shown else math.nan
        tied = tie or known < least - 1e-9
        yield ranking.texts[a], ranking.texts[b], tied, margin, index, earlier


def _pack(rows: Sequence[tuple[Any, ...]], prompts: Ints) -> Pairs:
    better, worse, tie, margin, ranking, earlier = zip(*rows, strict=True)
    one, two = np.array(better), np.array(worse)
    return Pairs(
        better=one,
        worse=two,
        tie=np.array(tie, dtype=np.bool_),
        margin=np.array(margin, dtype=np.float64),
        first=prompts[one],
        second=prompts[two],
        ranking=np.array(ranking),
        earlier=np.array(earlier, dtype=np.float64),
    )


def _clusters_of_prompts(texts: Sequence[Text]) -> Ints:
    """Return (N,) clusters: the prompt, or the text where prompts say nothing (all equal, or empty)."""
    prompts = {text.prompt: i for i, text in enumerate(reversed(texts))}
    alike = len(prompts) == 1
    # Texts are numbered from 0 and prompts below them, so that the two cannot be confused.
    return np.array([
        i if alike or not text.prompt.strip() else -1 - prompts[text.prompt] for i, text in enumerate(texts)
    ])  # fmt: skip


def _resampled(pairs: Pairs) -> str:
    units = len(np.unique(np.concatenate([pairs.first, pairs.second])))
    what = "prompts" if bool((pairs.first < 0).all()) else "texts"
    return f"Intervals are for other {what} of this kind: {units:,} {what} are what is drawn again."


def _kind(rankings: Sequence[Ranking]) -> MarginKind:
    if any(ranking.ratings for ranking in rankings):
        return "rating"
    if any(ranking.margin is not None for ranking in rankings):
        return "margin"
    return "rank" if any(len(ranking.texts) > 2 for ranking in rankings) else ""
