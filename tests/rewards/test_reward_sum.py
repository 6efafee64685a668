"""The weighted sum: numbers by hand, strict checks, sides, adaptation, state."""

import dataclasses
import json
import math

import pytest
import torch
from faulty_rewards import Good, GoodTokens, Learns, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.errors import PluginError, UserError
from textrl.protocols import Batch, Signal
from textrl.rewards import (
    RewardBreakdown,
    RewardSum,
    Source,
    add,
    join_tensors,
    split_tensors,
    spread,
)

TOKEN = {"granularity": "token"}


def batch(lengths=(3, 1), width=4, **fields):
    """Rows of ids 1, 2, 3, ... of the given lengths, padded with 0."""
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    ids = torch.arange(1, width + 1).repeat(len(lengths), 1) * mask
    prompt = torch.ones(len(lengths), 2, dtype=torch.int64)
    return Batch(
        prompt_ids=prompt,
        prompt_mask=prompt.bool(),
        response_ids=ids,
        response_mask=mask,
        **fields,
    )


def source(reward, weight=1.0, name=None, **fields):
    record = spec(type(reward).__name__, **fields)
    return Source(name=name or record.name, spec=record, reward=reward, weight=weight)


class Fixed:
    """Returns what it was given."""

    def __init__(self, value):
        self.value = value

    def __call__(self, batch):
        return self.value


def test_weighted_sum_by_hand():
    rewards = RewardSum(
        [source(Good(), 0.5, "ids"), source(GoodTokens(), -2.0, "tokens", granularity="token", causal=True)]
    )
    scored = rewards(batch())
    # The first row holds 1, 2, 3: its sum 6 stands on the third token; the second row holds 1.
    assert scored.raw["ids"].tolist() == [[0, 0, 6, 0], [1, 0, 0, 0]]
    assert scored.components["ids"].tolist() == [[0, 0, 3, 0], [0.5, 0, 0, 0]]
    assert scored.components["tokens"].tolist() == [[-2, -4, -6, 0], [-2, 0, 0, 0]]
    assert scored.total.tolist() == [[-2, -4, -3, 0], [-1.5, 0, 0, 0]]
    assert scored.metrics() == {"reward/ids": 1.75, "reward/tokens": -7.0, "reward/total": -5.25}
    assert scored.episode() == {"ids": [3.0, 0.5], "tokens": [-12.0, -2.0], "total": [-9.0, -1.5]}


def test_an_episode_reward_stands_on_the_last_real_action_whatever_the_mask():
    mask = torch.tensor([[True, True, True], [False, True, False], [True, False, False]])
    assert spread(torch.tensor([1.0, 2.0, 3.0]), mask).tolist() == [[0, 0, 1], [0, 2, 0], [3, 0, 0]]


def test_no_sources_pay_nothing():
    scored = RewardSum([])(batch())
    assert scored.total.abs().sum() == 0
    assert scored.components == {}
    assert RewardSum([]).needs == frozenset()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_become_float32(dtype):
    scored = RewardSum([source(Fixed(torch.tensor([1.0, 2.0], dtype=dtype)))])(batch())
    assert scored.total.dtype == torch.float32
    assert scored.total.sum() == 3


def test_no_gradient_leaves_a_reward():
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    scored = RewardSum([source(Fixed(weight))])(batch())
    assert not scored.total.requires_grad


TOKENS = torch.tensor([[1.0, 1, 1, 0], [1, 0, 0, 0]])


def with_value(row, column, value):
    changed = TOKENS.clone()
    changed[row, column] = value
    return changed


@pytest.mark.parametrize(
    ("value", "fields", "message"),
    [
        ([1.0, 2.0], {}, "returned a list; return a torch.Tensor"),
        (torch.tensor(1.0), {}, r"returned the shape \(\); granularity 'episode' asks for \(B,\) = \(2,\)"),
        (torch.zeros(2, 1), {}, r"returned the shape \(2, 1\)"),
        (torch.zeros(3), {}, r"returned the shape \(3,\)"),
        (torch.zeros(2), TOKEN, r"granularity 'token' asks for \(B, T\) = \(2, 4\)"),
        (torch.zeros(2, 3), TOKEN, r"returned the shape \(2, 3\)"),
        (torch.tensor([1, 2]), {}, "returned the dtype torch.int64"),
        (torch.tensor([True, False]), {}, "returned the dtype torch.bool"),
        (torch.tensor([0.0, math.nan]), {}, r"returned nan for row 1 \(response ids \[1\]\)"),
        (torch.tensor([math.inf, 0.0]), {}, r"returned inf for row 0 \(response ids \[1, 2, 3\]\)"),
        (torch.tensor([1e300, 0.0], dtype=torch.float64), {}, "returned inf for row 0"),
        (with_value(0, 1, math.nan), TOKEN, "returned nan for row 0, token 1"),
        (with_value(1, 3, -math.inf), TOKEN, "returned -inf for row 1, token 3"),
        (with_value(1, 2, 0.5), TOKEN, "returned 0.5 on padding, for row 1, token 2"),
    ],
)
def test_a_wrong_answer_stops_with_the_names_of_source_and_plugin(value, fields, message):
    record = spec("Good", name="third_party", **fields)
    rewards = RewardSum(
        [Source("mine", record, Fixed(value), 1.0, plugin="plugin 'acme' (acme-rewards 1.2)")]
    )
    with pytest.raises(PluginError, match=message) as caught:
        rewards(batch())
    start = r"The reward 'mine' (third_party) of plugin 'acme' (acme-rewards 1.2) "
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)


