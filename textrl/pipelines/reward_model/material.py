"""The groups that a reward model learns from and is measured on; no prompt is in two parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textrl.data.preferences.rated import RatedCompletion
from textrl.data.rankings import RankingGroup, groups_from_ratings, read_rankings
from textrl.data.ratings import Rated, SplitSizes, load_ratings, movie_splits
from textrl.data.records import read_records
from textrl.errors import UserError
from textrl.pipelines.reward_model.settings import PreferenceData
from textrl.reward_model import LossName, RatedGroup
from textrl.sft import SFTExample


@dataclass(frozen=True)
class Material:
    """What a run works on.

    Attributes:
        train: Groups to learn from.
        validation: Groups to stop early and to choose a penalty by.
        test: Groups for the figures.
        test_texts: The single rated texts of the test part; empty where the source has none.
        demonstrations: Texts whose mean score becomes 0; may be empty.
    """

    train: Sequence[RankingGroup]
    validation: Sequence[RankingGroup]
    test: Sequence[RankingGroup]
    test_texts: Sequence[Rated]
    demonstrations: Sequence[SFTExample]


def gather(data: PreferenceData, losses: Sequence[LossName]) -> Material:
    """Fetch, make or read the preferences and part them; a function of the settings.

    Args:
        data: Of the config.
        losses: Of all arms: whether ratings are read as such depends on them.

    Raises:
        UserError: When a file cannot be used, or there is too little.
    """
    if data.source == "file":
        assert data.train is not None  # the settings say so
        return _from_files(data, losses)
    splits = _splits(data)
    rounds = {"rm": data.rounds, "judge": 1, "rm_test": 1}
    dealt = {name: rated_groups(splits[name], data, times) for name, times in rounds.items()}
    return Material(dealt["rm"], dealt["judge"], dealt["rm_test"], splits["rm_test"], _demonstrations(data))


def _splits(data: PreferenceData) -> dict[str, list[Rated]]:
    """Part the rated texts; near duplicates stay together."""
    sizes = SplitSizes(
        sft=0, rm=data.sizes.train, rm_test=data.sizes.test, judge=data.sizes.validation, judge_test=0,
        prompts_test=0,
    )  # fmt: skip
    if data.source == "made":
        from textrl.data.made import made_reviews

        # A grammar repeats its phrases, and what begins alike stays together: a few are left over.
        made = made_reviews(sum(vars(sizes).values()) + 500, data.seed)
        return movie_splits(data.seed, sizes=sizes, snippets=made, shingle=100)
    return movie_splits(data.seed, sizes=sizes, snippets=load_ratings(data.domain))


def rated_groups(texts: Sequence[Rated], data: PreferenceData, rounds: int) -> list[RankingGroup]:
    """Deal rated texts into groups of K that keep the ratings beside the ranks."""
    means = {text.text: text.mean for text in texts}
    dealt = groups_from_ratings(
        texts, min(data.k, len(texts)), data.seed, tie_margin=data.tie_margin, rounds=rounds
    )
    return [
        RatedGroup(
            group.prompt, group.completions, group.ranks, ratings=tuple(means[t] for t in group.completions)
        )
        for group in dealt
    ]


def _from_files(data: PreferenceData, losses: Sequence[LossName]) -> Material:
    groups = _read(str(data.train), losses)
    shares = [data.validation_share, data.test_share if data.test is None else 0.0]
    train, validation, test = split_by_prompt(groups, shares, data.seed)
    if data.test is not None:
        test = _read(data.test, losses)
        known = _keys([*train, *validation])
        both = [group for group in test if _keys([group]) & known]
        if both:
            raise UserError(
                f"{data.test}: {len(both)} of the {len(test)} groups have a prompt that stands in "
                f"{data.train} too, so accuracy would be measured on what was learned; split them by prompt."
            )
    if not (train and validation and test):
        raise UserError(
            f"{data.train}: {len(groups)} groups are too few for training, validation and test; give more."
        )
    return Material(train, validation, test, (), _demonstrations(data))


def _read(source: str, losses: Sequence[LossName]) -> list[RankingGroup]:
    """Read rankings, or for ``regression`` ratings."""
    if set(losses) != {"regression"}:
        return read_rankings(source)
    from textrl.data.preferences.rated import read_ratings

    together: dict[tuple[str, str], list[RatedCompletion]] = {}
    for number, entry in enumerate(read_ratings(source)):
        # Texts without a prompt or a group have nothing in common.
        key = (entry.group or ("" if entry.prompt.strip() else str(number)), entry.prompt)
        together.setdefault(key, []).append(entry)
    return [
        RatedGroup(
            prompt,
            tuple(entry.completion for entry in entries),
            tuple(-entry.mean for entry in entries),
            ratings=tuple(entry.mean for entry in entries),
        )
        for (_, prompt), entries in together.items()
    ]


def split_by_prompt(
    groups: Sequence[RankingGroup], shares: Sequence[float], seed: int
) -> tuple[list[RankingGroup], ...]:
    """Part groups so that no prompt, and no group without one's text, is on two sides.

    Args:
        groups: Of any prompts.
        shares: Of the prompts that the parts after the first get; the first gets the rest.
        seed: Of the draw.

    Returns:
        One list more than there are shares, each in the order of `groups`.
    """
    owner: dict[str, int] = {}
    parent = list(range(len(groups)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for index, group in enumerate(groups):
        for key in _keys([group]):
            first, second = root(owner.setdefault(key, index)), root(index)
            parent[max(first, second)] = min(first, second)
    roots = [root(index) for index in range(len(groups))]
    distinct = list(dict.fromkeys(roots))
    order = np.random.default_rng(seed).permutation(len(distinct))
    part_of: dict[int, int] = {}
    start = 0
    for part, share in enumerate(shares, start=1):
        stop = start + round(share * len(distinct))
        part_of |= {distinct[i]: part for i in order[start:stop]}
        start = stop
    parts: tuple[list[RankingGroup], ...] = tuple([] for _ in (None, *shares))
    for index, group in enumerate(groups):
        parts[part_of.get(roots[index], 0)].append(group)
    return parts


def _keys(groups: Sequence[RankingGroup]) -> set[str]:
    """Return what two groups must not share: the prompt, or without one the completions."""
    found = set()
    for group in groups:
        texts = [group.prompt] if group.prompt.strip() else list(group.completions)
        found |= {" ".join(text.lower().split()) for text in texts}
    return found


def _demonstrations(data: PreferenceData) -> list[SFTExample]:
    if data.demonstrations is None:
        return []
    found = []
    for where, record in read_records(data.demonstrations):
        prompt, completion = record.get("prompt", ""), record.get("completion")
        if not isinstance(prompt, str) or not isinstance(completion, str):
            raise UserError(f"{where}: a demonstration needs the texts 'prompt' and 'completion'.")
        found.append(SFTExample(prompt, completion))
    return found
