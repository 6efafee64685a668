"""The weighted sum over time: sides, adapted weights, own figures, state; and its properties."""

import dataclasses
import json
import math

import pytest
import torch
from faulty_rewards import Good, Learns
from hypothesis import given, settings
from hypothesis import strategies as st
from summing import Controlled, Fixed, batch, both_sides, source

from textrl.errors import PluginError, UserError
from textrl.protocols import Signal
from textrl.rewards import RewardSum, join_tensors, split_tensors


class TestSides:
    def test_needs_and_sources_are_divided(self):
        rewards = both_sides()
        assert rewards.needs == {"text", "logprobs"}
        env, learner = rewards.side("env"), rewards.side("learner")
        assert env.needs == {"text"}
        assert learner.needs == {"logprobs"}
        assert env.sources[0].reward is rewards.sources[0].reward

    def test_weights_are_one_truth(self):
        rewards = both_sides()
        learner = rewards.side("learner")
        learner.adapt_weights({"kl_per_sequence": 5.0, "episodes": 8})
        assert rewards.weights == {"text": 1.0, "kl": 0.2}
        assert learner.weights == {"kl": 0.2}
        rewards.adapt_weights({"kl_per_sequence": 0.5, "episodes": 8})
        assert learner.weights == {"kl": 0.2}

    def test_the_adapted_weight_is_paid(self):
        learner = both_sides().side("learner")
        scored = batch(logprobs=torch.zeros(2, 4))
        before = learner(scored).total.sum()
        learner.adapt_weights({"kl_per_sequence": 5.0, "episodes": 8})
        assert learner(scored).total.sum() == before / 2

    def test_changing_the_returned_weights_changes_nothing(self):
        rewards = both_sides()
        rewards.weights["kl"] = 9.0
        assert rewards.weights["kl"] == 0.4

    @pytest.mark.parametrize("wrong", [math.nan, None, "0.1"])
    def test_a_wrong_weight_is_refused(self, wrong):
        reward = Controlled()
        reward.adapt_weight = lambda weight, stats: wrong
        with pytest.raises(PluginError, match="adapted its weight"):
            RewardSum([source(reward)]).adapt_weights({})


def test_metrics_carry_own_names_or_the_sources():
    rewards = RewardSum([source(Good()), source(Controlled(), 0.4, "kl")])
    assert rewards.metrics(batch()) == {"source/kl/weight": 0.4, "source/kl/mean": 3.0, "train/own": 4.0}


@pytest.mark.parametrize(
    ("method", "call"),
    [
        ("adapt_weight", lambda rewards: rewards.adapt_weights({})),
        ("metrics", lambda rewards: rewards.metrics(batch())),
        ("observe", lambda rewards: rewards.observe([])),
        ("state_dict", lambda rewards: rewards.state_dict()),
    ],
)
def test_every_method_that_raises_stops_with_the_plugins_name(method, call):
    reward = Good()

    def fails(*arguments):
        raise ValueError("on purpose\nsecond line")

    setattr(reward, method, fails)
    rewards = RewardSum([source(reward, name="mine")])
    message = (
        rf"^The reward 'mine' \(good\) of plugin 'faulty_rewards', {method}\(\): ValueError: on purpose\.$"
    )
    with pytest.raises(PluginError, match=message):
        call(rewards)


