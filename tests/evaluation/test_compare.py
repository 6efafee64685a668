from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from textrl.evaluation.compare import compare_scores, evaluate_texts, sample_summary, score_samples
from textrl.evaluation.judges import FittedJudge, JudgeReport

PROMPTS = ["The film", "A plot", "Its hero", "This story"]
BEFORE = [" is dull.", " of mud.", " sleeps.", " is good."]
AFTER = [" is good good.", " of mud.", " is good.", " drags."]
REPORT = JudgeReport(
    fitted_on=10,
    tested_on=5,
    pair_accuracy=0.8,
    pearson=0.6,
    anchor=1.5,
    anchor_people=2.8,
    anchor_texts=7,
    alpha=1.0,
    fit_s=0.1,
    score_1000_s=0.1,
)


class CountingJudge:
    """Scores how often a text says "good"; remembers what it was asked."""

    name = "counting"
    features = "one word"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, texts: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
        self.asked += texts
        return np.array([float(text.count("good")) for text in texts])


def fitted(report: JudgeReport = REPORT) -> FittedJudge:
    return FittedJudge(CountingJudge(), report)


def test_the_figures_of_a_comparison_by_hand() -> None:
    summary = evaluate_texts(BEFORE, AFTER, PROMPTS, [fitted()], seed=3)
    (row,) = summary["judges"]
    assert (row["before"], row["after"]) == (0.25, 0.75)
    assert row["gain"]["value"] == pytest.approx((2 + 0 + 1 - 1) / 4)
    assert row["win_rate"]["value"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert row["gain"]["lo"] <= row["gain"]["value"] <= row["gain"]["hi"]
    assert (row["anchor_human_2_5"], row["pair_accuracy"], row["anchor_texts"]) == (1.5, 0.8, 7)
    assert summary["headline"] == {
        "prompts": 4,
        "judge": "counting",
        "judge_gain": row["gain"],
        "win_rate": row["win_rate"],
    }


def test_the_first_judge_gives_the_headline_and_each_is_listed() -> None:
    other = fitted()
    other.judge.name = "second"  # type: ignore[misc]
    summary = evaluate_texts(BEFORE, AFTER, PROMPTS, [fitted(), other])
    assert summary["headline"]["judge"] == "counting"
    assert [row["name"] for row in summary["judges"]] == ["counting", "second"]


def test_a_judge_reads_prompt_and_response_as_one_text_and_each_text_once() -> None:
    judge = CountingJudge()
    before, after = score_samples(
        judge, ["A", "B"], [[" x", " y"], [" x", " x"]], [[" x", " good"], [" z", " x"]]
    )
    assert sorted(judge.asked) == ["A good", "A x", "A y", "B x", "B z"]
    assert before.tolist() == [[0, 0], [0, 0]]
    assert after.tolist() == [[0, 1], [0, 0]]


def test_several_samples_a_prompt_are_averaged_within_it() -> None:
    before = [[" bad", " good"], [" bad", " bad"]]
    after = [[" good", " good"], [" good", " bad"]]
    summary = evaluate_texts(before, after, ["One", "Two"], [fitted()])
    row = summary["judges"][0]
    assert row["gain"]["value"] == pytest.approx(0.5)
    assert row["win_rate"]["value"] == pytest.approx((0.75 + 0.75) / 2)
    assert summary["text"]["length_words"] == {"before": 1.0, "after": 1.0}


def test_a_collapse_shows_in_the_surface_measures(letters: PreTrainedTokenizerFast) -> None:
    varied = [f" is number {i} of a kind" for i in range(12)]
    collapsed = [" is good good good good"] * 12
    prompts = [f"Prompt {i}" for i in range(12)]
    summary = evaluate_texts(varied, collapsed, prompts, [fitted()], tokenizer=letters)
    text = summary["text"]
    assert text["distinct_2"]["after"] < 0.1 < text["distinct_2"]["before"]
    assert text["repetition"]["before"] == 0.0 < text["repetition"]["after"]
    assert text["length_tokens"]["after"] == 23.0
    assert summary["phrases"]["after"][0] == {"phrase": "good good good", "share": 1.0}


def test_without_a_tokenizer_tokens_are_left_out() -> None:
    assert "length_tokens" not in evaluate_texts(BEFORE, AFTER, PROMPTS, [fitted()])["text"]


def test_sets_of_unlike_size_are_compared_on_as_many_texts() -> None:
    before = [[" a b", " a b"], [" e f", " e f"]]
    summary = evaluate_texts(before, [[" a b"], [" e f"]], ["One", "Two"], [fitted()])
    assert summary["text"]["distinct_2"] == {"before": 1.0, "after": 1.0}
    assert summary["judges"][0]["win_rate"]["value"] == 0.5


def test_the_summary_is_plain_json_without_nan() -> None:
    report = JudgeReport(**{**REPORT.plain(), "anchor": math.nan, "pearson": math.nan})  # type: ignore[arg-type]
    summary = evaluate_texts(BEFORE, AFTER, PROMPTS, [fitted(report)])
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert "anchor_human_2_5" not in summary["judges"][0]


def test_the_same_seed_gives_the_same_summary() -> None:
    one, two, three = (evaluate_texts(BEFORE, AFTER, PROMPTS, [fitted()], seed=seed) for seed in (1, 1, 2))
    assert one == two
    assert one["judges"][0]["gain"]["value"] == three["judges"][0]["gain"]["value"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([" a"], [" a", " b"], "1 sets of responses to 2 prompts"),
        ([[" a"], [" b", " c"]], [" a", " b"], "same number of responses"),
        ([[], []], [" a", " b"], "at least one"),
    ],
)
def test_responses_that_do_not_fit_the_prompts_are_refused(before: Any, after: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate_texts(before, after, ["One", "Two"], [fitted()])


def test_a_comparison_without_a_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a judge"):
        evaluate_texts(BEFORE, AFTER, PROMPTS, [])


def test_any_scores_can_be_compared() -> None:
    found = compare_scores([0.0, 2.0], [1.0, 2.0])
    assert (found["before"], found["after"]) == (1.0, 1.5)
    assert found["gain"]["value"] == 0.5  # type: ignore[index]
    assert found["win_rate"]["value"] == 0.75  # type: ignore[index]


def test_samples_are_drawn_by_the_seed_and_carry_their_scores() -> None:
    rows = sample_summary(BEFORE, AFTER, PROMPTS, CountingJudge(), count=2, seed=5)
    assert rows == sample_summary(BEFORE, AFTER, PROMPTS, CountingJudge(), count=2, seed=5)
    assert len(rows) == len({row["prompt"] for row in rows}) == 2
    for row in rows:
        index = PROMPTS.index(str(row["prompt"]))
        assert (row["before"], row["after"]) == (BEFORE[index], AFTER[index])
        assert (row["judge_before"], row["judge_after"]) == (
            BEFORE[index].count("good"),
            AFTER[index].count("good"),
        )
    assert len(sample_summary(BEFORE, AFTER, PROMPTS, CountingJudge(), count=99)) == 4
