"""Any reward that reads finished texts as a judge: the weighted sum, token by token rewards, the measures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textrl_reward_model.conformance import word_tokenizer
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from textrl.data.ratings import Rated
from textrl.errors import UserError
from textrl.evaluation.compare import evaluate_texts
from textrl.evaluation.reward_judge import RewardJudge, trusted
from textrl.evaluation.statistics import pair_accuracy, pearson
from textrl.registry import get_registry
from textrl.rewards import RewardSum, build_rewards

TEXTS = ["a good film", "", "this was an awful plot and very bad", "happy"]


def judge_of(sources: Mapping[str, Any], weights: Mapping[str, float], **options: Any) -> RewardJudge:
    rewards = build_rewards(sources, weights, get_registry(), str)
    return RewardJudge(rewards, word_tokenizer(), **options)


def test_the_score_is_the_weighted_sum_whatever_the_batch() -> None:
    sources = {"taste": {"use": "sentiment"}, "brief": {"use": "length", "unit": "words", "target": 3}}
    weights = {"taste": 2.0, "brief": 0.5}
    analyser = SentimentIntensityAnalyzer()
    wanted = [2 * analyser.polarity_scores(t)["compound"] - 0.5 * abs(len(t.split()) - 3) / 3 for t in TEXTS]
    for size in (1, 3, 64):
        assert judge_of(sources, weights, batch_size=size).score(TEXTS) == pytest.approx(wanted, abs=1e-6)


def test_a_reward_that_reads_ids_sees_the_tokens_of_the_text() -> None:
    judge = judge_of({"length": {"max": 2, "scale": 1.0}}, {"length": 1.0})
    assert judge.rate(["the", "a film", "a"], ["good film plot", "good", ""]).tolist() == [-1.0, 0.0, 0.0]


def test_a_reward_per_token_counts_by_its_sum(tmp_path: Path) -> None:
    (tmp_path / "ones.py").write_text(
        "from textrl.hookspecs import hookimpl\nfrom textrl.specs import RewardSpec\n\n\n@hookimpl\n"
        "def textrl_rewards():\n    yield RewardSpec(name='ones', target='ones:Ones', summary='one',"
        " granularity='token', causal=True)\n\n\nclass Ones:\n    def __call__(self, batch):\n"
        "        return batch.response_mask.float()\n"
    )
    registry = get_registry(plugins=[str(tmp_path / "ones.py")])
    rewards = build_rewards({"ones": {}}, {"ones": 3.0}, registry, str)
    judge = RewardJudge(rewards, word_tokenizer())
    assert judge.score(["a good film", "", "a a a a a"]).tolist() == [9.0, 3.0, 15.0]


def test_prompts_and_records_reach_the_reward() -> None:
    judge = judge_of({"exact_answer": {"column": "solution"}}, {"exact_answer": 1.0})
    scores = judge.rate(["2+2=", "2+3="], ["4", "4"], [{"solution": "4"}, {"solution": "5"}])
    assert scores.tolist() == [1.0, 0.0]


def test_what_needs_a_learner_cannot_judge() -> None:
    with pytest.raises(
        UserError, match=r"The reward 'kl' .* needs logprobs, ref_logprobs, which a finished text"
    ):
        judge_of({"kl": {}}, {"kl": 1.0})
    with pytest.raises(UserError, match="needs a source of reward"):
        RewardJudge(RewardSum([]), word_tokenizer())


def test_a_judge_is_measured_on_what_people_said_and_stands_in_the_evaluation() -> None:
    ratings = {
        "good happy film": 3.0,
        "bad awful film": -3.0,
        "the film was red": 0.0,
        "love this": 2.5,
        "so sad": -1.0,
    }
    rated = [
        Rated(id=str(i), text=t, mean=m, ratings=(round(m),)) for i, (t, m) in enumerate(ratings.items())
    ]
    judge = judge_of({"sentiment": {}}, {"sentiment": 1.0}, name="labeler")
    fitted = trusted(judge, rated, rated)
    scores, means = judge.score(list(ratings)), list(ratings.values())
    assert fitted.report.pair_accuracy == pair_accuracy(scores, means)
    assert fitted.report.pearson == pytest.approx(pearson(scores, means))
    assert fitted.report.anchor == pytest.approx(np.mean([scores[0], scores[3]]))
    assert (fitted.report.tested_on, fitted.report.anchor_texts, fitted.report.anchor_people) == (5, 2, 2.75)
    found = evaluate_texts(
        [" is bad", " is sad"], [" is good", " is happy"], ["It", "This"], [fitted], resamples=200
    )
    assert found["headline"]["judge"] == "labeler"
    assert found["headline"]["win_rate"]["value"] == 1.0
    assert found["judges"][0]["pair_accuracy"] == fitted.report.pair_accuracy