class TestState:
    def test_round_trip_through_a_checkpoint(self):
        def made():
            return RewardSum([source(Learns(), 1.0, "taught"), source(Controlled(), 0.4, "kl")])

        old, new = made(), made()
        old.observe([Signal(value=1.0, time_s=0.1), Signal(value=-2.0, time_s=0.2)])
        old.adapt_weights({"kl_per_sequence": 5.0, "episodes": 8})
        tensors, rest = split_tensors(old.state_dict())
        assert set(tensors) == {"sources/taught/bias", "sources/taught/speed"}
        new.load_state_dict(join_tensors(tensors, json.loads(json.dumps(rest))))
        assert new.weights == {"taught": 1.0, "kl": 0.2}
        assert torch.equal(new(batch()).total, old(batch()).total)
        # bias after +1 and -2 with momentum 0.9: 0.1 * 1 + 0.1 * (0.9 - 2) = -0.01
        assert float(new(batch()).raw["taught"].sum()) == pytest.approx(-0.02)

    def test_a_side_saves_and_restores_its_own(self):
        rewards = both_sides()
        state = rewards.side("learner").state_dict()
        assert state == {"configured": {"kl": 0.4}, "weights": {"kl": 0.4}, "sources": {}}
        rewards.side("learner").load_state_dict({**state, "weights": {"kl": 0.7}})
        assert rewards.weights == {"text": 1.0, "kl": 0.7}

    def test_a_weight_that_was_changed_in_the_config_is_refused(self):
        state = RewardSum([source(Good(), 0.5)]).state_dict()
        with pytest.raises(UserError, match=r"'good' was 0\.5 in the run of the checkpoint and is 0\.6 now"):
            RewardSum([source(Good(), 0.6)]).load_state_dict(state)

    def test_a_state_of_other_sources_is_refused(self):
        with pytest.raises(UserError, match="has the weights of the reward sources a, this run has kl, text"):
            both_sides().load_state_dict({"configured": {}, "weights": {"a": 1.0}, "sources": {}})
        with pytest.raises(UserError, match="has the states of the reward sources none, this run has taught"):
            RewardSum([source(Learns(), 1.0, "taught")]).load_state_dict(
                {"configured": {}, "weights": {"taught": 1.0}, "sources": {}}
            )

    @pytest.mark.parametrize("state", [{"a": {1, 2}}, {1: 2}, {"a": [object()]}, {"a": {"__tensor__": "b"}}])
    def test_what_a_checkpoint_cannot_hold_is_refused(self, state):
        with pytest.raises(TypeError, match="the state at"):
            split_tensors(state)


numbers = st.floats(-1e3, 1e3, width=32)


@st.composite
def sums(draw):
    """A batch, and up to four sources with values and weights."""
    rows = draw(st.integers(1, 4))
    width = draw(st.integers(1, 5))
    lengths = draw(st.lists(st.integers(1, width), min_size=rows, max_size=rows))
    made = batch(lengths, width)
    parts = []
    for index in range(draw(st.integers(1, 4))):
        per_token = draw(st.booleans())
        count = rows * (width if per_token else 1)
        values = torch.tensor(draw(st.lists(numbers, min_size=count, max_size=count)))
        value = values.reshape(rows, width) * made.response_mask if per_token else values
        granularity = "token" if per_token else "episode"
        parts.append(source(Fixed(value), draw(numbers), f"s{index}", granularity=granularity))
    return made, parts


@given(sums())
@settings(deadline=None, max_examples=60)
def test_the_total_is_the_weighted_sum(case):
    made, parts = case
    scored = RewardSum(parts)(made)
    expected = torch.zeros(len(made.response_mask), dtype=torch.float64)
    magnitude = torch.zeros_like(expected)
    for part in parts:
        value = part.reward.value.double()
        per_row = value.sum(-1) if value.ndim == 2 else value
        expected += per_row * part.weight
        magnitude += (value.abs().sum(-1) if value.ndim == 2 else value.abs()) * abs(part.weight)
    assert ((scored.total.double().sum(-1) - expected).abs() <= 1e-6 * magnitude + 1e-30).all()
    assert (scored.total[~made.response_mask] == 0).all()
    assert set(scored.components) == {part.name for part in parts}


@given(sums(), st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_more_padding_pays_the_same(case, extra):
    made, parts = case
    wider = dataclasses.replace(
        made,
        response_ids=torch.nn.functional.pad(made.response_ids, (0, extra)),
        response_mask=torch.nn.functional.pad(made.response_mask, (0, extra)),
    )
    padded = []
    for part in parts:
        value = part.reward.value
        if value.ndim == 2:
            value = torch.nn.functional.pad(value, (0, extra))
        padded.append(dataclasses.replace(part, reward=Fixed(value)))
    first, second = RewardSum(parts)(made), RewardSum(padded)(wider)
    assert torch.equal(second.total[:, : made.response_ids.shape[1]], first.total)
    assert (second.total[:, made.response_ids.shape[1] :] == 0).all()
