from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.evaluation.statistics import (
    Interval,
    bootstrap_mean,
    pair_accuracy,
    paired_gain,
    pearson,
    win_rate,
)

scores = st.lists(st.integers(-3, 3), min_size=2, max_size=12)


def test_win_rate_counts_ties_as_half_by_hand() -> None:
    # Prompt by prompt: win, loss, tie, win.
    found = win_rate([0.0, 1.0, 2.0, 3.0], [1.0, 0.0, 2.0, 3.5])
    assert found.value == pytest.approx((1 + 0 + 0.5 + 1) / 4)
    assert found.lo <= found.value <= found.hi


def test_win_rate_compares_all_pairs_of_samples_by_hand() -> None:
    # Prompt 1: 1 > 0, 1 < 2, 3 > 0, 3 > 2 -> 3/4. Prompt 2: 0 = 0 twice, 1 > 0 twice -> 3/4.
    assert win_rate([[0, 2], [0, 0]], [[1, 3], [0, 1]]).value == pytest.approx(0.75)
    # Other numbers of samples: 5 beats both, 0 ties with one.
    assert win_rate([[0, 2]], [[5]]).value == 1.0
    assert win_rate([[0, 2]], [[0]]).value == pytest.approx(0.25)


def test_scores_that_differ_by_rounding_are_a_tie() -> None:
    assert win_rate([1.0], [1.0 + 1e-9]).value == 0.5
    assert win_rate([1.0], [1.0 + 1e-4]).value == 1.0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)), min_size=1, max_size=10))
def test_win_rate_of_swapped_sides_is_the_rest(rows: list[tuple[int, int]]) -> None:
    before, after = ([float(row[i]) for row in rows] for i in (0, 1))
    forward = win_rate(before, after, resamples=200)
    backward = win_rate(after, before, resamples=200)
    assert forward.value + backward.value == pytest.approx(1.0)
    assert forward.lo == pytest.approx(1 - backward.hi)


def test_bootstrap_draws_prompts_and_not_samples() -> None:
    # A hundred copies of each prompt's value carry no more knowledge than one.
    values = np.random.default_rng(0).normal(size=50)
    once, often = bootstrap_mean(values), bootstrap_mean(np.repeat(values[:, None], 100, axis=1))
    assert (often.lo, often.hi) == pytest.approx((once.lo, once.hi))


def test_bootstrap_interval_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(1).normal(2.0, 3.0, size=400)
    found = bootstrap_mean(values, seed=5)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.lo == pytest.approx(values.mean() - half, abs=0.03)
    assert found.hi == pytest.approx(values.mean() + half, abs=0.03)


def test_bootstrap_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for trial in range(300):
        found = bootstrap_mean(rng.normal(1.0, 2.0, size=60), seed=trial, resamples=400)
        inside += found.lo <= 1.0 <= found.hi
    assert 0.91 <= inside / 300 <= 0.98


def test_bootstrap_matches_a_plain_loop() -> None:
    values = np.array([0.0, 1.0, 5.0, 2.0])
    rng = np.random.default_rng(9)
    means = sorted(values[row].mean() for row in rng.integers(4, size=(300, 4)))
    found = bootstrap_mean(values, seed=9, resamples=300)
    assert (found.lo, found.hi) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    values = np.random.default_rng(3).normal(size=30)
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_a_paired_gain_is_tighter_than_the_spread_of_the_scores() -> None:
    base = np.random.default_rng(4).normal(0, 5, size=(100, 1))
    found = paired_gain(base, base + 1.0)
    assert (found.value, found.lo, found.hi) == pytest.approx((1.0, 1.0, 1.0))


def test_gain_averages_samples_within_prompts() -> None:
    assert paired_gain([[0, 2], [4, 4]], [[3], [5]]).value == pytest.approx((2 + 1) / 2)


@pytest.mark.parametrize("bad", [[], [[]], [1.0, float("nan")]])
def test_a_bootstrap_of_nothing_or_nan_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="finite values of at least one prompt"):
        bootstrap_mean(bad)


def test_scores_of_different_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 and 3 prompts"):
        win_rate([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="3 and 2 prompts"):
        paired_gain([1, 2, 3], [1, 2])


@settings(max_examples=60, deadline=None)
@given(scores, st.randoms(use_true_random=False))
def test_pair_accuracy_agrees_with_brute_force(truth: list[int], random: object) -> None:
    said = [random.randint(-2, 2) for _ in truth]  # type: ignore[attr-defined]
    right, pairs = 0.0, 0
    for i, j in itertools.product(range(len(truth)), repeat=2):
        if truth[i] - truth[j] >= 2:
            pairs += 1
            right += 1.0 if said[i] > said[j] else 0.5 if said[i] == said[j] else 0.0
    found = pair_accuracy(said, truth, margin=2)
    assert found == pytest.approx(right / pairs) if pairs else np.isnan(found)


@settings(max_examples=40, deadline=None)
@given(scores)
def test_pearson_agrees_with_numpy(truth: list[int]) -> None:
    said = np.arange(len(truth)) ** 2
    if len(set(truth)) == 1:
        assert np.isnan(pearson(said, truth))
    else:
        assert pearson(said, truth) == pytest.approx(np.corrcoef(said, truth)[0, 1])


def test_an_interval_prints_and_becomes_plain() -> None:
    assert str(Interval(1.0, 0.5, 1.5)) == "+1.00 [+0.50, +1.50]"
    assert Interval(1.0, 0.5, 1.5).plain() == {"value": 1.0, "lo": 0.5, "hi": 1.5}
