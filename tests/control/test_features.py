"""Features against numbers computed by hand, and properties of tile coding."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest
from control_world import box, mountain_car_space
from gymnasium.spaces import Box, Dict, Discrete
from hypothesis import given
from hypothesis import strategies as st

from textrl.config import build
from textrl.errors import UserError
from textrl.features import Features, FeatureSettings, SparseFeatures, make_features
from textrl.features.rbf import RBF


def features(kind: str, space: Any = None, **changes: Any) -> Features:
    settings = FeatureSettings(kind=kind, **changes)  # type: ignore[arg-type]
    return make_features(settings, mountain_car_space() if space is None else space)


def unit_square(count: int = 2) -> Box:
    return box([0.0] * count, [1.0] * count)


positions, velocities = st.floats(-1.2, 0.6), st.floats(-0.07, 0.07)
units = st.floats(0, 1, width=32)


def test_mountain_car_has_1601_features_of_the_published_width() -> None:
    rbf = features("rbf")
    assert isinstance(rbf, RBF)
    assert rbf.size == 40 * 40 + 1
    assert rbf.variance == pytest.approx(2 * 0.08 / 39)
    assert rbf.variance == pytest.approx(0.0041026, abs=5e-8)


def test_activations_add_up_to_the_sum_computed_by_hand() -> None:
    """A Gaussian summed over a grid of spacing h is sqrt(2 pi v) / h per dimension, far from the edges.

    h = 2 / 39 = .0512821 and v = .00410256: 3.13078 per dimension, 9.80178 for the grid, and the bias .1.
    """
    rbf = features("rbf")
    for position, velocity in ((-0.3, 0.0), (-0.41, 0.0123), (0.1, 0.01)):
        phi = rbf(np.array([position, velocity], np.float32))
        assert phi.sum() == pytest.approx(9.80178 + 0.1, abs=2e-5)
        assert phi[-1] == 0.1


def test_position_is_major_velocity_minor_and_the_bias_last() -> None:
    """On the centre (i, j) that bump is 1; one step away it is exp(-h^2 / 2v) = exp(-.320513) = .725777."""
    rbf = features("rbf")
    i, j = 7, 31
    phi = rbf(np.array([-1.2 + 1.8 * i / 39, -0.07 + 0.14 * j / 39]))
    assert phi[40 * i + j] == pytest.approx(1.0, abs=1e-9)
    for index in (40 * (i + 1) + j, 40 * (i - 1) + j, 40 * i + j + 1, 40 * i + j - 1):
        assert phi[index] == pytest.approx(0.725777, abs=1e-6)
    assert phi[40 * (i + 1) + j + 1] == pytest.approx(0.725777**2, abs=1e-6)


def test_the_largest_bump_of_a_state_computed_by_hand() -> None:
    """(.1, .01) is (4/9, 1/7) on [-1, 1]; the nearest centres are 28 and 22, .0085470 and .0146520 away.

    exp(-(.0085470^2 + .0146520^2) / .00820513) = exp(-.0350673) = .965540.
    """
    phi = features("rbf")(np.array([0.1, 0.01]))
    assert phi.argmax() == 28 * 40 + 22
    assert phi.max() == pytest.approx(0.965540, abs=1e-6)


def test_on_the_unit_span_the_variance_is_width_over_spacings() -> None:
    """Cart Pole's features: [0, 1], 8 per dimension, relative width .13."""
    rbf = features("rbf", unit_square(4), per_dimension=8, width=0.13, span="unit", bias=0.0)
    assert isinstance(rbf, RBF)
    assert rbf.size == 8**4
    assert rbf.variance == pytest.approx(0.13 / 7)
    phi = rbf(np.zeros(4)).reshape(8, 8, 8, 8)
    assert phi[0, 0, 0, 0] == 1.0
    assert phi[0, 0, 1, 0] == pytest.approx(math.exp(-0.5 * (1 / 7) ** 2 / (0.13 / 7)))
    assert phi[2, 0, 1, 0] == pytest.approx(math.exp(-0.5 * (5 / 49) / (0.13 / 7)))


