"""The text that the pipeline works on: demonstrations, rankings, prompts, and who gets which."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from textrl.data.rankings import RankingGroup, groups_from_ratings
from textrl.data.ratings import Rated, fetch_ratings, movie_splits
from textrl.pipelines.rlhf.settings import RLHFSettings
from textrl.sft import SFTExample


@dataclass(frozen=True)
class Material:
    """Disjoint texts for each step.

    Attributes:
        demonstrations: For SFT; the prompt is a snippet's first words, the completion its rest.
        rankings: For the reward model; its held-out ones in `rankings_test`.
        rankings_test: Never trained on.
        judge: Rated texts that the judges are fitted to, before any training.
        judge_test: Rated texts for the judges' own accuracy.
        anchors: Rated texts that no judge was fitted to, for what judges give to what people like.
        prompts: Of the PPO episodes.
        prompts_test: Of the evaluation; beginnings of snippets that nothing else has seen.
        download_s: Seconds spent fetching.
    """

    demonstrations: Sequence[SFTExample]
    rankings: Sequence[RankingGroup]
    rankings_test: Sequence[RankingGroup]
    judge: Sequence[Rated]
    judge_test: Sequence[Rated]
    anchors: Sequence[Rated]
    prompts: Sequence[str]
    prompts_test: Sequence[str]
    download_s: float


def gather(settings: RLHFSettings, seed: int) -> Material:
    """Fetch the ratings, or make sentences, and deal them out; a function of settings and seed."""
    started = time.perf_counter()
    data = settings.data
    if data.source == "made":
        from textrl.data.made import made_reviews

        snippets: Sequence[Rated] | None = made_reviews(sum(vars(data.sizes).values()) + 500, seed)
    else:
        fetch_ratings()
        snippets = None
    download_s = time.perf_counter() - started
    # A grammar repeats its phrases; only a common beginning would give a test prompt away.
    shingle = 8 if data.source == "ratings" else 100
    splits = movie_splits(seed, sizes=data.sizes, snippets=snippets, shingle=shingle)
    ranking, words = settings.reward_model, data.prompt_words
    return Material(
        demonstrations=demonstrations(splits["sft"], words),
        rankings=groups_from_ratings(
            splits["rm"], ranking.k, seed, tie_margin=ranking.tie_margin, rounds=ranking.rounds
        ),
        rankings_test=groups_from_ratings(splits["rm_test"], ranking.k, seed, tie_margin=ranking.tie_margin),
        judge=splits["judge"],
        judge_test=splits["judge_test"],
        anchors=[*splits["judge_test"], *splits["rm_test"], *splits["prompts_test"]],
        prompts=beginnings([*splits["sft"], *splits["rm"], *splits["prompts_train"]], words),
        prompts_test=beginnings(splits["prompts_test"], words)[: settings.evaluation.prompts],
        download_s=download_s,
    )


def demonstrations(snippets: Sequence[Rated], words: int) -> list[SFTExample]:
    """Cut each snippet that is long enough into its first words and the rest."""
    split = [snippet.text.split(" ") for snippet in snippets]
    return [
        SFTExample(" ".join(parts[:words]), " " + " ".join(parts[words:]))
        for parts in split
        if len(parts) >= 2 * words
    ]


def beginnings(snippets: Sequence[Rated], words: int) -> list[str]:
    """Return the first words of every snippet that is long enough, without repeats."""
    return list(dict.fromkeys(example.prompt for example in demonstrations(snippets, words)))
