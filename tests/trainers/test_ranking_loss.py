"""The ranking loss against numbers written by hand and a loop over pairs."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from textrl.mdp.ranking import PairDivisor, kwise_loss, pair_counts


def naive_loss(scores: Tensor, ranks: list[float], divide: PairDivisor) -> Tensor:
    total, decided, size = torch.zeros((), dtype=scores.dtype), 0, len(ranks)
    for i, j in itertools.combinations(range(size), 2):
        if ranks[i] == ranks[j]:
            continue
        winner, loser = (i, j) if ranks[i] < ranks[j] else (j, i)
        total = total - torch.log(torch.sigmoid(scores[winner] - scores[loser]))
        decided += 1
    return total / (math.comb(size, 2) if divide == "all" else max(decided, 1))


def test_three_completions_by_hand() -> None:
    scores, ranks = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[1.0, 3.0, 2.0]])
    # -log sigmoid(d) = log(1 + exp(-d)) with d = 2, 1 and 1.
    expected = (math.log1p(math.exp(-2)) + 2 * math.log1p(math.exp(-1))) / 3
    loss = kwise_loss(scores, ranks, torch.ones(1, 3, dtype=torch.bool))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_a_tie_is_dropped_and_the_divisor_is_a_choice() -> None:
    scores, ranks = torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([[1.0, 2.0, 2.0]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    total = math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))
    assert kwise_loss(scores, ranks, mask, "all").item() == pytest.approx(total / 3, rel=1e-6)
    assert kwise_loss(scores, ranks, mask, "decided").item() == pytest.approx(total / 2, rel=1e-6)


def test_pairwise_is_k_two() -> None:
    loss = kwise_loss(
        torch.tensor([[0.3, 1.1]]), torch.tensor([[1.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool)
    )
    assert loss.item() == pytest.approx(math.log1p(math.exp(0.8)), rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=6), min_size=1, max_size=4),
    st.sampled_from(["all", "decided"]),
    st.integers(0, 2**31),
)
def test_values_and_gradients_equal_the_loop_over_pairs(
    ranks: list[list[int]], divide: PairDivisor, seed: int
) -> None:
    width = max(map(len, ranks))
    generator = torch.Generator().manual_seed(seed)
    scores = torch.full((len(ranks), width), math.nan, dtype=torch.float64)
    padded = torch.full((len(ranks), width), math.nan)
    mask = torch.zeros(len(ranks), width, dtype=torch.bool)
    for g, own in enumerate(ranks):
        scores[g, : len(own)] = 3 * torch.randn(len(own), generator=generator, dtype=torch.float64)
        padded[g, : len(own)] = torch.tensor(own, dtype=torch.float32)
        mask[g, : len(own)] = True
    ours, theirs = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    loss = kwise_loss(ours, padded, mask, divide)
    expected = torch.stack(
        [naive_loss(theirs[g], [float(r) for r in own], divide) for g, own in enumerate(ranks)]
    )
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=1e-12)
    loss.sum().backward()
    if expected.requires_grad:
        expected.sum().backward()
    wanted = torch.zeros_like(scores) if theirs.grad is None else theirs.grad
    assert ours.grad is not None
    # NaN stands on padding: it reaches neither the loss nor the gradient.
    torch.testing.assert_close(ours.grad[mask], wanted[mask], rtol=1e-9, atol=1e-12)
    assert (ours.grad[~mask] == 0).all()


def test_large_gaps_stay_finite() -> None:
    scores = torch.tensor([[-500.0, 500.0]], requires_grad=True)
    loss = kwise_loss(scores, torch.tensor([[1.0, 2.0]]), torch.ones(1, 2, dtype=torch.bool))
    loss.sum().backward()
    assert loss.item() == 1000.0
    assert scores.grad is not None
    assert scores.grad.tolist() == [[-1.0, 1.0]]


def test_pairs_are_counted() -> None:
    scores = torch.tensor([[3.0, 1.0, 1.0, math.nan], [0.0, 1.0, 2.0, 3.0]])
    ranks = torch.tensor([[1.0, 2.0, 3.0, math.nan], [1.0, 1.0, 2.0, 2.0]])
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    counts = pair_counts(scores, ranks, mask)
    # First row: two pairs right and one with equal scores; second: four wrong and two ties.
    assert [c.item() for c in counts] == [2.5, 7.0, 2.0]
