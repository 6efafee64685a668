from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from textrl.evaluation.reward_models.resampling import Share, Shares, wilson


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipys(case: tuple[int, int]) -> None:
    right, n = case
    theirs = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def found(values: np.ndarray, first: np.ndarray, second: np.ndarray | None = None, seed: int = 0) -> Share:
    shares = Shares(first, second, seed=seed, resamples=600)
    shares.add("it", values, np.ones(len(values)))
    return shares.get("it")


def test_copies_of_pairs_within_a_prompt_make_no_interval_narrower() -> None:
    rng = np.random.default_rng(0)
    right, prompt = (rng.random(80) < 0.7).astype(float), np.arange(80) // 2
    once = found(right, prompt)
    often = found(np.repeat(right, 20), np.repeat(prompt, 20))
    assert (often.value, often.lo, often.hi) == pytest.approx((once.value, once.lo, once.hi))
    careless = wilson(20 * right.sum(), 20 * 80)
    assert once.lo is not None
    assert once.hi is not None
    assert once.hi - once.lo > 3 * (careless[1] - careless[0])


def test_the_bootstrap_equals_its_definition_by_explicit_copies() -> None:
    rng = np.random.default_rng(3)
    values, prompt = rng.random(12), np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 4, 4])
    shares = Shares(prompt, seed=5, resamples=50)
    shares.add("it", values, np.ones(12))
    drawn = np.random.default_rng(5).integers(5, size=(50, 5))
    expected = [np.concatenate([values[prompt == c] for c in row]).mean() for row in drawn]
    assert shares._samples()["it"] == pytest.approx(expected)


def test_pairs_of_texts_are_drawn_by_their_texts() -> None:
    rng = np.random.default_rng(4)
    one, two = np.triu_indices(6, 1)
    values = rng.random(len(one))
    table = np.zeros((6, 6))
    table[one, two] = table[two, one] = values
    shares = Shares(one, two, seed=7, resamples=40)
    shares.add("it", values, np.ones(len(one)))
    expected = []
    for row in np.random.default_rng(7).integers(6, size=(40, 6)):
        # All pairs of drawn texts, but a text is not compared with its own copies.
        some = [table[a, b] for i, a in enumerate(row) for b in row[:i] if a != b]
        expected.append(np.mean(some))
    assert shares._samples()["it"] == pytest.approx(expected)


def test_the_interval_of_pairs_of_texts_is_as_wide_as_new_texts_differ() -> None:
    def accuracy(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=60)
        score = truth + rng.normal(size=60)
        one, two = np.triu_indices(60, 1)
        return ((truth[one] - truth[two]) * (score[one] - score[two]) > 0).astype(float), one, two

    spread = np.std([accuracy(seed)[0].mean() for seed in range(1, 301)])
    widths = []
    for seed in range(6):
        share = found(*accuracy(seed))
        assert share.lo is not None
        assert share.hi is not None
        widths.append((share.hi - share.lo) / (2 * 1.96))
    assert np.mean(widths) == pytest.approx(spread, rel=0.25)


def test_independent_pairs_get_wilsons_interval_and_certainty_is_never_claimed() -> None:
    share = found(np.array([1.0, 0, 1, 1]), np.arange(4))
    assert (share.lo, share.hi) == pytest.approx(wilson(3, 4))
    # 40 pairs of 10 prompts, all right: as sure as 10 prompts make it.
    share = found(np.ones(40), np.arange(40) // 4)
    assert share.value == 1.0
    assert (share.lo, share.hi) == pytest.approx(wilson(10, 10))


def test_one_prompt_gives_no_interval_and_no_pair_gives_no_figure() -> None:
    assert found(np.array([1.0, 0.0]), np.zeros(2)) == Share(0.5, None, None, 2.0)
    shares = Shares(np.arange(3))
    shares.add("none", np.ones(3), np.zeros(3))
    assert shares.get("none") == Share(None, None, None, 0)


def test_a_mean_of_shares_is_resampled_together() -> None:
    rng = np.random.default_rng(0)
    right, prompt = (rng.random(300) < 0.7).astype(float), np.arange(300) // 3
    shares = Shares(prompt, resamples=400)
    shares.add("a", right, np.arange(300) % 2 == 0)
    shares.add("b", 1 - right, np.arange(300) % 2 == 1)
    shares.add_mean("both", "a", "b")
    both, a, b = shares.get("both"), shares.get("a"), shares.get("b")
    assert both.value == pytest.approx((a.value + b.value) / 2)  # type: ignore[operator]
    assert both.lo < both.value < both.hi  # type: ignore[operator]
    with pytest.raises(ValueError, match="asked for already"):
        shares.add("a", right, right)


def test_a_difference_may_be_negative_and_gets_no_wilson_interval() -> None:
    shares = Shares(np.arange(50), resamples=400)
    shares.add("d", np.tile([-1.0, 0.0], 25), np.ones(50), difference=True)
    share = shares.get("d")
    assert share.value == -0.5
    assert share.lo == pytest.approx(-0.64, abs=0.04)
    assert share.hi == pytest.approx(-0.36, abs=0.04)
