"""Losses, whitening, KL estimators and the adaptive coefficient, against numbers and enumeration."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.mdp.kl import adapt, k1, k2, k3
from textrl.mdp.losses import explained_variance, moments, policy_loss, value_loss, whiten


def test_policy_loss_by_hand() -> None:
    # Ratios 1.5, 0.5, 1.1 with advantages 1, 1, -2 and clip .2:
    # min(1.5, 1.2) = 1.2; min(.5, .8) = .5; min(-2.2, -2.2) = -2.2. Sum -0.5, negated 0.5.
    ratio = torch.tensor([1.5, 0.5, 1.1])
    loss = policy_loss(ratio.log(), torch.zeros(3), torch.tensor([1.0, 1.0, -2.0]), 0.2)
    assert loss.total.item() == pytest.approx(0.5, abs=1e-6)
    assert loss.clipped.item() == 2
    wanted = sum(r - 1 - math.log(r) for r in (1.5, 0.5, 1.1))
    assert loss.approx_kl.item() == pytest.approx(wanted, abs=1e-6)


def test_policy_gradient_matches_finite_differences_of_the_surrogate() -> None:
    torch.manual_seed(0)
    old = torch.randn(6, dtype=torch.float64) * 0.3 - 1
    new = (old + torch.randn(6, dtype=torch.float64) * 0.3).requires_grad_()
    advantages = torch.randn(6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: policy_loss(x, old, advantages, 0.2).total, (new,))


def test_value_loss_by_hand() -> None:
    # Value 2, old 1, clip .2: held at 1.2. Target 0: errors 4 and 1.44, the worse is 4.
    # Value 2, old 1, target 2.5: errors .25 and 1.69, the worse is 1.69 and counts as clipped.
    loss = value_loss(torch.tensor([2.0, 2.0]), torch.tensor([1.0, 1.0]), torch.tensor([0.0, 2.5]), 0.2)
    assert loss.total.item() == pytest.approx(0.5 * (4 + 1.69), abs=1e-5)
    assert loss.clipped.item() == 1
    plain = value_loss(torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([0.5]), None)
    assert plain.total.item() == pytest.approx(0.5 * 2.25)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20).filter(lambda x: max(x) - min(x) > 0.1))
def test_whitening_uses_the_biased_variance_and_adds_up_over_shards(numbers: list[float]) -> None:
    x = torch.tensor(numbers, dtype=torch.float64)
    shards = sum((moments(part) for part in x.tensor_split(2)), torch.zeros(3, dtype=torch.float64))
    got = whiten(x, shards)
    wanted = (x - x.mean()) / (x.var(correction=0) + 1e-8).sqrt()
    assert torch.allclose(got, wanted, atol=1e-5)
    kept = whiten(x, shards, shift_mean=False)
    assert torch.allclose(kept - kept.mean(), wanted, atol=1e-5)
    assert kept.mean().item() == pytest.approx(x.mean().item(), abs=1e-5)


def test_explained_variance() -> None:
    targets = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(targets, targets) == pytest.approx(1.0)
    assert explained_variance(torch.zeros(3), targets) == pytest.approx(0.0)
    assert math.isnan(explained_variance(targets, torch.ones(3)))


def test_kl_estimators_by_enumeration() -> None:
    torch.manual_seed(0)
    log_pi = torch.log_softmax(torch.randn(9, dtype=torch.float64), 0)
    log_ref = torch.log_softmax(torch.randn(9, dtype=torch.float64), 0)
    exact = (log_pi.exp() * (log_pi - log_ref)).sum().item()
    means = [(log_pi.exp() * k(log_pi, log_ref)).sum().item() for k in (k1, k2, k3)]
    assert means[0] == pytest.approx(exact, abs=1e-12)
    assert means[2] == pytest.approx(exact, abs=1e-12)
    assert means[1] == pytest.approx((log_pi.exp() * (log_pi - log_ref) ** 2 / 2).sum().item(), abs=1e-12)
    assert bool((k3(log_pi, log_ref) >= 0).all())


@pytest.mark.parametrize(
    ("kl", "factor"),
    [
        (6.0, 1.0),
        (60.0, 1 + 0.2 * 512 / 10_000),
        (0.0, 1 - 0.2 * 512 / 10_000),
        (6.6, 1 + 0.1 * 512 / 10_000),
    ],
)
def test_adaptive_coefficient(kl: float, factor: float) -> None:
    got = adapt(0.15, kl, target=6.0, episodes=512, horizon=10_000)
    assert got == pytest.approx(0.15 * factor)