def test_the_offending_response_is_shown_where_there_is_text():
    rewards = RewardSum([source(Fixed(torch.tensor([0.0, math.nan])))])
    with pytest.raises(PluginError, match=r"row 1 \(response 'so \\n bad'\)"):
        rewards(batch(text=["good", "so \n bad"], prompt_text=["", ""]))


def test_a_reward_that_raises_stops_with_its_name_and_keeps_the_cause():
    class Raises:
        def __call__(self, batch):
            raise KeyError("stars")

    with pytest.raises(
        PluginError, match=r"'stars_reward' .*plugin 'faulty_rewards' raised KeyError: 'stars'"
    ) as e:
        RewardSum([source(Raises(), name="stars_reward")])(batch())
    assert isinstance(e.value.__cause__, KeyError)


def test_a_user_error_keeps_its_kind_and_gets_the_name():
    class Refuses:
        def __call__(self, batch):
            raise UserError("a record has no column 'answer'.")

    with pytest.raises(UserError, match=r"'refuses' .* cannot score: a record has no column") as caught:
        RewardSum([source(Refuses(), name="refuses")])(batch())
    assert not isinstance(caught.value, PluginError)


def test_an_interrupt_is_not_swallowed():
    class Interrupted:
        def __call__(self, batch):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RewardSum([source(Interrupted())])(batch())


def test_a_batch_without_what_is_needed_is_refused():
    rewards = RewardSum([source(Good(), needs=frozenset({"text"}))])
    with pytest.raises(UserError, match="needs 'text', and this batch carries none"):
        rewards(batch())


def test_an_episode_without_an_action_is_refused():
    with pytest.raises(UserError, match="Row 1 of the batch has no action"):
        RewardSum([source(Good())])(batch(lengths=(2, 0)))


def test_a_weight_that_overflows_is_refused():
    with pytest.raises(UserError, match="overflows float32 when multiplied by its weight 1e"):
        RewardSum([source(Fixed(torch.tensor([1e30, 0.0])), 1e30)])(batch())


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_a_weight_that_is_not_finite_is_refused(weight):
    with pytest.raises(UserError, match="use a finite number"):
        RewardSum([source(Good(), weight)])


def test_names_are_unique():
    with pytest.raises(UserError, match="Two reward sources are called 'good'"):
        RewardSum([source(Good()), source(Good(), 2.0)])


class TestBreakdown:
    def test_a_total_that_is_not_the_sum_is_refused(self):
        part = torch.tensor([[1.0, 2.0]])
        with pytest.raises(AssertionError, match=r"miss the total reward by up to 0\.5"):
            RewardBreakdown(total=part + 0.5, components={"a": part}, raw={"a": part})

    def test_the_tolerance_is_a_millionth(self):
        part = torch.tensor([[1.0, 2.0]])
        RewardBreakdown(total=part * (1 + 5e-7), components={"a": part}, raw={"a": part})
        with pytest.raises(AssertionError, match="miss the total"):
            RewardBreakdown(total=part * (1 + 3e-6), components={"a": part}, raw={"a": part})

    def test_nan_is_not_within_any_tolerance(self):
        part = torch.tensor([[math.nan]])
        with pytest.raises(AssertionError, match="miss the total"):
            RewardBreakdown(total=part, components={"a": part}, raw={"a": part})

    def test_components_and_raw_belong_together(self):
        part = torch.tensor([[1.0]])
        with pytest.raises(AssertionError, match="different names"):
            RewardBreakdown(total=part, components={"a": part}, raw={"b": part})
        with pytest.raises(AssertionError, match="component 'a' has shape"):
            RewardBreakdown(total=part, components={"a": part[0]}, raw={"a": part[0]})

    def test_add_joins_environment_and_learner(self):
        env = RewardSum([source(Good(), 0.5, "ids")])(batch())
        learner = RewardSum([source(GoodTokens(), 2.0, "tokens", granularity="token")])(batch())
        joined = add(env, learner)
        assert list(joined.components) == ["ids", "tokens"]
        assert torch.equal(joined.total, env.total + learner.total)

    def test_add_refuses_a_name_twice_and_another_batch(self):
        rewards = RewardSum([source(Good(), 0.5, "ids")])
        with pytest.raises(UserError, match="'ids' is paid twice"):
            add(rewards(batch()), rewards(batch()))
        with pytest.raises(ValueError, match=r"\(2, 4\) and \(2, 5\)"):
            add(rewards(batch()), RewardSum([])(batch(width=5)))


class Controlled(Good):
    """Halves its weight where the KL is high."""

    def adapt_weight(self, weight, stats):
        return weight / 2 if stats["kl_per_sequence"] > 1 else weight

    def metrics(self, batch):
        return {"mean": torch.tensor(3.0), "train/own": 4}


def both_sides():
    return RewardSum(
        [
            source(Good(), 1.0, "text", needs=frozenset({"text"})),
            source(Controlled(), 0.4, "kl", side="learner", needs=frozenset({"logprobs"})),
        ]
    )


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
