"""Margins, ties, the best of K and ratings, against numbers by hand and loops in float64."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from textrl.mdp.ranking import (
    best_of_k_loss,
    bradley_terry_loss,
    kwise_loss,
    rao_kupper,
    rao_kupper_loss,
    regression_loss,
)

RANKS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=3)
SEEDS = st.integers(0, 2**31)
F64 = torch.float64


def made(ranks: list[list[int]], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, ranks and mask (G, K) in float64, with NaN on padding."""
    shape = (len(ranks), max(map(len, ranks)))
    generator = torch.Generator().manual_seed(seed)
    scores, padded = torch.full(shape, math.nan, dtype=F64), torch.full(shape, math.nan, dtype=F64)
    for g, own in enumerate(ranks):
        scores[g, : len(own)] = 2 * torch.randn(len(own), generator=generator, dtype=F64)
        padded[g, : len(own)] = torch.tensor(own, dtype=F64)
    return scores.requires_grad_(), padded, ~padded.isnan()


def check_gradient(loss: Tensor, scores: Tensor, mask: Tensor, expected: list[float]) -> None:
    assert loss.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    loss.sum().backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert (scores.grad[~mask] == 0).all()


@settings(deadline=None, max_examples=40)
@given(RANKS, SEEDS)
def test_margins_equal_a_loop_over_pairs(ranks: list[list[int]], seed: int) -> None:
    scores, padded, mask = made(ranks, seed)
    margins = torch.rand(*padded.shape, padded.shape[1], dtype=F64)
    margins[~(mask[:, :, None] & mask[:, None, :])] = math.nan
    expected = []
    for g, own in enumerate(ranks):
        total = 0.0
        for i, j in itertools.permutations(range(len(own)), 2):
            if own[i] < own[j]:
                gap = (scores[g, i] - scores[g, j] - margins[g, i, j]).item()
                total += math.log1p(math.exp(-gap))
        expected.append(total / max(math.comb(len(own), 2), 1))
    check_gradient(bradley_terry_loss(scores, padded, mask, margins), scores, mask, expected)


def test_no_margin_is_the_kwise_loss() -> None:
    scores, ranks, mask = made([[0, 1, 1, 2], [1, 0]], 3)
    for divide in ("all", "decided"):
        ours = bradley_terry_loss(scores, ranks, mask, torch.zeros(()), divide)
        assert torch.equal(ours, kwise_loss(scores, ranks, mask, divide))


def test_three_outcomes_by_hand() -> None:
    # e^i = 4, e^j = 1, theta = 2: better 4 / (4 + 2), worse 1 / (1 + 8), tie 3 * 4 / (6 * 9).
    outcomes = rao_kupper(torch.tensor(math.log(4.0), dtype=F64), torch.tensor(math.log(2.0), dtype=F64))
    found = [math.exp(value.item()) for value in outcomes]
    assert found == pytest.approx([4 / 6, 1 / 9, 12 / 54], rel=1e-12)


@given(st.floats(-30, 30), st.floats(1e-6, 20))
def test_the_three_outcomes_sum_to_one(gap: float, log_theta: float) -> None:
    outcomes = rao_kupper(torch.tensor(gap, dtype=F64), torch.tensor(log_theta, dtype=F64))
    assert sum(math.exp(value.item()) for value in outcomes) == pytest.approx(1, abs=1e-9)
    swapped = rao_kupper(torch.tensor(-gap, dtype=F64), torch.tensor(log_theta, dtype=F64))
    assert (swapped.better, swapped.tie) == (outcomes.worse, pytest.approx(outcomes.tie.item()))


def test_theta_near_one_is_bradley_terry_and_a_large_theta_stays_finite() -> None:
    gap = torch.linspace(-5, 5, 11, dtype=F64)
    near = rao_kupper(gap, torch.tensor(1e-9, dtype=F64))
    torch.testing.assert_close(near.better, torch.nn.functional.logsigmoid(gap))
    # log(theta^2 - 1) is near log(2e-9): ties all but vanish.
    assert near.tie.max().item() < -20
    assert all(torch.isfinite(part).all() for part in rao_kupper(gap, torch.tensor(400.0, dtype=F64)))


