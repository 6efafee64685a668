"""Delay distributions against closed forms and numerical integration."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.errors import UserError
from textrl.settings import build, to_plain
from textrl.tamer.delays import Empirical, Gamma, PreviousStep, Uniform, make_delay
from textrl.tamer.settings import DelaySettings


@st.composite
def delays(draw):
    kind = draw(st.sampled_from(["uniform", "gamma", "empirical"]))
    if kind == "uniform":
        low = draw(st.floats(0, 2))
        return Uniform(low, low + draw(st.floats(0.01, 4)))
    if kind == "gamma":
        return Gamma(draw(st.floats(0.5, 6)), draw(st.floats(0.05, 1)))
    count = draw(st.integers(2, 6))
    gaps = draw(st.lists(st.floats(0.01, 1), min_size=count, max_size=count))
    steps = draw(st.lists(st.floats(0.01, 1), min_size=count - 1, max_size=count - 1))
    values = np.concatenate([[0.0], np.cumsum(steps) / np.sum(steps)])
    values[-1] = 1.0
    return Empirical(tuple(np.cumsum(gaps).tolist()), tuple(values.tolist()))


@given(delays())
def test_a_distribution_rises_from_0_to_1_and_nobody_foresees(delay):
    t = np.linspace(-1, 60, 3001)
    f = delay.cdf(t)
    assert (f[t <= 0] == 0).all()
    assert (np.diff(f) >= 0).all()
    assert f[-1] == pytest.approx(1, abs=1e-6)
    assert delay.cdf(-np.inf) == 0
    assert (delay.cdf_integral(t)[t <= 0] == 0).all()


@settings(deadline=None)
@given(delays(), st.floats(0, 12))
def test_the_integral_is_the_area_under_the_distribution(delay, t):
    middles = (np.arange(20_000) + 0.5) * t / 20_000
    assert float(delay.cdf_integral(t)) == pytest.approx(delay.cdf(middles).mean() * t, abs=2e-4)


def test_uniform_by_hand():
    delay = Uniform(0.2, 0.8)
    np.testing.assert_allclose(delay.cdf([0.0, 0.2, 0.35, 0.5, 0.8, 2.0]), [0, 0, 0.25, 0.5, 1, 1])
    # A triangle of width .3 and height .5; then the whole one (.6 x 1 / 2), then a rectangle.
    np.testing.assert_allclose(delay.cdf_integral([0.2, 0.5, 0.8, 1.8]), [0, 0.075, 0.3, 1.3])


@pytest.mark.parametrize("t", [0.01, 0.3, 1.0, 4.0])
def test_gamma_against_closed_forms(t):
    x = t / 0.28
    assert float(Gamma(1.0, 0.28).cdf(t)) == pytest.approx(1 - math.exp(-x), abs=1e-14)
    assert float(Gamma(2.0, 0.28).cdf(t)) == pytest.approx(1 - math.exp(-x) * (1 + x), abs=1e-14)
    # The integral of 1 - exp(-x) (1 + x) is x - 2 + exp(-x) (2 + x).
    expected = 0.28 * (x - 2 + math.exp(-x) * (2 + x))
    assert float(Gamma(2.0, 0.28).cdf_integral(t)) == pytest.approx(expected, abs=1e-13)


def test_gamma_has_its_mean():
    # The mean of a non-negative variable is the area above F.
    assert 50 - float(Gamma(2.0, 0.28).cdf_integral(50)) == pytest.approx(0.56)


def test_previous_step_counts_in_steps():
    delay = PreviousStep()
    assert delay.unit == "steps"
    np.testing.assert_array_equal(delay.cdf([-1, 0, 0.99, 1, 2]), [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(delay.cdf_integral([0, 1, 3.5]), [0, 0, 2.5])


def test_empirical_by_hand():
    delay = Empirical((0.2, 0.4, 1.0), (0.0, 0.5, 1.0))
    np.testing.assert_allclose(delay.cdf([0.1, 0.3, 0.4, 0.7, 3.0]), [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(delay.cdf_integral([0.2, 0.4, 1.0, 2.0]), [0, 0.05, 0.5, 1.5])


def test_an_empirical_delay_is_fitted_to_measured_ones():
    measured = np.random.default_rng(0).uniform(0.3, 0.9, size=4000)
    fitted = Empirical.fit(measured)
    t = np.linspace(0, 1.2, 50)
    np.testing.assert_allclose(fitted.cdf(t), Uniform(0.3, 0.9).cdf(t), atol=0.03)


def test_of_equal_measurements_every_level_counts():
    fitted = Empirical.fit([0.2, 0.5, 0.5, 0.5, 0.8], points=5)
    assert fitted.times == (0.2, 0.5, 0.8)
    assert fitted.values == (0.0, 0.75, 1.0)
    with pytest.raises(ValueError, match="latencies are all the same"):
        Empirical.fit([0.4, 0.4])


@pytest.mark.parametrize(
    ("section", "delay"),
    [
        ({}, Uniform(0.2, 0.8)),
        ({"low": 0.2, "high": 4.0}, Uniform(0.2, 4.0)),
        ({"kind": "gamma"}, Gamma(2.0, 0.28)),
        ({"kind": "previous_step"}, PreviousStep()),
        ({"kind": "empirical", "times": [0.1, 0.2], "cdf": [0, 1]}, Empirical((0.1, 0.2), (0.0, 1.0))),
    ],
)
def test_settings_name_a_delay(section, delay):
    built = build(DelaySettings, section, where=lambda key: key)
    assert make_delay(built) == delay
    assert build(DelaySettings, to_plain(built), where=lambda key: key) == built


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"low": 0.8, "high": 0.8}, "high is 0.8 and low 0.8"),
        ({"low": -0.1}, "low -0.1"),
        ({"kind": "gamma", "shape": 0.0}, "shape is 0.0"),
        ({"kind": "empirical"}, "times is empty"),
        ({"kind": "empirical", "times": [0.1], "cdf": [0.0, 1.0]}, "times has 1 and cdf 2"),
        ({"kind": "empirical", "times": [0.2, 0.1], "cdf": [0, 1]}, "times is .*must increase"),
        ({"kind": "empirical", "times": [0.1, 0.2], "cdf": [0, 0.9]}, "cdf is .*from 0 to 1"),
        ({"kind": "uniforn"}, "'uniform'"),
    ],
)
def test_what_is_no_distribution_is_refused(section, message):
    with pytest.raises(UserError, match=message):
        build(DelaySettings, section, where=lambda key: f"here, {key}")
