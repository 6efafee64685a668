"""A person's delay, fitted."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.feedback.delays import FASTEST_S, FEWEST, SLOWEST_S, fit_delay
from textrl.tamer.delays import make_delay


@pytest.mark.parametrize(("shape", "scale"), [(20.0, 0.02), (8.0, 0.06), (60.0, 0.01)])
def test_it_finds_the_median_and_spread_that_made_the_data(shape: float, scale: float) -> None:
    rng = np.random.default_rng(0)
    delays = rng.gamma(shape, scale, 40)
    fit = fit_delay(delays)
    assert fit is not None
    true_median, true_sd = float(np.median(rng.gamma(shape, scale, 100_000))), shape**0.5 * scale
    # The median of 40 has a standard error of 1.25 sd / sqrt(40), about a fifth of the spread.
    assert abs(fit.median_s - true_median) < 0.6 * true_sd
    assert 0.6 * true_sd < fit.sd_s < 1.5 * true_sd


def test_a_fifth_of_wild_presses_hardly_moves_it() -> None:
    rng = np.random.default_rng(1)
    clean = rng.normal(0.5, 0.05, 20)
    wild = [0.0, 0.01, 9.0, 3.5, 2.8]
    fit, plain = fit_delay([*clean[:10], *wild, *clean[10:]]), fit_delay(clean)
    assert fit is not None
    assert plain is not None
    assert fit.dropped == 3
    assert abs(fit.median_s - plain.median_s) < 0.03
    assert abs(fit.sd_s - plain.sd_s) < 0.03


def test_four_presses_are_too_few() -> None:
    assert fit_delay([0.5] * (FEWEST - 1)) is None
    assert fit_delay([0.5] * (FEWEST - 1) + [0.01, 7.0]) is None
    assert fit_delay([0.5] * FEWEST) is not None


@settings(deadline=None)
@given(st.lists(st.floats(FASTEST_S, SLOWEST_S), min_size=FEWEST, max_size=60))
def test_half_of_the_fitted_density_lies_below_the_median(delays: list[float]) -> None:
    fit = fit_delay(delays)
    assert fit is not None
    density = make_delay(fit.settings)
    assert abs(float(density.cdf(fit.median_s)) - 0.5) < 0.03
    assert density.unit == "seconds"
