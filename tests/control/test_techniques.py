"""The four techniques on one state, and which learner takes which."""

from __future__ import annotations

import numpy as np
import pytest

from textrl.advice.techniques import augmented, check_accepts, greedy, shaped, shares
from textrl.errors import UserError
from textrl.specs import LearnerSpec

Q, H = np.array([1.0, -2.0, 0.5]), np.array([-1.0, 3.0, 0.25])


def test_the_formulas_by_hand() -> None:
    assert augmented(Q, H, 2.0).tolist() == [-1.0, 4.0, 1.0]
    assert augmented(Q, H, np.array([0.0, 1.0, 2.0])).tolist() == [1.0, 1.0, 1.0]
    assert shaped(-1.0, H, 1, 0.5) == 0.5


def test_sharing_has_the_probability_beta_up_to_1() -> None:
    rng = np.random.default_rng(0)
    for beta in (0.0, 0.3, 1.0, 5.0):
        shared = sum(shares(rng, beta) for _ in range(4000))
        assert shared / 4000 == pytest.approx(min(beta, 1.0), abs=0.03)


def test_ties_are_drawn_evenly_and_only_ties_draw() -> None:
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert greedy(np.array([0.0, 2.0, 1.0]), rng) == 1
    assert rng.bit_generator.state == before
    drawn = np.bincount([greedy(np.array([1.0, 0.0, 1.0]), rng) for _ in range(4000)], minlength=3)
    assert drawn[1] == 0
    assert drawn[0] == pytest.approx(2000, abs=130)  # four standard deviations


def spec(*accepts: str) -> LearnerSpec:
    return LearnerSpec(name="ppo", target="a:b", summary="for tests", accepts=frozenset(accepts))


def test_a_learner_takes_what_its_record_says() -> None:
    check_accepts(spec("reward"), "reward_shaping")
    check_accepts(spec("target"), "q_augmentation")
    check_accepts(spec("action_scores"), "action_biasing")
    check_accepts(spec("behaviour"), "control_sharing")


def test_the_rest_is_refused_by_name() -> None:
    with pytest.raises(
        UserError, match="learner 'ppo' cannot take advice by q_augmentation: it takes reward_shaping"
    ):
        check_accepts(spec("reward"), "q_augmentation")
    with pytest.raises(UserError, match="it takes no advice"):
        check_accepts(spec(), "reward_shaping")
    with pytest.raises(UserError, match=r"no technique 'action_biassing'.*Did you mean 'action_biasing'"):
        check_accepts(spec("reward"), "action_biassing")
