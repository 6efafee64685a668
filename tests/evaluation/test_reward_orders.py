from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from textrl.evaluation.reward_models.orders import agreement, kendall_tau_b, top_1, top_1_by_chance

levels = st.lists(st.tuples(st.integers(-2, 2), st.integers(1, 3)), min_size=2, max_size=9)


def test_agreement_by_hand() -> None:
    assert agreement([2.0, -0.1, 0.0]).tolist() == [1.0, 0.0, 0.5]


@settings(max_examples=100, deadline=None)
@given(levels)
def test_tau_b_is_scipys(rows: list[tuple[int, int]]) -> None:
    scores, ranks = [float(a) for a, _ in rows], [float(b) for _, b in rows]
    found = kendall_tau_b(scores, ranks)
    # scipy says NaN too, where one side ties altogether.
    assert found == pytest.approx(stats.kendalltau(scores, np.negative(ranks)).statistic, nan_ok=True)


def test_tau_b_by_hand() -> None:
    # Pairs (1,2) and (1,3) concordant, (2,3) discordant: (2 - 1) / 3.
    assert kendall_tau_b([3, 1, 2], [1, 2, 3]) == pytest.approx(1 / 3)
    # People tie the last two: 2 concordant of sqrt(3 * 2).
    assert kendall_tau_b([3, 1, 2], [1, 2, 2]) == pytest.approx(2 / math.sqrt(6))


def test_top_1_counts_ties_of_both_sides() -> None:
    assert top_1([1, 5, 2], [3, 1, 2]) == 1.0
    assert top_1([1, 5, 2], [1, 2, 3]) == 0.0
    assert top_1([5, 5, 2], [1, 2, 3]) == 0.5  # the model's highest two: one is right
    assert top_1([1, 5, 2], [1, 1, 3]) == 1.0  # either of people's best is right
    assert math.isnan(top_1([1, 2], [1, 1]))
    assert top_1_by_chance([1, 1, 3, 4]) == 0.5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=2, max_size=6).filter(lambda ranks: len(set(ranks)) > 1))
def test_a_model_that_ties_all_reaches_chance(ranks: list[int]) -> None:
    assert top_1([0.0] * len(ranks), ranks) == pytest.approx(top_1_by_chance(ranks))
