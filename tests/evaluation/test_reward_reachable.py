from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.evaluation.reward_models.evaluate import Options, Scored, evaluate
from textrl.evaluation.reward_models.orders import agreement
from textrl.evaluation.reward_models.page import render
from textrl.evaluation.reward_models.reachable import MOST_ORDERED, reachable
from textrl.evaluation.reward_models.reading import read_comparisons
from textrl.evaluation.reward_models.terminal import summary
from textrl.evaluation.reward_models.words import findings, reach

Pair = tuple[str, str, str]


def measured(folder: Path, pairs: Sequence[Pair], score: Mapping[str, float]) -> dict[str, Any]:
    """Evaluate scores by completion on pairs of (prompt, chosen, rejected)."""
    file = folder / "pairs.jsonl"
    lines = [{"prompt": p, "chosen": a, "rejected": b, "annotator": "ann"} for p, a, b in pairs]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    data = read_comparisons(str(file))
    scores = np.array([score[text.completion] for text in data.texts])
    return evaluate(data, [Scored("mine", "", scores)], options=Options(resamples=200))


def alarms(found: Mapping[str, Any]) -> list[str]:
    return [one.title for one in findings(found) if one.level == "alarm"]


def test_a_model_that_reaches_the_most_on_circles_is_not_accused(tmp_path: Path) -> None:
    circle = [("a", "bb"), ("bb", "ccc"), ("ccc", "a")]
    found = measured(
        tmp_path, [(f"p{i}", *pair) for i in range(10) for pair in circle], {"a": 3, "bb": 2, "ccc": 1}
    )
    limit = found["reachable"]
    assert found["accuracy"]["value"] == limit["accuracy"]["value"] == pytest.approx(2 / 3)
    assert (limit["contradicted_pairs"], limit["contradicted_prompts"], limit["exact"]) == (30, 10, True)
    assert alarms(found) == []
    assert {"The data cannot tell it from chance", "People contradict each other"} <= {
        one.title for one in findings(found)
    }
    printed = summary(found)
    assert "the most that any scores could have  66.7" in printed
    assert "30 of 30 decided pairs, in 10 of 10 prompts" in printed
    page = render(found)
    assert "The most that any scores could have" in page
    assert f"{reach(found)} in reach" in page


def test_pairs_ranked_both_ways_speak_about_people(tmp_path: Path) -> None:
    both = [("a", "bb"), ("bb", "a")]
    found = measured(tmp_path, [(f"p{i}", *pair) for i in range(30) for pair in both], {"a": 1, "bb": 0})
    assert found["reachable"]["accuracy"]["value"] == 0.5
    assert found["reachable"]["balanced"]["value"] == 0.5
    assert alarms(found) == []
    assert "People contradict each other" in {one.title for one in findings(found)}


def test_contradictions_excuse_no_model_that_the_data_can_tell_from_chance(tmp_path: Path) -> None:
    pairs = [(f"p{i}", *pair) for i in range(20) for pair in (("a", "bb"), ("bb", "a"))]
    pairs += [(f"q{i}", *pair) for i in range(40) for pair in (("c", "dd"), ("ff", "e"))]
    # Of the 80 pairs that nobody contradicts a model of length has half right.
    found = measured(tmp_path, pairs, {"a": 1, "bb": 2, "c": 1, "dd": 2, "e": 1, "ff": 2})
    assert found["accuracy"]["value"] == 0.5
    assert found["reachable"]["accuracy"]["value"] == pytest.approx((20 + 80) / 120)
    assert alarms(found) == [
        "No better than chance", "'longer is better' does as well", "Nothing left beside length",
    ]  # fmt: skip
    assert "while the best scores would have 83.3" in findings(found)[0].text


def test_without_contradictions_everything_is_in_reach(tmp_path: Path) -> None:
    found = measured(tmp_path, [(f"p{i}", "a", "bb") for i in range(3)], {"a": 0, "bb": 1})
    limit = found["reachable"]
    assert (limit["accuracy"]["value"], limit["contradicted_pairs"]) == (1.0, 0)
    assert "No better than chance" in alarms(found)
    assert "could have" not in summary(found)
    # Three of three right are too few to tell, and no reason for an alarm.
    found = measured(tmp_path, [(f"p{i}", "a", "bb") for i in range(3)], {"a": 1, "bb": 0})
    assert "No better than chance" not in alarms(found)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=14))
def test_the_best_order_is_that_of_all_orders(rows: list[tuple[int, int, int]]) -> None:
    better, worse, weight = (np.array(side) for side in zip(*rows, strict=True))
    found = reachable(better, worse, weight.astype(np.float64))
    orders = (np.array(order) for order in permutations(range(5)))
    best = max(float((agreement(order[better] - order[worse]) * weight).sum()) for order in orders)
    assert found.exact
    assert float((found.right * weight).sum()) == pytest.approx(best)
    # A pair is contradicted where its worse text leads back to its better one.
    leads = np.eye(5, dtype=bool)
    leads[better[weight > 0], worse[weight > 0]] = True
    for _ in range(5):
        leads = leads @ leads
    expected = (weight > 0) & (better != worse) & leads[worse, better]
    assert found.contradicted.tolist() == expected.tolist()


def test_a_circle_too_large_for_every_order_gets_a_bound() -> None:
    count = MOST_ORDERED + 1
    better = np.arange(count)
    worse = (better + 1) % count
    found = reachable(
        np.append(better, [1, 1]), np.append(worse, [0, 0]), np.ones(count + 2)
    )  # 0 over 1 once, 1 over 0 twice
    assert not found.exact
    assert found.right.tolist() == [0.0] + [1.0] * (count + 1)
