"""Who ranks in the loop: ranks by hand, mistakes by enumeration, files checked against what was sampled."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textrl.errors import UserError
from textrl.evaluation.statistics import Floats
from textrl.mdp.task import Prompt
from textrl.pipelines.loop.labelers import (
    Candidates,
    FileLabeler,
    ScoringLabeler,
    distinct,
    gumbel,
    ranks_by_score,
)
from textrl.pipelines.loop.settings import LabelSettings, LoopSettings
from textrl.pipelines.loop.world import deal_prompts
from textrl.pipelines.rlhf.settings import RLHFSettings


class Fixed:
    """Scores known beforehand."""

    def __init__(self, scores: Sequence[float]) -> None:
        self.scores = np.array(scores)

    def __call__(self, candidates: Sequence[Candidates]) -> list[Floats]:
        return [self.scores for _ in candidates]


def sets(count: int, responses: tuple[str, ...] = ("a", "b", "c")) -> list[Candidates]:
    return [Candidates(number, Prompt((1,), f"p{number}"), responses) for number in range(count)]


@pytest.mark.parametrize(
    ("scores", "margin", "ranks"),
    [
        ([0.5, 2.0, -1.0], 0.0, (2, 1, 3)),
        ([1.0, 1.0, 0.0], 0.0, (1, 1, 2)),
        ([2.0, 1.9, 1.75, 0.0], 0.2, (1, 1, 2, 3)),
        ([2.2, 2.0], 0.2, (1, 1)),
        ([0.0, 0.0], 0.0, (1, 1)),
    ],
)
def test_ranks_by_hand(scores: list[float], margin: float, ranks: tuple[int, ...]) -> None:
    assert ranks_by_score(np.array(scores), margin) == ranks


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=7), st.floats(0, 2))
def test_a_better_score_is_never_ranked_worse(scores: list[float], margin: float) -> None:
    ranks = ranks_by_score(np.array(scores), margin)
    assert min(ranks) == 1
    assert sorted(set(ranks)) == list(range(1, len(set(ranks)) + 1))
    for (a, rank_a), (b, rank_b) in itertools.permutations(zip(scores, ranks, strict=True), 2):
        assert rank_a <= rank_b or a <= b
        assert rank_a != rank_b or abs(a - b) <= margin + 1e-8


def test_mistakes_follow_plackett_and_luce() -> None:
    scores, temperature, count = [0.6, 0.0, -0.3], 0.5, 6000
    labeler = ScoringLabeler(Fixed(scores), temperature=temperature, seed=3)
    seen = Counter(labeler.ranks(sets(count)))
    weights = [math.exp(score / temperature) for score in scores]
    for order in itertools.permutations(range(3)):
        chance, left = 1.0, sum(weights)
        for index in order:
            chance *= weights[index] / left
            left -= weights[index]
        ranks = tuple(float(order.index(index) + 1) for index in range(3))
        assert seen[ranks] / count == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / count))


def test_mistakes_are_a_function_of_seed_and_number() -> None:
    first, again, other = (
        ScoringLabeler(Fixed([0, 0, 0]), temperature=1.0, seed=s).ranks(sets(40)) for s in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert len(set(first)) > 3
    noise = np.concatenate([gumbel((5, number), 4) for number in range(5000)])
    assert noise.mean() == pytest.approx(0.5772, abs=0.05)
    assert noise.std() == pytest.approx(math.pi / math.sqrt(6), abs=0.05)


def test_the_same_text_twice_ties_whatever_the_mistakes() -> None:
    labeler = ScoringLabeler(Fixed([1.0, 0.5, 1.0]), temperature=5.0)
    for ranks in labeler.ranks(sets(50, ("a", "b", "a"))):
        assert ranks is not None
        assert ranks[0] == ranks[2]


def test_one_text_alone_is_no_ranking() -> None:
    one = sets(1, ("a", "a", "b"))[0]
    group = distinct(one, (1.0, 1.0, 2.0))
    assert group is not None
    assert (group.completions, group.ranks) == (("a", "b"), (1.0, 2.0))
    assert distinct(sets(1, ("a", "a"))[0], (1.0, 1.0)) is None


def ranked(file: Path, *rows: dict[str, Any]) -> FileLabeler:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return FileLabeler(file)


def test_peoples_rankings_are_found_by_text_and_prompts_may_be_passed(tmp_path: Path) -> None:
    row = {"prompt": "p1", "completions": ["c", "a", "b"], "ranks": [1, 2, 2]}
    assert ranked(tmp_path / "r.jsonl", row).ranks(sets(3)) == [None, (2.0, 2.0, 1.0), None]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"prompt": "p0", "completions": ["a", "x"], "ranks": [1, 2]}], "'x' is none of those sampled"),
        (
            [{"prompt": "p0", "completions": ["a", "b"], "ranks": [1, 2]}],
            "'c' of the prompt 'p0' has no rank",
        ),
        ([{"prompt": "p0", "chosen": "a", "rejected": "b"}] * 2, "'p0' is ranked twice"),
    ],
)
def test_rankings_of_something_else_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(UserError) as error:
        ranked(tmp_path / "r.jsonl", *rows).ranks(sets(1))
    assert said in str(error.value)


def test_rankings_of_another_round_are_refused(tmp_path: Path) -> None:
    labeler = ranked(tmp_path / "r.jsonl", {"prompt": "p7", "completions": ["a", "b"], "ranks": [1, 2]})
    labeler.refuse_others(sets(8))
    with pytest.raises(UserError, match="'p7' is none of this round's"):
        labeler.refuse_others(sets(7))


@given(st.integers(1, 4), st.integers(1, 8), st.integers(0, 6), st.integers(0, 5))
def test_no_prompt_is_ranked_twice_or_measured_and_ranked(
    rounds: int, prompts: int, held: int, seed: int
) -> None:
    settings = LoopSettings(
        base=RLHFSettings(model="tiny-gpt2"),
        rounds=rounds,
        labels=LabelSettings(prompts=8 * prompts, held_out=held),
    )
    texts = [str(number) for number in range(rounds * 8 * prompts + held)]
    dealt = [deal_prompts(texts, settings, seed, number) for number in range(1, rounds + 1)]
    every = [text for train, _ in dealt for text in train]
    assert len(set(every)) == len(every) == rounds * 8 * prompts
    assert all(kept == dealt[0][1] for _, kept in dealt)
    assert not set(every) & set(dealt[0][1])
    with pytest.raises(UserError, match="ask for fewer"):
        deal_prompts(texts[1:], settings, seed, 1)
