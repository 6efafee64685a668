"""Losses, whitening, KL estimators and the adaptive coefficient, against numbers and enumeration."""

from __future__ import annotations

import decimal
import math
import statistics

import pytest
import torch
from hypothesis import assume, given, settings
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


decisions = st.lists(
    st.tuples(st.floats(-1, 1), st.floats(-5, 5), st.floats(-1, 1), st.floats(-3, 3)), min_size=1, max_size=30
)


def as_columns(rows: list[tuple[float, ...]]) -> list[torch.Tensor]:
    return [torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True)]


@settings(max_examples=60, deadline=None)
@given(rows=decisions, clip=st.sampled_from([0.1, 0.2, 0.5]))
def test_policy_loss_and_gradient_by_cases(rows: list[tuple[float, ...]], clip: float) -> None:
    """-ratio * A, and -A * ratio for its slope, except where the ratio has gone too far in A's direction."""
    log_ratio, advantages, old, _ = as_columns(rows)
    new = (old + log_ratio).requires_grad_()
    loss = policy_loss(new, old, advantages, clip)
    total, slopes, outside, kl = 0.0, [], 0, 0.0
    for difference, advantage in zip((new.detach() - old).tolist(), advantages.tolist(), strict=True):
        ratio = math.exp(difference)
        outside += abs(ratio - 1) > clip
        kl += ratio - 1 - difference
        if advantage > 0 and ratio > 1 + clip:
            total -= (1 + clip) * advantage
            slopes.append(0.0)
        elif advantage < 0 and ratio < 1 - clip:
            total -= (1 - clip) * advantage
            slopes.append(0.0)
        else:
            total -= ratio * advantage
            slopes.append(-ratio * advantage)
    (gradient,) = torch.autograd.grad(loss.total, new)
    assert loss.total.item() == pytest.approx(total, rel=1e-12, abs=1e-12)
    assert gradient.tolist() == pytest.approx(slopes, rel=1e-12, abs=1e-12)
    assert loss.clipped.item() == outside
    assert loss.approx_kl.item() == pytest.approx(kl, rel=1e-9, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(rows=decisions, clip=st.sampled_from([None, 0.2, 1.0]))
def test_value_loss_and_gradient_by_cases(rows: list[tuple[float, ...]], clip: float | None) -> None:
    """(v - R)^2 / 2 with slope v - R; flat where the held value is further from the target.

    On the two kinks (a step of exactly the clip, a target exactly between the value and the held one) any
    slope between the two is right, and which one comes out is a matter of rounding: no case is made there.
    """
    step, targets, _, old = as_columns(rows)
    values = (old + 2 * step).requires_grad_()
    loss = value_loss(values, old, targets, clip)
    total, slopes, held_back = 0.0, [], 0
    for value, before, target in zip(values.tolist(), old.tolist(), targets.tolist(), strict=True):
        worse = value - target
        if clip is not None:
            assume(abs(abs(value - before) - clip) > 1e-9)
        if clip is not None and abs(value - before) > clip:
            held = before + math.copysign(clip, value - before) - target
            assume(abs(held**2 - worse**2) > 1e-9)
            if held**2 > worse**2:
                held_back += 1
                total += held**2 / 2
                slopes.append(0.0)
                continue
        total += worse**2 / 2
        slopes.append(worse)
    (gradient,) = torch.autograd.grad(loss.total, values)
    assert loss.total.item() == pytest.approx(total, rel=1e-12, abs=1e-12)
    assert gradient.tolist() == pytest.approx(slopes, rel=1e-9, abs=1e-12)
    assert loss.clipped.item() == held_back


def test_value_loss_by_hand() -> None:
    # Value 2, old 1, clip .2: held at 1.2. Target 0: errors 4 and 1.44, the worse is 4.
    # Value 2, old 1, target 2.5: errors .25 and 1.69, the worse is 1.69 and counts as clipped.
    loss = value_loss(torch.tensor([2.0, 2.0]), torch.tensor([1.0, 1.0]), torch.tensor([0.0, 2.5]), 0.2)
    assert loss.total.item() == pytest.approx(0.5 * (4 + 1.69), abs=1e-5)
    assert loss.clipped.item() == 1
    plain = value_loss(torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor([0.5]), None)
    assert plain.total.item() == pytest.approx(0.5 * 2.25)


@settings(max_examples=30, deadline=None)
@given(
    numbers=st.lists(st.floats(-100, 100), min_size=2, max_size=20).filter(lambda x: max(x) - min(x) > 0.1),
    processes=st.integers(1, 4),
)
def test_whitening_uses_the_biased_variance_and_adds_up_over_shards(
    numbers: list[float], processes: int
) -> None:
    """Against the exact rational arithmetic of Python's statistics, to 1e-6; an empty shard is no harm."""
    x = torch.tensor(numbers, dtype=torch.float64)
    shards = sum((moments(part) for part in x.tensor_split(processes)), torch.zeros(3, dtype=torch.float64))
    mean, variance = statistics.mean(numbers), statistics.pvariance(numbers)
    wanted = [(number - mean) / math.sqrt(variance + 1e-8) for number in numbers]
    assert whiten(x, shards).tolist() == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    kept = whiten(x, shards, shift_mean=False).tolist()
    assert kept == pytest.approx([number + mean for number in wanted], rel=1e-6, abs=1e-9)


def test_whitening_numbers_that_are_all_equal_gives_zeros() -> None:
    """No noise is blown up to unit variance."""
    x = torch.full((7,), 0.1, dtype=torch.float64)
    assert whiten(x, moments(x)).tolist() == pytest.approx([0.0] * 7, abs=1e-6)


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


@settings(max_examples=60, deadline=None)
@given(new=st.floats(-12, -1e-3), reference=st.floats(-12, -1e-3))
def test_kl_estimators_and_their_slopes_to_thirty_digits(new: float, reference: float) -> None:
    """By decimal arithmetic; the cancellation in k3 costs no digit that 1e-6 would need."""
    log_pi = torch.tensor(new, dtype=torch.float64, requires_grad=True)
    log_ref = torch.tensor(reference, dtype=torch.float64)
    with decimal.localcontext() as context:
        context.prec = 30
        d = decimal.Decimal(new) - decimal.Decimal(reference)
        wanted = [float(d), float(d * d / 2), float((-d).exp() - 1 + d)]
        slopes = [1.0, float(d), float(1 - (-d).exp())]
    for estimator, value, slope in zip((k1, k2, k3), wanted, slopes, strict=True):
        got = estimator(log_pi, log_ref)
        assert got.item() == pytest.approx(value, rel=1e-6, abs=1e-14)
        (gradient,) = torch.autograd.grad(got, log_pi)
        assert gradient.item() == pytest.approx(slope, rel=1e-6, abs=1e-14)


@settings(max_examples=40, deadline=None)
@given(
    kls=st.lists(st.floats(-1, 40), min_size=1, max_size=12),
    target=st.floats(0.1, 10),
    episodes=st.integers(1, 512),
    horizon=st.sampled_from([512.0, 10_000.0]),
)
def test_adaptive_coefficient_over_a_run(
    kls: list[float], target: float, episodes: int, horizon: float
) -> None:
    """Up above the target, down below it, by a fifth of episodes / horizon at most; never to 0."""
    beta, wanted = 0.15, 0.15
    for kl in kls:
        before = beta
        beta = adapt(beta, kl, target=target, episodes=episodes, horizon=horizon)
        if abs(kl / target - 1) > 1e-9:
            assert (beta > before) == (kl > target)
        assert abs(beta / before - 1) <= 0.2 * episodes / horizon * (1 + 1e-9)
        wanted += wanted * episodes / horizon * sorted((-0.2, (kl - target) / target, 0.2))[1]
        assert beta == pytest.approx(wanted, rel=1e-9)
        assert beta > 0


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
