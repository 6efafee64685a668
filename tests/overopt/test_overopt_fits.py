"""The laws are found again from points on them, and their peaks are where calculus puts them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.evaluation.overopt.fits import FORMS, Fit, Form, fit

D = np.linspace(0.0, 6.0, 40)


@settings(deadline=None)  # the first call imports, on a busy machine slowly
@given(st.sampled_from(FORMS), st.floats(-3, 3), st.floats(-2, 2))
def test_a_law_is_found_again_from_its_own_points(form: Form, alpha: float, beta: float) -> None:
    law = Fit(form, alpha, beta, 1.0, 0.0, 0)
    found = fit(form, D, law.at(D))
    assert (found.alpha, found.beta) == pytest.approx((alpha, beta), abs=1e-8)
    assert found.points == 39  # the one at d = 0 says nothing


@pytest.mark.parametrize(
    ("form", "value"), [("best_of_n", 2 * (1.5 - 0.25 * 2)), ("rl", 2 * (1.5 - 0.25 * math.log(2)))]
)
def test_a_law_by_hand(form: Form, value: float) -> None:
    assert Fit(form, 1.5, 0.25, 1.0, 0.0, 0).at([0.0, 2.0]).tolist() == pytest.approx([0.0, value])


@settings(deadline=None)  # the first call imports, on a busy machine slowly
@given(st.sampled_from(FORMS), st.floats(0.1, 3), st.floats(0.2, 2))
def test_a_peak_is_the_highest_point(form: Form, alpha: float, beta: float) -> None:
    law = Fit(form, alpha, beta, 1.0, 0.0, 0)
    assert law.peak is not None
    around = law.at([law.peak * 0.99, law.peak, law.peak * 1.01])
    assert around[1] >= max(around[0], around[2])


def test_a_law_that_never_turns_has_no_peak() -> None:
    assert Fit("best_of_n", 1.0, -0.1, 1.0, 0.0, 0).peak is None
    assert Fit("best_of_n", -1.0, 0.1, 1.0, 0.0, 0).peak is None
    assert Fit("rl", 1.0, 0.0, 1.0, 0.0, 0).peak is None
    assert Fit("rl", 1.0, 1e-6, 1.0, 0.0, 0).peak is None  # beyond any float


def test_noise_lowers_r2_and_leaves_the_law_near() -> None:
    noise = np.random.default_rng(0).normal(scale=0.1, size=len(D))
    found = fit("rl", D, Fit("rl", 1.0, 0.4, 1.0, 0.0, 0).at(D) + noise)
    assert found.alpha == pytest.approx(1.0, abs=0.05)
    assert 0.5 < found.r2 < 1.0
    assert found.rmse == pytest.approx(0.1, rel=0.4)


@pytest.mark.parametrize("d", [[0.0, 1.0, 2.0], [-1.0, 1.0, 2.0], [1.0, 2.0, math.nan]])
def test_too_few_points_or_bad_ones_are_refused(d: list[float]) -> None:
    with pytest.raises(ValueError, match="fit"):
        fit("rl", d, [0.0, 1.0, 2.0])