def test_no_bump_is_subnormal_and_states_beyond_a_bound_count_as_on_it() -> None:
    rbf = features("rbf", per_dimension=60, width=0.001)
    corner = rbf(mountain_car_space().low)
    assert corner.min() > 1e-290
    assert np.array_equal(rbf(np.array([-3.0, -1.0])), corner)


def test_who_asks_for_the_same_bumps_about_the_same_state_gets_the_same_answer() -> None:
    """A learner, H and the eligibility module ask in turn; one computes, and nobody may spoil it."""
    one, two = (make_features(FeatureSettings(per_dimension=9), mountain_car_space()) for _ in range(2))
    assert one is two
    assert make_features(FeatureSettings(per_dimension=8), mountain_car_space()) is not one
    here, there = np.array([-0.5, 0.01], np.float32), np.array([0.1, -0.02], np.float32)
    first = one(here)
    assert one(here.copy()) is first
    expected = one.batch(np.stack([here, there]))
    assert np.array_equal(one(there), expected[1])
    assert np.array_equal(one(here), expected[0])
    with pytest.raises(ValueError, match="read-only"):
        one(here)[0] = 1.0
    here[0] = 0.3  # an environment that reuses its array
    assert np.array_equal(one(here), one.batch(here[None])[0])


def test_threads_share_the_bumps_without_harm() -> None:
    made = make_features(FeatureSettings(per_dimension=12), mountain_car_space())
    states = np.random.default_rng(0).uniform([-1.2, -0.07], [0.6, 0.07], (400, 2))
    expected, found = made.batch(states), {}

    def ask(number: int) -> None:
        found[number] = [made(state) for state in states[number::4]]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        np.testing.assert_allclose(np.stack(found[number]), expected[number::4], rtol=1e-13)


@pytest.mark.parametrize("kind", ["rbf", "tiles", "polynomial", "identity"])
@given(states=st.lists(st.tuples(positions, velocities), min_size=1, max_size=4))
def test_a_batch_is_its_states_one_by_one(kind: str, states: list[tuple[float, float]]) -> None:
    made = features(kind, per_dimension=5)
    stacked = np.array(states, np.float32)
    batch = made.batch(stacked)
    assert batch.shape == (len(states), made.size)
    assert batch.dtype == np.float64
    for row, state in zip(batch, stacked, strict=True):
        np.testing.assert_allclose(row, made(state), rtol=1e-13, atol=0)


@given(state=st.tuples(units, units, units), tilings=st.integers(1, 9), tiles=st.integers(1, 6))
def test_exactly_as_many_tiles_are_active_as_there_are_tilings(
    state: tuple[float, float, float], tilings: int, tiles: int
) -> None:
    made = features("tiles", unit_square(3), tilings=tilings, tiles=tiles)
    phi = made(np.array(state))
    assert made.size == tilings * (tiles + 1) ** 3
    assert set(phi) <= {0.0, 1.0}
    assert phi.sum() == tilings
    # One in each grid.
    assert (phi.reshape(tilings, -1).sum(1) == 1).all()
    assert isinstance(made, SparseFeatures)
    indices, values = made.active(np.array(state))
    assert sorted(indices) == list(phi.nonzero()[0])
    assert (values == 1).all()


@given(
    state=st.tuples(units, units),
    other=st.tuples(units, units),
    tilings=st.sampled_from([1, 2, 3, 5, 8]),
)
def test_tiles_generalise_to_near_states_only(
    state: tuple[float, float], other: tuple[float, float], tilings: int
) -> None:
    """Along one dimension a move by d tiles crosses a border of at most ceil(d * tilings) grids."""
    tiles = 6
    made = features("tiles", unit_square(), tilings=tilings, tiles=tiles)
    shared = float(made(np.array(state)) @ made(np.array(other)))
    apart = [abs(a - b) * tiles for a, b in zip(state, other, strict=True)]
    if max(apart) > 1 + 1e-9:
        assert shared == 0
    assert shared >= tilings - sum(math.ceil(d * tilings + 1e-9) for d in apart)


