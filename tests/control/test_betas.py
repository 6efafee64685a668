"""The weights of advice: annealed, and from the eligibility module."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from control_world import box, mountain_car_space
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st

from textrl.advice.betas import Annealed, Eligibility, EligibilitySettings
from textrl.config import build
from textrl.errors import UserError
from textrl.features import FeatureSettings, make_features


def module(
    kind: str = "rbf", space: Any = None, *, n_actions: int | None = 3, scale: float = 100.0, **changes: Any
) -> Eligibility:
    features = FeatureSettings(kind=kind, per_dimension=6)  # type: ignore[arg-type]
    settings = EligibilitySettings(features=features, **changes)
    made = make_features(features, mountain_car_space() if space is None else space)
    return Eligibility(made, settings, scale=scale, n_actions=n_actions)


def test_annealing_multiplies_after_every_episode() -> None:
    beta = Annealed(100.0, 0.98)
    for _ in range(3):
        beta.end_episode()
    assert beta.beta == pytest.approx(100.0 * 0.98**3)


states = st.tuples(st.floats(-1.2, 0.6), st.floats(-0.07, 0.07))


@given(state=states, scale=st.floats(0.01, 300.0), n_actions=st.sampled_from([None, 1, 3]))
def test_full_eligibility_gives_the_scale_exactly(
    state: tuple[float, float], scale: float, n_actions: int | None
) -> None:
    made = module(scale=scale, n_actions=n_actions)
    made.load_state_dict({"e": np.ones_like(made.e)})
    beta = made.beta(np.array(state))
    assert np.all(np.asarray(beta) == scale)
    assert np.shape(beta) == (() if n_actions is None else (n_actions,))


@given(
    walk=st.lists(st.tuples(states, st.integers(0, 2), st.booleans()), max_size=30),
    growth=st.floats(0, 1),
    decay=st.floats(0, 1),
    kind=st.sampled_from(["rbf", "tiles"]),
    per_action=st.booleans(),
)
def test_beta_stays_between_0_and_the_scale(
    walk: list[tuple[tuple[float, float], int, bool]],
    growth: float,
    decay: float,
    kind: str,
    per_action: bool,
) -> None:
    made = module(kind, n_actions=3 if per_action else None, scale=2.0, growth=growth, decay=decay)
    for state, action, training in walk:
        made.step(np.array(state), action, training=training)
        assert made.e.min() >= 0
        assert made.e.max() <= 1
        for seen, _, _ in walk:
            beta = np.asarray(made.beta(np.array(seen)))
            assert beta.min() >= 0
            assert beta.max() <= 2.0


def test_growth_and_decay_by_hand() -> None:
    """One feature per state: e grows by .25 where a step is trained, is at most 1, then halves."""
    made = module("one_hot", Discrete(2), n_actions=2, scale=8.0, growth=0.25, decay=0.5, episode_decay=0.1)
    made.step(0, 1, training=False)
    assert made.e.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    made.step(0, 1, training=True)  # (0 + .25) / 2
    assert made.e.tolist() == [[0.0, 0.0], [0.125, 0.0]]
    assert np.asarray(made.beta(0)).tolist() == [0.0, 1.0]
    assert np.asarray(made.beta(1)).tolist() == [0.0, 0.0]
    made.step(1, 0, training=True)
    assert made.e.tolist() == [[0.0, 0.125], [0.0625, 0.0]]
    made.step(1, 0, training=False)  # nothing grows, all decays
    assert made.e.tolist() == [[0.0, 0.0625], [0.03125, 0.0]]
    made.end_episode()
    np.testing.assert_allclose(made.e, [[0.0, 0.00625], [0.003125, 0.0]])
    for _ in range(50):
        made.grow(0, 0)
    assert made.e[0, 0] == 1.0


def test_growth_weighs_by_the_feature_and_leaves_the_bias_out() -> None:
    made = module(growth=0.2, decay=1.0)
    phi = make_features(FeatureSettings(per_dimension=6), mountain_car_space())(np.array([-0.5, 0.01]))
    made.step(np.array([-0.5, 0.01]), 2, training=True)
    assert made.e.shape == (3, 36)
    np.testing.assert_allclose(made.e[2], 0.2 * phi[:-1])
    assert not made.e[:2].any()
    expected = 100.0 * (0.2 * phi[:-1]) @ phi[:-1] / phi[:-1].sum()
    assert np.asarray(made.beta(np.array([-0.5, 0.01])))[2] == pytest.approx(expected)


def test_the_state_form_does_not_ask_for_the_action() -> None:
    one, two = module(n_actions=None), module(n_actions=None)
    one.step(np.array([-0.5, 0.01]), 0, training=True)
    two.step(np.array([-0.5, 0.01]), 2, training=True)
    assert one.beta(np.array([-0.4, 0.0])) == two.beta(np.array([-0.4, 0.0]))
    assert isinstance(one.beta(np.array([-0.4, 0.0])), float)


def test_a_state_dict_continues() -> None:
    one, two = module(), module()
    one.step(np.array([-0.5, 0.01]), 0, training=True)
    two.load_state_dict(one.state_dict())
    for made in (one, two):
        made.step(np.array([-0.4, 0.02]), 1, training=False)
    assert np.array_equal(one.e, two.e)


def test_features_below_0_are_refused() -> None:
    with pytest.raises(UserError, match="features in \\[0, 1\\], not those of Identity"):
        module("identity", Box(-1, 1, (2,)))
    with pytest.raises(UserError, match="Polynomial"):
        module("polynomial", box([0, 0], [1, 1]))


def test_settings_refuse_what_cannot_work() -> None:
    with pytest.raises(UserError, match=r"growth is 2.0; it must be between 0 and 1"):
        build(EligibilitySettings, {"growth": 2.0}, where=lambda place: place)
