"""The groups that a reward model learns from and is measured on; no prompt is in two parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from textrl.data.preferences.rated import RatedCompletion, rated
from textrl.data.preferences.schema import canonical
from textrl.data.rankings import RankingGroup, assemble, groups_from_ratings, read_rankings
from textrl.data.ratings import Rated, SplitSizes, load_ratings, movie_splits
from textrl.data.records import read_records
from textrl.errors import UserError
from textrl.pipelines.reward_model.settings import PreferenceData, SplitBy
from textrl.reward_model import LossName
from textrl.sft import SFTExample

#: What records call the parts.
_SPLITS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation",
    "val": "validation", "dev": "validation", "test": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Material:
    """What a run works on.

    Attributes:
        train: Groups to learn from.
        validation: Groups to stop early and to choose a penalty by.
        test: Groups for the figures.
        test_texts: The single rated texts of the test part; empty where rankings alone are known.
        demonstrations: Texts whose mean score becomes 0; may be empty.
    """

    train: Sequence[RankingGroup]
    validation: Sequence[RankingGroup]
    test: Sequence[RankingGroup]
    test_texts: Sequence[RatedCompletion]
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
        return _from_files(data, losses)
    splits = _splits(data)
    rounds = {"rm": data.rounds, "judge": 1, "rm_test": 1}
    dealt = {name: rated_groups(splits[name], data, times) for name, times in rounds.items()}
    texts = [
        RatedCompletion("", one.text, tuple(float(rating) for rating in one.ratings))
        for one in splits["rm_test"]
    ]
    return Material(dealt["rm"], dealt["judge"], dealt["rm_test"], texts, _demonstrations(data))


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
    return [replace(group, ratings=tuple(means[text] for text in group.completions)) for group in dealt]


def _from_files(data: PreferenceData, losses: Sequence[LossName]) -> Material:
    """Read the parts that have files of their own or are named in the records; draw the others."""
    assert data.train is not None  # the settings say so
    given = {"validation": data.validation, "test": data.test}
    parts: dict[str, list[RankingGroup]] = {
        name: _read(file, losses) for name, file in given.items() if file is not None
    }
    own = by_split(_read(data.train, losses))
    for name in given:
        if own[name] and name in parts:
            raise UserError(
                f"{data.train}: {len(own[name])} of its rankings say that they are for {name}, and "
                f"data.{name} names another file; leave out one of the two."
            )
        if own[name]:
            parts[name] = own[name]
    drawn = {"validation": data.validation_share, "test": data.test_share}
    missing = [name for name in drawn if name not in parts]
    train, *found = split_by_prompt(own["train"], [drawn[name] for name in missing], data.seed, by=data.by)
    parts |= {"train": train, **dict(zip(missing, found, strict=True))}
    _refuse_shared(data, parts)
    if not all(parts.values()):
        prompts = len({key for group in own["train"] for key in _keys([group])})
        raise UserError(
            f"{data.train}: {len(own['train'])} rankings of {prompts} different prompts are too few for "
            "training, validation and test, which share no prompt; give more prompts."
        )
    texts = [] if set(losses) != {"regression"} else _texts(parts["test"])
    return Material(parts["train"], parts["validation"], parts["test"], texts, _demonstrations(data))


def by_split(groups: Sequence[RankingGroup]) -> dict[str, list[RankingGroup]]:
    """Part rankings by what their records say; one that says nothing is to learn from.

    Raises:
        UserError: When a record names a part that is none.
    """
    parts: dict[str, list[RankingGroup]] = {"train": [], "validation": [], "test": []}
    for group in groups:
        name = _SPLITS.get((group.split or "train").lower())
        if name is None:
            raise UserError(
                f"{group.where}: 'split' is '{group.split}'; it must be train, validation or test."
            )
        parts[name].append(group)
    return parts


def _refuse_shared(data: PreferenceData, parts: Mapping[str, Sequence[RankingGroup]]) -> None:
    """Refuse prompts that stand in two parts: accuracy would be measured on what was learned."""
    for first, second in (("train", "test"), ("validation", "test"), ("train", "validation")):
        known = _keys(parts[first])
        both = [group for group in parts[second] if _keys([group]) & known]
        if both:
            one, other = (getattr(data, name) or data.train for name in (first, second))
            files = f"{one} and {other}" if one != other else str(one)
            raise UserError(
                f"{files}: {len(both)} of the {len(parts[second])} rankings for {second} have a prompt that "
                f"stands in those for {first} too, so accuracy would be measured on what was learned; "
                "split them by prompt, as 'textrl data split' does."
            )


def _read(source: str, losses: Sequence[LossName]) -> list[RankingGroup]:
    """Read rankings, or where every loss is ``regression`` rated texts, which may stand alone."""
    if set(losses) != {"regression"}:
        return read_rankings(source)
    groups: list[RankingGroup] = []
    together: dict[tuple[str, str, str | None], list[RatedCompletion]] = {}
    for number, (where, record) in enumerate(read_records(source)):
        form, given = canonical(record, where)
        if form == "ranking" and "ratings" in given:
            groups += assemble([(where, given)])
            continue
        if form != "rating":
            raise UserError(
                f"{where} holds a {form.replace('_', ' ')} and no rating; give prompt, completion, rating, "
                "or set loss to 'kwise'."
            )
        entry = rated(given, where)
        # Texts without a prompt or a group have nothing in common.
        key = (entry.group or ("" if entry.prompt.strip() else str(number)), entry.prompt, entry.split)
        together.setdefault(key, []).append(entry)
    return groups + [_mean_group(entries) for entries in together.values()]


def _mean_group(entries: Sequence[RatedCompletion]) -> RankingGroup:
    """Return the completions of one prompt with the mean of all their ratings."""
    first, ratings = entries[0], dict[str, list[float]]()
    for entry in entries:  # two people may have rated one completion in a line each
        ratings.setdefault(entry.completion, []).extend(entry.ratings)
    means = tuple(sum(values) / len(values) for values in ratings.values())
    return RankingGroup(
        first.prompt,
        tuple(ratings),
        tuple(-mean for mean in means),
        ratings=means,
        split=first.split,
        where=first.where,
    )


def _texts(groups: Sequence[RankingGroup]) -> list[RatedCompletion]:
    """Return the rated texts of groups, one by one: ratings compare across prompts."""
    return [
        RatedCompletion(group.prompt, text, (rating,))
        for group in groups
        for text, rating in zip(group.completions, group.ratings or (), strict=True)
    ]


def split_by_prompt(
    groups: Sequence[RankingGroup],
    shares: Sequence[float],
    seed: int,
    *,
    by: SplitBy = "prompt",
) -> tuple[list[RankingGroup], ...]:
    """Part groups so that no prompt, and no group without one's text, is on two sides.

    Args:
        groups: Of any prompts.
        shares: Of the prompts that the parts after the first get; the first gets the rest.
        seed: Of the draw.
        by: Whose rankings stay on one side too: those of one user, or of one annotator.

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
        name = None if by == "prompt" else getattr(group, by)
        for key in _keys([group]) | ({f"\0{name}"} if name is not None else set()):
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
