"""What fades never becomes subnormal, however long it fades: traces, eligibilities, weights, beta."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from control_world import Floats, box, mountain_car, mountain_car_space
from gymnasium.spaces import Discrete
from hypothesis import given
from hypothesis import strategies as st

from textrl.advice.betas import Annealed, Eligibility, EligibilitySettings
from textrl.features import FeatureSettings, make_features
from textrl.features.fading import LEAST_FEATURE, LEAST_STEP, NOTHING, Fading, sweep
from textrl.learners.sarsa import Sarsa, SarsaSettings
from textrl.learners.sarsa.linear import LinearQ
from textrl.learners.sarsa.sparse import SparseQ
from textrl.tamer.models import Encoder, LinearH

TINY = float(np.finfo(np.float64).tiny)


def normal(values: Any) -> bool:
    """Whether no number is subnormal."""
    sizes = np.abs(np.asarray(values))
    return bool(((sizes == 0) | (sizes >= TINY)).all())


@given(
    factors=st.lists(st.sampled_from([0.0, 1e-300, 1e-3, 0.1, 0.5, 0.84, 0.9998, 1.0]), max_size=300),
    start=st.floats(1e-139, 1.0),
)
def test_numbers_that_are_swept_in_time_stay_normal(factors: list[float], start: float) -> None:
    fading, values = Fading(), np.array([start, 1.0, -start])
    for factor in factors:
        before = values.copy()
        values *= factor
        if fading.by(factor):
            sweep(values)
        # A factor that takes a number there in one step is not to be helped; none after it meets it.
        assert normal(values) or not normal(before * factor)
        assert fading.left > 1e-10
    assert normal(values)


def test_where_nothing_fades_nothing_is_swept() -> None:
    fading = Fading()
    assert not any(fading.by(1.0) for _ in range(10_000))
    assert not any(fading.by(0.0) for _ in range(10_000))
    assert sum(fading.by(0.84) for _ in range(13_300)) == 100  # .84^133 = 1e-10


@pytest.mark.parametrize("traces", ["replacing", "accumulating"])
@pytest.mark.parametrize("decay", [1e-3, 0.1, 0.5, 0.84, 0.99])
def test_traces_of_an_endless_episode_stay_normal(decay: float, traces: Any) -> None:
    """A visit every 50 steps, elsewhere nothing: the numbers of an episode of any length."""
    space = mountain_car_space()
    features = make_features(FeatureSettings(per_dimension=10, width=0.01), space)
    dense = LinearQ(3, features.size, decay=decay, traces=traces)
    sparse = SparseQ(3, features.size, decay=decay, traces=traces)
    rng, empty = np.random.default_rng(0), np.zeros(features.size)
    nowhere = (np.zeros(0, np.int64), np.zeros(0))
    seen = False
    for step in range(4000):
        visited = step < 400 and step % 50 == 0
        phi = features(rng.uniform(space.low, space.high)) if visited else empty
        dense.visit(phi, step % 3)
        sparse.visit((np.arange(10), phi[:10]) if visited else nowhere, step % 3)
        for table in (dense, sparse):
            table.update(0.1)
            assert normal(table.traces)
        assert normal(dense.traces * 0.1)
        seen = seen or bool(dense.traces.any())
    assert seen
    assert normal(dense.weights)
    if decay < 0.9:
        assert not dense.traces.any(), "all that faded is gone"
        assert not sparse.traces.any()


@pytest.mark.parametrize("decay", [0.1, 0.84])
def test_a_sweep_changes_no_weight(decay: float) -> None:
    rng, swept, kept = np.random.default_rng(1), LinearQ(1, 6, decay=decay), np.zeros((2, 6))
    for _ in range(3000):
        phi = np.zeros(6)
        if rng.random() < 0.01:
            phi[rng.integers(6)] = 1.0
        step = float(rng.normal())
        swept.visit(phi, 0)
        swept.update(step)
        kept[0] = np.maximum(kept[0] * decay, phi)
        kept[1] += step * kept[0]
    assert np.array_equal(swept.weights[0], kept[1])


def test_where_every_reward_is_0_the_weights_stop_short_of_nothing() -> None:
    """Without reward the values halve for ever: after a million such steps nothing is slow."""
    table, phi = LinearQ(1, 2, decay=0.0, initial_weight=1.0), np.array([1.0, 0.0])
    for _ in range(5000):
        table.visit(phi, 0)
        table.update(0.5 * -table.value(phi, 0))
        assert normal(table.weights)
    assert 0 < abs(table.value(phi, 0)) < 1e-100


def test_a_learner_keeps_every_number_normal() -> None:
    """The features of the papers on the car, with short and long traces; products with features too."""
    for lam in (0.1, 0.84):
        made = Sarsa(mountain_car(500), SarsaSettings(lam=lam, gamma=0.9, initial_weight=0.0))
        made.learn(total_timesteps=2500)
        states = np.random.default_rng(0).uniform([-1.2, -0.07], [0.6, 0.07], (200, 2))
        assert normal(made.linear.traces)
        assert normal(made.linear.weights)
        with np.errstate(under="raise"):
            for phi in made.features.batch(states):
                np.multiply(made.linear.weights, phi)


def test_h_learns_silence_for_ever_and_stays_normal() -> None:
    car, discrete = mountain_car_space(), Discrete(2)
    cases: list[tuple[Any, Any, Any]] = [("rbf", car, np.array([-0.5, 0.01])), ("one_hot", discrete, 1)]
    for kind, space, state in cases:
        features = make_features(FeatureSettings(kind=kind), space)
        model = LinearH(Encoder(features), 1, 0.4)
        model.learn(state, 0, 1.0)
        assert model.predict(state)[0] > 0.1
        for _ in range(3000):
            model.learn(state, 0, 0.0)
        assert abs(model.predict(state)[0]) < (1e-20 if kind == "rbf" else 1e-100)
        with np.errstate(under="raise"):
            np.multiply(model.weights, features(state))
        assert normal(model.weights)


def module(**changes: Any) -> Eligibility:
    features = FeatureSettings(per_dimension=10)
    made = make_features(features, mountain_car_space())
    return Eligibility(made, EligibilitySettings(features=features, **changes), scale=2.0, n_actions=3)


def drive(made: Eligibility, steps: int, *, training: bool, seed: int = 0) -> list[Floats]:
    rng, betas = np.random.default_rng(seed), []
    for step in range(steps):
        state = rng.uniform([-1.2, -0.07], [0.6, 0.07])
        made.step(state, step % 3, training=training)
        betas.append(np.asarray(made.beta(state)))
        if step % 40 == 39:
            made.end_episode()
    return betas


@pytest.mark.parametrize(
    ("decay", "between", "steps"), [(0.3, 1.0, 400), (0.9, 1e-30, 400), (0.97, 0.5, 8000), (1.0, 1e-200, 100)]
)
def test_eligibilities_stay_normal_and_end_at_nothing(decay: float, between: float, steps: int) -> None:
    made = module(decay=decay, episode_decay=between)
    taught = drive(made, 100, training=True)
    assert max(beta.max() for beta in taught) > 0.01
    with np.errstate(under="raise"):
        left = drive(made, steps, training=False, seed=1)
    assert normal(made.e)
    assert all(normal(beta) for beta in left)
    assert not left[-1].any()
    assert not made.e.any()


def test_a_restored_module_sweeps_when_the_other_does() -> None:
    one, two = module(decay=0.5), module(decay=0.5)
    drive(one, 50, training=True)
    drive(one, 47, training=False)
    assert one.state_dict()["left"] < 1e-5
    two.load_state_dict(one.state_dict())
    for _ in range(500):
        for made in (one, two):
            made.decay()
        assert np.array_equal(one.e, two.e)
    assert not one.e.any()


def test_an_annealed_weight_ends_at_0() -> None:
    beta, seen = Annealed(100.0, 0.5), []
    for _ in range(600):
        beta.end_episode()
        seen.append(beta.beta)
    assert normal(seen)
    assert seen[-1] == 0.0
    assert min(value for value in seen if value) >= NOTHING


def test_the_limits_leave_room_for_their_products() -> None:
    smallest_trace = NOTHING * 1e-10
    pairs = ((smallest_trace, LEAST_STEP), (smallest_trace, LEAST_FEATURE), (LEAST_FEATURE**2, LEAST_STEP))
    for one, other in pairs:
        assert one * other > 1e10 * TINY
    for dimensions in (1, 2, 3, 4):
        settings = FeatureSettings(per_dimension=7, width=1e-4, bias=0.0)
        made = make_features(settings, box([0.0] * dimensions, [1.0] * dimensions))
        assert made(np.zeros(dimensions)).min() == pytest.approx(LEAST_FEATURE, rel=1e-6)
