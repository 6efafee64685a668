"""Guidance: what a learner gets from advice, technique by technique."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from control_world import Floats, Rule, mountain_car_space
from torch import Tensor

from textrl.advice import EligibilitySettings, Guidance, GuidanceSettings, Technique
from textrl.config import build, to_plain
from textrl.errors import PluginError, UserError
from textrl.features import FeatureSettings
from textrl.protocols import Advice, AdviceState

LEFT, RIGHT = np.array([-0.5, -0.01], np.float32), np.array([-0.5, 0.01], np.float32)
Q = np.array([-1.0, -2.0, -3.0])
TECHNIQUES: list[Technique] = ["reward_shaping", "q_augmentation", "action_biasing", "control_sharing"]
SMALL = EligibilitySettings(features=FeatureSettings(per_dimension=6), growth=0.5, decay=0.5)


def guidance(
    technique: str, beta: float = 2.0, *, advice: Any = None, seed: int = 0, **more: Any
) -> Guidance:
    settings = GuidanceSettings(technique=technique, source="tamer", beta=beta, **more)  # type: ignore[arg-type]
    return Guidance(settings, advice or Rule(), mountain_car_space(), 3, seed=seed)


def test_each_technique_touches_what_it_should_and_nothing_else() -> None:
    """H = (-1, -1, 1) at RIGHT, beta = 2."""
    for technique in TECHNIQUES:
        made = guidance(technique)
        chooses = technique in ("q_augmentation", "action_biasing")
        assert made.scores(Q, RIGHT).tolist() == ([-3.0, -4.0, -1.0] if chooses else Q.tolist())
        assert made.value(-3.0, RIGHT, 2) == (-1.0 if technique == "q_augmentation" else -3.0)
        assert made.reward(-1.0, RIGHT, 0) == (-3.0 if technique == "reward_shaping" else -1.0)
        assert made.choose(RIGHT) == (2 if technique == "control_sharing" else None)


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_beta_0_asks_nothing_and_draws_nothing(technique: str) -> None:
    rule = Rule()
    made = guidance(technique, 0.0, advice=rule)
    before = made.state_dict()["rng"]
    assert made.scores(Q, RIGHT) is Q
    assert made.value(-3.0, RIGHT, 2) == -3.0
    assert made.reward(-1.0, RIGHT, 0) == -1.0
    assert made.choose(RIGHT) is None
    assert made.evaluate(RIGHT, np.random.default_rng(0)) is None
    assert rule.asked == 0
    assert made.state_dict()["rng"] == before


def test_control_sharing_takes_the_best_action_with_probability_beta() -> None:
    made = guidance("control_sharing", 0.3)
    chosen = [made.choose(LEFT) for _ in range(4000)]
    assert {action for action in chosen if action is not None} == {0}
    assert sum(action is not None for action in chosen) / 4000 == pytest.approx(0.3, abs=0.03)


def test_an_evaluation_leaves_the_generator_and_the_log_alone() -> None:
    made = guidance("control_sharing", 0.6)
    before = made.state_dict()
    rng = np.random.default_rng(1)
    drawn = [made.evaluate(LEFT, rng) for _ in range(2000)]
    assert sum(action == 0 for action in drawn) / 2000 == pytest.approx(0.6, abs=0.05)
    assert [made.evaluate(LEFT, rng, deterministic=True) for _ in range(20)] == [0] * 20
    rarely = guidance("control_sharing", 0.4)
    assert [rarely.evaluate(LEFT, rng, deterministic=True) for _ in range(20)] == [None] * 20
    assert made.state_dict() == before
    module = guidance("action_biasing", eligibility=SMALL)
    module.scores(Q, LEFT, acting=False)
    module.step(LEFT, 0, training=True)
    module.scores(Q, LEFT)
    module.end_episode()
    seen = module.metrics()["advice/beta"]
    module.step(LEFT, 0, training=True)
    assert seen > 0


def test_beta_is_annealed_by_the_episode_and_logged_as_it_acted() -> None:
    made = guidance("reward_shaping", 10.0, anneal=0.5)
    made.end_episode()
    assert made.metrics() == {"advice/beta": 10.0}
    assert made.reward(0.0, RIGHT, 2) == 5.0
    made.end_episode()
    assert made.metrics() == {"advice/beta": 5.0}


class TensorAdvice:
    """Advice as the protocol has it."""

    def __init__(self, ratings: Tensor) -> None:
        self.ratings, self.seen = ratings, torch.zeros(0)

    def advise(self, state: AdviceState) -> Tensor:
        self.seen = state.observation
        return self.ratings[None].expand(len(state.observation), -1)


def test_advice_in_torch_is_asked_one_state_at_a_time() -> None:
    advice = TensorAdvice(torch.tensor([1.0, 0.0, -1.0], requires_grad=True))
    assert isinstance(advice, Advice)
    made = guidance("action_biasing", advice=advice)
    assert made.scores(Q, RIGHT).tolist() == [1.0, -2.0, -5.0]
    assert advice.seen.shape == (1, 2)
    assert advice.seen.dtype == torch.float32


def test_what_was_taught_since_the_last_step_counts() -> None:
    """Within a step an answer is kept; after it the advice is asked again."""
    rule = Rule()
    made = guidance("q_augmentation", advice=rule)
    made.scores(Q, RIGHT)
    made.value(0.0, RIGHT, 1)
    assert rule.asked == 1
    made.scores(Q, LEFT)
    assert rule.asked == 2
    rule.scale = 5.0
    made.step(RIGHT, 1, training=False)
    assert made.value(0.0, LEFT, 0) == 10.0


def test_an_array_that_the_environment_reuses_is_another_state() -> None:
    made = guidance("action_biasing")
    observation = RIGHT.copy()
    assert made.scores(np.zeros(3), observation).argmax() == 2
    observation[:] = LEFT
    assert made.scores(np.zeros(3), observation).argmax() == 0


@pytest.mark.parametrize("technique", ["action_biasing", "control_sharing"])
def test_the_eligibility_module_weighs_by_state(technique: str) -> None:
    """Nothing before training; then most where the training was, and less after every step."""
    made = guidance(technique, 1.0, eligibility=SMALL)
    far = np.array([0.4, 0.06], np.float32)

    def weight(observation: Floats, action: int) -> float:
        if technique == "action_biasing":
            return float(abs(made.scores(np.zeros(3), observation)[action]))
        return sum(made.choose(observation) is not None for _ in range(2000)) / 2000

    assert weight(RIGHT, 2) == 0
    made.step(RIGHT, 2, training=False)
    assert weight(RIGHT, 2) == 0
    for _ in range(4):
        made.step(RIGHT, 2, training=True)
    near = weight(RIGHT, 2)
    assert near > 0.05
    assert weight(far, 2) < 0.01
    if technique == "action_biasing":
        assert weight(RIGHT, 0) == 0  # this action was never trained
    made.step(far, 0, training=False)
    assert weight(RIGHT, 2) == pytest.approx(near / 2, rel=0.5 if technique == "control_sharing" else 1e-9)


@pytest.mark.parametrize("eligibility", [None, SMALL])
def test_a_state_dict_continues(eligibility: EligibilitySettings | None) -> None:
    def play(made: Guidance, steps: int) -> list[Any]:
        seen = []
        for step in range(steps):
            seen.append(made.choose(RIGHT if step % 3 else LEFT))
            made.step(RIGHT, 2, training=step % 2 == 0)
        made.end_episode()
        return [*seen, made.metrics()]

    one = guidance("control_sharing", 0.7, anneal=0.9, eligibility=eligibility)
    play(one, 20)
    two = guidance("control_sharing", 0.7, anneal=0.9, eligibility=eligibility, seed=8)
    two.load_state_dict(one.state_dict())
    assert two.metrics() == one.metrics()
    assert play(two, 50) == play(one, 50)


class Wrong:
    def __init__(self, h: list[float]) -> None:
        self.h = h

    def rate(self, observation: Any) -> Floats:
        return np.array(self.h)


@pytest.mark.parametrize("h", [[1.0, 2.0], [1.0, np.nan, 0.0], [np.inf, 0.0, 0.0]])
def test_ratings_that_cannot_be_used_name_the_source(h: list[float]) -> None:
    with pytest.raises(PluginError, match=r"source 'tamer' rated the actions .* must give 3 finite numbers"):
        guidance("action_biasing", advice=Wrong(h)).scores(Q, RIGHT)


def test_wrong_settings_are_one_sentence() -> None:
    with pytest.raises(UserError, match=r"no technique 'action_bias'.*Did you mean 'action_biasing'"):
        guidance("action_bias")
    with pytest.raises(UserError, match=r"source 'tamer' gives no advice \(object has no advise"):
        guidance("action_biasing", advice=object())

    def from_config(**data: Any) -> GuidanceSettings:
        return build(GuidanceSettings, data, where=lambda key: f"study.yaml, {key}")

    good = {"technique": "action_biasing", "source": "tamer", "beta": 100, "eligibility": {"decay": 0.9}}
    settings = from_config(**good)
    assert from_config(**to_plain(settings)) == settings
    for changes, message in (
        ({"technique": "biasing"}, "'technique' must be one of 'reward_shaping', 'q_augmentation'"),
        ({"technique": "reward_shaping"}, "eligibility does not go with reward_shaping"),
        ({"beta": -1}, r"beta is -1.0; it must be 0 or more"),
        ({"anneal": 1.5}, r"anneal is 1.5; it must be between 0 and 1"),
        ({"eligibility": {"decai": 0.9}}, "Did you mean 'decay'"),
    ):
        with pytest.raises(UserError, match=rf"study\.yaml.*{message}"):
            from_config(**(good | changes))


@pytest.mark.parametrize("technique", ["action_biasing", "q_augmentation"])
def test_a_whole_number_is_a_weight_too(technique: str) -> None:
    settings = GuidanceSettings(technique=technique, source="h", beta=10)  # type: ignore[arg-type]
    given = Guidance(settings, Fixed(), mountain_car_space(), 3)
    assert given.scores(np.zeros(3), np.zeros(2)).tolist() == [10.0, 0.0, -10.0]


class Fixed:
    """Likes the first action."""

    def rate(self, observation: object) -> object:
        return np.array([1.0, 0.0, -1.0])
