"""The KL penalty: numbers by hand, the estimators' means, padding, the controller."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from textrl_kl.reward import KLReward
from textrl_kl.settings import KLSettings

from textrl.errors import UserError
from textrl.protocols import Batch
from textrl.registry import get_registry
from textrl.rewards import build_reward, build_rewards

NAN = math.nan


def batch(logprobs, ref_logprobs, mask=None):
    logprobs, ref_logprobs = torch.tensor(logprobs), torch.tensor(ref_logprobs)
    mask = torch.ones_like(logprobs).bool() if mask is None else torch.tensor(mask)
    ids = torch.ones(mask.shape, dtype=torch.int64)
    return Batch(
        prompt_ids=ids[:, :1],
        prompt_mask=mask[:, :1],
        response_ids=ids,
        response_mask=mask,
        logprobs=logprobs,
        ref_logprobs=ref_logprobs,
    )


def kl(**values):
    return KLReward(KLSettings(**values))


def test_the_reward_is_minus_the_log_ratio():
    made = batch([[-1.0, -2.0, NAN]], [[-1.5, -0.5, NAN]], [[True, True, False]])
    assert kl()(made).tolist() == [[-0.5, 1.5, 0.0]]


def test_equal_policies_have_no_kl():
    made = batch([[-1.25, -0.7]], [[-1.25, -0.7]])
    assert kl()(made).tolist() == [[0.0, 0.0]]
    assert kl().metrics(made) == {"train/kl_ref": 0.0, "train/kl_ref_k2": 0.0, "train/kl_ref_k3": 0.0}


def test_logged_estimates_are_nats_per_sequence():
    # Log ratios: 0.5 and -1.5 in the first sequence, 1 in the second.
    made = batch([[-1.0, -2.0], [0.0, NAN]], [[-1.5, -0.5], [-1.0, NAN]], [[True, True], [True, False]])
    k3 = [math.exp(-0.5) - 1 + 0.5, math.exp(1.5) - 1 - 1.5, math.exp(-1) - 1 + 1]
    assert kl().metrics(made) == {
        "train/kl_ref": pytest.approx((0.5 - 1.5 + 1) / 2),
        "train/kl_ref_k2": pytest.approx((0.125 + 1.125 + 0.5) / 2),
        "train/kl_ref_k3": pytest.approx(sum(k3) / 2, rel=1e-6),
    }


probabilities = st.lists(st.floats(0.05, 1.0), min_size=4, max_size=4).map(lambda p: [x / sum(p) for x in p])


@given(probabilities, probabilities)
@settings(deadline=None, max_examples=50)
def test_k1_and_k3_have_the_mean_kl_under_the_policy(policy, reference):
    """By enumeration: one sequence per action, weighted by the policy's probability."""
    exact = sum(p * math.log(p / q) for p, q in zip(policy, reference, strict=True))
    means = {"train/kl_ref": 0.0, "train/kl_ref_k3": 0.0}
    for p, q in zip(policy, reference, strict=True):
        logged = kl().metrics(batch([[math.log(p)]], [[math.log(q)]]))
        means = {name: mean + p * logged[name] for name, mean in means.items()}
        assert logged["train/kl_ref_k2"] >= 0
        assert logged["train/kl_ref_k3"] >= -1e-7
    assert means["train/kl_ref"] == pytest.approx(exact, abs=1e-5)
    assert means["train/kl_ref_k3"] == pytest.approx(exact, abs=1e-5)


def test_a_fixed_coefficient_stays():
    assert kl().adapt_weight(0.02, {"kl_per_sequence": 100.0, "episodes": 512}) == 0.02


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (6.0, 0.15),  # on target
        (60.0, 0.15 * (1 + 0.2 * 512 / 10_000)),  # clipped above
        (0.0, 0.15 * (1 - 0.2 * 512 / 10_000)),  # clipped below
        (6.6, 0.15 * (1 + 0.1 * 512 / 10_000)),  # a tenth too high
    ],
)
def test_the_adaptive_coefficient_follows_ziegler_et_al(measured, expected):
    weight = kl(coefficient="adaptive").adapt_weight(0.15, {"kl_per_sequence": measured, "episodes": 512})
    assert weight == pytest.approx(expected, rel=1e-12)


def test_a_controller_cannot_start_from_nothing():
    rewards = build_rewards({"kl": {"coefficient": "adaptive"}}, {"kl": 0}, get_registry(), str)
    with pytest.raises(UserError, match=r"'kl' .*adapt_weight\(\): the weight is 0.0, .*; start above 0"):
        rewards.adapt_weights({"kl_per_sequence": 1.0, "episodes": 8})


def test_the_controller_holds_a_simulated_policy_at_its_target():
    """Where the KL falls as beta grows, beta settles where the KL is the target."""
    rewards = build_rewards(
        {"kl": {"coefficient": "adaptive", "target": 2.0, "horizon": 500}}, {"kl": 0.01}, get_registry(), str
    )
    for _ in range(600):
        rewards.adapt_weights({"kl_per_sequence": 0.5 / rewards.weights["kl"], "episodes": 64})
    assert rewards.weights["kl"] == pytest.approx(0.25, rel=0.01)
    assert rewards.side("learner").weights == rewards.weights


@pytest.mark.parametrize(("key", "value"), [("target", 0.0), ("horizon", 0)])
def test_settings_out_of_range_are_refused(key, value):
    with pytest.raises(UserError, match=key):
        build_reward(get_registry().find("reward", "kl"), {key: value})