@settings(deadline=None, max_examples=40)
@given(RANKS, SEEDS, st.floats(1.01, 5))
def test_ties_equal_a_loop_over_pairs(ranks: list[list[int]], seed: int, theta: float) -> None:
    scores, padded, mask = made(ranks, seed)
    expected = []
    for g, own in enumerate(ranks):
        total = 0.0
        for i, j in itertools.combinations(range(len(own)), 2):
            first, second = math.exp(scores[g, i].item()), math.exp(scores[g, j].item())
            wins = first / (first + theta * second)
            loses = second / (second + theta * first)
            chance = wins if own[i] < own[j] else loses if own[i] > own[j] else 1 - wins - loses
            total -= math.log(chance)
        expected.append(total / max(math.comb(len(own), 2), 1))
    log_theta = torch.tensor(math.log(theta), dtype=F64)
    check_gradient(rao_kupper_loss(scores, padded, mask, log_theta), scores, mask, expected)


def test_theta_one_drops_ties_and_theta_has_a_gradient() -> None:
    scores, ranks, mask = made([[0, 1, 1], [0, 0, 2]], 5)
    ours = rao_kupper_loss(scores, ranks, mask, torch.zeros((), dtype=F64))
    assert torch.equal(ours, kwise_loss(scores, ranks, mask))
    log_theta = torch.tensor(0.4, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda theta: rao_kupper_loss(scores.detach(), ranks, mask, theta).sum(), (log_theta,)
    )


def test_the_best_of_three_by_hand() -> None:
    scores = torch.tensor([[math.log(5.0), math.log(3.0), math.log(2.0)]], dtype=F64)
    mask = torch.ones(1, 3, dtype=torch.bool)
    one = best_of_k_loss(scores, torch.tensor([[1.0, 2.0, 3.0]]), mask)
    two = best_of_k_loss(scores, torch.tensor([[1.0, 3.0, 1.0]]), mask)
    assert one.item() == pytest.approx(-math.log(5 / 10))
    assert two.item() == pytest.approx(-math.log(7 / 10))
    assert best_of_k_loss(scores, torch.ones(1, 3), mask).item() == 0.0


@settings(deadline=None, max_examples=40)
@given(RANKS, SEEDS)
def test_the_best_of_k_equals_a_loop(ranks: list[list[int]], seed: int) -> None:
    scores, padded, mask = made(ranks, seed)
    expected = []
    for g, own in enumerate(ranks):
        weights = [math.exp(scores[g, i].item()) for i in range(len(own))]
        chosen = sum(weight for weight, rank in zip(weights, own, strict=True) if rank == min(own))
        expected.append(-math.log(chosen / sum(weights)))
    check_gradient(best_of_k_loss(scores, padded, mask), scores, mask, expected)


def test_the_best_of_k_does_not_read_the_other_ranks() -> None:
    scores, ranks, mask = made([[0, 1, 2, 3]], 8)
    other = torch.tensor([[0.0, 3.0, 1.0, 2.0]], dtype=F64)
    assert torch.equal(best_of_k_loss(scores, ranks, mask), best_of_k_loss(scores, other, mask))


def test_squared_error_by_hand() -> None:
    scores = torch.tensor([[1.0, 2.0, 9.0], [0.0, 1.0, 2.0]], requires_grad=True)
    ratings = torch.tensor([[0.0, 4.0, math.nan], [1.0, 1.0, 1.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    loss = regression_loss(scores, ratings, mask)
    assert loss.tolist() == pytest.approx([(1 + 4) / 2, 2 / 3])
    loss.sum().backward()
    assert scores.grad is not None
    assert scores.grad.tolist()[0] == [1.0, -2.0, 0.0]
