"""From trials to tables: figures over seeds, steps to a level, and what holds, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from textrl.bench import text_feedback_sentiment as sentiment
from textrl.bench.text_feedback_arms import every_arm
from textrl.bench.text_feedback_pictures import pictures
from textrl.bench.text_feedback_rows import at_end, crossing, reached, row, scaled, table

ARMS = {arm.key: arm for arm in every_arm()}
STEPS = (0, 100, 200, 300, 400)


def result(scores: list[float], *, presses: int | None = None, closed: float = 0.5) -> dict[str, Any]:
    curve = [
        {
            "steps": float(at), "presses": float(presses or 0), "score": score, "kl": 1.0,
            "closed": closed * at / 400, "score_without": score / 2, "kl_without": 1.0,
            "closed_without": 0.0, "kl_policy": 0.1,
        }
        for at, score in zip(STEPS, scores, strict=True)
    ]  # fmt: skip
    known = presses is not None
    return {
        "curve": curve,
        "optimum": {"prior_score": 2.0, "best_score": 12.0, "best_kl": 1.0, "best_objective": 9.0},
        "h": {"correlation": 0.5, "good": 0.4, "neutral": 0.0, "bad": -0.2} if known else None,
        "presses": presses, "texts": 40 if known else None, "seconds": 120.0 if known else None,
        "agreement": 1.0, "tokens": 400, "cpu_s": 3.0,
    }  # fmt: skip


PLAIN = result([2.0, 4.0, 6.0, 8.0, 10.0])
FAST = result([2.0, 10.0, 10.0, 10.0, 10.0], presses=300)
SLOW = result([2.0, 2.0, 3.0, 4.0, 5.0], presses=300)


def test_scores_lie_between_the_prior_and_the_best_policy() -> None:
    assert scaled(PLAIN, "score") == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
    assert at_end(scaled(PLAIN, "score")) == pytest.approx(0.6)


def test_a_level_is_crossed_on_straight_lines() -> None:
    assert crossing([0, 10, 20], [0.0, 1.0, 3.0], 2.0) == 15.0
    assert crossing([0, 10, 20], [5.0, 1.0, 3.0], 2.0) == 0.0
    assert crossing([0, 10, 20], [0.0, 1.0, 3.0], 4.0) is None
    assert crossing([0, 10], [0.0, 1.0], 1.0) == 10.0


def test_rows_say_how_much_sooner_an_agent_is_there() -> None:
    rivals = {0: PLAIN, 1: PLAIN}
    fast = row(ARMS["techniques/sim-ab"], {0: FAST, 1: FAST}, rivals, 2)
    # The rival ends at .6, where it is itself after 300 steps; the fast one passes .6 at 75.
    assert fast["to_score"]["reached"] == 2
    assert fast["to_score"]["ratio"]["mean"] == pytest.approx(0.25)
    assert fast["to_gap"]["ratio"]["mean"] == pytest.approx(1.0)
    assert fast["mean"]["mean"] == pytest.approx(0.64)
    assert fast["alone"]["mean"] == pytest.approx(0.3)
    assert fast["minutes"]["mean"] == 2.0
    assert fast["apart"]["mean"] == pytest.approx(0.6)
    slow = row(ARMS["techniques/sim-cs"], {0: SLOW}, rivals, 2)
    assert slow["to_score"] == {"reached": 0, "compared": 1, "ratio": None}
    text = table("techniques", [fast, slow])
    assert text.rows[0][-2] == "0.25 [0.25, 0.25] (2 of 2)"
    assert text.rows[1][-2] == "never (0 of 1)"
    assert text.rows[1][1] == "1/2"


def test_checks_need_finished_arms_and_say_what_does_not_hold() -> None:
    def rows(biased: dict[str, Any], finished: int) -> list[dict[str, Any]]:
        rivals = {0: PLAIN, 1: PLAIN}
        own = dict.fromkeys(range(finished), biased)
        return [
            row(ARMS["techniques/plain"], rivals, rivals, 2),
            row(ARMS["techniques/sim-ab"], own, rivals, 2),
        ]

    assert reached(rows(FAST, 1)) == []
    assert [check.holds for check in reached(rows(FAST, 2))] == [True, True]
    assert [check.holds for check in reached(rows(SLOW, 2))] == [False, False]


def test_pictures_show_what_was_run() -> None:
    found = {"techniques/plain": [PLAIN], "techniques/sim-ab": [FAST], "presses/sim-ab-30": [SLOW]}
    few = {**SLOW, "presses": 30}
    rows = [
        row(ARMS[key], {0: few if key.endswith("30") else one[0]}, {0: PLAIN}, 1)
        for key, one in found.items()
    ]
    drawn = pictures(rows, found)
    assert set(drawn) == {
        "text-feedback-simultaneous", "text-feedback-simultaneous-gap", "text-feedback-presses-simultaneous",
        "text-feedback-presses-simultaneous-gap",
    }  # fmt: skip
    assert "PPO-ptx alone" in drawn["text-feedback-presses-simultaneous"]
    assert pictures([], {}) == {}


def test_every_technique_is_asked_every_question() -> None:
    techniques = {(mode, name) for mode in ("sim", "seq") for name in ("ab", "cs", "qa", "qp", "rs")}
    for part, name in (
        ("techniques", ""), ("presses", "-30"), ("presses", "-1000"), ("rewards", "-model"),
        ("delays", "-later"), ("delays", "-later-told"),
    ):  # fmt: skip
        assert {f"{part}/{mode}-{one}{name}" for mode, one in techniques} <= set(ARMS)


def test_the_sentiment_table_and_its_figure_to_reach() -> None:
    def one(scores: list[float], presses: int | None) -> dict[str, Any]:
        curve = [
            {"steps": 100.0 * (at + 1), "score": score, "kl": 1.0, "kl_policy": 0.1, "presses": 0.0}
            for at, score in enumerate(scores)
        ]
        return {
            "curve": curve, "start": 0.1, "end": scores[-1], "alone": 0.3, "presses": presses, "texts": None,
            "seconds": None, "favourites": None, "cpu_s": 1.0,
        }  # fmt: skip

    assert sentiment.smoothed(one([1.0, 2.0, 3.0, 4.0, 5.0], None)["curve"]) == [1.0, 1.5, 2.0, 2.5, 3.5]
    slow, fast = one([0.0, 0.2, 0.4, 0.6, 0.8], None), one([0.0, 0.8, 0.8, 0.8, 0.8], 300)
    rows = sentiment.rows({"plain": {0: slow}, "sim-ab": {0: fast}}, 1)
    (check,) = sentiment.reached(rows)
    # .5 is where PPO-ptx alone ends, after 500 steps; the other mean is .4 at 200 and .533 at 300 steps.
    assert rows[1]["to_score"]["ratio"]["mean"] == pytest.approx((200 + 100 * 0.1 / (1.6 / 3 - 0.4)) / 500)
    assert not check.holds
    assert sentiment.table(rows, []).rows[0][0] == "PPO-ptx alone"
    assert "<svg" in sentiment.picture({"plain": {0: slow}, "sim-ab": {0: fast}})
    assert sentiment.reached(sentiment.rows({"plain": {0: slow}}, 1)) == []
