"""The weighted sum: numbers by hand, strict checks, and what a breakdown guarantees."""

import math

import pytest
import torch
from faulty_rewards import Good, GoodTokens, spec
from summing import Fixed, batch, source

from textrl.errors import PluginError, UserError
from textrl.rewards import (
    RewardBreakdown,
    RewardSum,
    Source,
    add,
    spread,
)

TOKEN = {"granularity": "token"}


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
