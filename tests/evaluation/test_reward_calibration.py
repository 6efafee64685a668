from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from textrl.evaluation.reward_models.calibration import (
    best_scale,
    calibration,
    expected_error,
    log_loss,
    reliability,
    sigmoid,
)


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def drawn(count: int, scale: float, seed: int = 0) -> np.ndarray:
    """Gaps whose true probabilities are sigmoid(gap / scale)."""
    rng = np.random.default_rng(seed)
    size = np.abs(rng.normal(0, 2, count))
    right = rng.random(count) < 1 / (1 + np.exp(-size / scale))
    return np.where(right, size, -size)


def test_error_by_hand() -> None:
    # Five pairs of confidence .6 of which 3 are right, five of .9 of which 3 are right: (0 + .3) / 2.
    gaps = np.array([logit(0.6)] * 3 + [-logit(0.6)] * 2 + [logit(0.9)] * 3 + [-logit(0.9)] * 2)
    bins = reliability(gaps, 2)
    assert [(round(b.confidence, 9), b.accuracy, b.n) for b in bins] == [(0.6, 0.6, 5), (0.9, 0.6, 5)]
    assert expected_error(bins) == pytest.approx(0.15)


def test_losses_by_hand() -> None:
    found = calibration([logit(0.8), -logit(0.8)])
    assert found is not None
    assert found.log_loss == pytest.approx(-(math.log(0.8) + math.log(0.2)) / 2)
    assert found.brier == pytest.approx((0.2**2 + 0.8**2) / 2)
    assert found.accuracy == 0.5
    assert found.confidence == pytest.approx(0.8)
    assert calibration([]) is None


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_scale_is_a_logistic_regressions(scale: float) -> None:
    gaps = drawn(600, scale)
    # Both orders of every pair, so that the outcome varies; no intercept, hardly any penalty.
    features, outcome = np.concatenate([gaps, -gaps])[:, None], np.repeat([1, 0], len(gaps))
    regression = LogisticRegression(fit_intercept=False, C=1e9, tol=1e-9).fit(features, outcome)
    assert best_scale(gaps) == pytest.approx(float(regression.coef_[0, 0]), rel=1e-3)
    assert best_scale(gaps) == pytest.approx(1 / scale, rel=0.25)


def test_a_calibrated_model_errs_as_chance_does_and_a_bold_one_more() -> None:
    honest, bold = calibration(drawn(3000, 1.0)), calibration(drawn(3000, 3.0))
    assert honest is not None
    assert bold is not None
    assert honest.ece <= honest.ece_chance_high
    assert bold.ece > 3 * bold.ece_chance_high
    assert bold.confidence > bold.accuracy + 0.05
    assert bold.scaled_ece < bold.ece / 3
    assert bold.scaled_log_loss < bold.log_loss


def test_gaps_that_are_always_right_or_on_the_whole_wrong_have_no_finite_scale() -> None:
    assert best_scale(np.array([1.0, 2.0])) * math.sqrt(2.5) == pytest.approx(100.0)
    assert best_scale(np.array([-1.0, -2.0, 0.5])) == 0.0
    assert best_scale(np.zeros(3)) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-800, 800), min_size=1, max_size=40))
def test_extreme_gaps_stay_finite_and_every_pair_is_in_one_bin(gaps: list[float]) -> None:
    found = calibration(gaps, simulations=5)
    assert found is not None
    assert sum(one.n for one in found.bins) == len(gaps)
    assert all(math.isfinite(v) for v in (found.ece, found.log_loss, found.scale, found.scaled_log_loss))
    assert found.scaled_log_loss <= found.log_loss + 1e-9
    assert log_loss(np.array(gaps) * 0) == pytest.approx(math.log(2))
    assert ((sigmoid(np.array(gaps)) >= 0) & (sigmoid(np.array(gaps)) <= 1)).all()