@pytest.mark.parametrize("dimension", [0, 1, 2])
@given(state=st.tuples(units, units, units), steps=st.integers(0, 7))
def test_the_grids_cut_a_tile_evenly_along_each_dimension(
    dimension: int, state: tuple[float, float, float], steps: int
) -> None:
    """A move by k / tilings of a tile crosses a border of exactly k grids."""
    made = features("tiles", unit_square(3), tilings=8, tiles=4)
    here = (np.floor(np.array(state) * 31) + 0.5) / 32  # between two borders
    moved = here.copy()
    moved[dimension] += steps / 32
    if moved[dimension] <= 1:
        assert float(made(here) @ made(moved)) == 8 - steps


def test_monomials_by_degree() -> None:
    """(.75, .25) on [0, 1]: x, y, x^2, xy, y^2, bias."""
    made = features("polynomial", unit_square(), degree=2, span="unit")
    expected = [0.75, 0.25, 0.5625, 0.1875, 0.0625, 0.1]
    np.testing.assert_allclose(made(np.array([0.75, 0.25])), expected, rtol=1e-12)
    symmetric = features("polynomial", unit_square(), degree=2, bias=0.0)
    np.testing.assert_allclose(symmetric(np.array([0.75, 0.25])), [0.5, -0.5, 0.25, -0.25, 0.25])


def test_identity_and_one_hot() -> None:
    unbounded = Box(-np.inf, np.inf, (2,))
    np.testing.assert_allclose(features("identity", unbounded)(np.array([3.0, -4.0])), [3.0, -4.0, 0.1])
    one_hot = features("one_hot", Discrete(3, start=5))
    assert one_hot(np.int64(6)).tolist() == [0.0, 1.0, 0.0]
    assert one_hot.batch([5, 7]).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize(
    ("kind", "space", "changes", "message"),
    [
        ("rbf", Box(-np.inf, np.inf, (2,)), {}, r"low is -inf in dimension 0; give the features' 'low'"),
        ("tiles", box([-1, -3.4e38], [1, 3.4e38]), {}, r"dimension 1; give the features' 'low' and 'high'"),
        ("rbf", Discrete(4), {}, r"use kind: one_hot"),
        ("rbf", Box(0, 1, (2, 2)), {}, r"FlattenObservation"),
        ("rbf", Dict(a=Discrete(2)), {}, r"one-dimensional Box"),
        ("one_hot", box([0], [1]), {}, r"need Discrete observations"),
        ("rbf", None, {"low": (0.0,)}, r"'low' has 1 entries, but observations have 2"),
        ("rbf", None, {"low": (0.0, 5.0)}, r"low is 5 in dimension 1, not below high, which is 0.07"),
        ("rbf", box([0] * 6, [1] * 6), {}, r"per_dimension: 40 makes 4.1e\+09 features over 6 dimensions"),
        ("tiles", box([0] * 9, [1] * 9), {}, r"8 tilings of 8 tiles"),
        ("fourier", None, {}, r"no features 'fourier'"),
    ],
)
def test_features_that_do_not_fit_say_why(
    kind: str, space: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        features(kind, space, **changes)


def test_given_bounds_replace_those_of_the_space() -> None:
    made = features("rbf", Box(-np.inf, np.inf, (1,)), per_dimension=3, low=(-1.0,), high=(1.0,))
    assert made(np.array([0.0], np.float32)).argmax() == 1


@pytest.mark.parametrize(
    ("data", "key"),
    [
        ({"per_dimension": 1}, "per_dimension"),
        ({"width": 0.0}, "width"),
        ({"bias": -0.1}, "bias"),
        ({"tilings": 0}, "tilings"),
        ({"low": [0.0], "high": [1.0, 2.0]}, "low"),
        ({"low": [1.0], "high": [1.0]}, "low"),
        ({"kind": "fourier"}, "kind"),
    ],
)
def test_settings_refuse_what_cannot_work(data: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=rf"config.*'{key}'"):
        build(FeatureSettings, data, where=lambda place: f"config, {place}")
