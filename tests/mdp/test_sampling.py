"""Keyed sampling: it draws from the softmax, and the key alone decides the noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.mdp.sampling import _signed, counter_uniform, greedy, sample


def splitmix_reference(seed: int, episode: int, position: int, count: int) -> list[float]:
    """SplitMix64's finaliser over the same key, in Python's unbounded integers."""
    ones = (1 << 64) - 1

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & ones
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & ones
        return x ^ (x >> 31)

    golden = 0x9E3779B97F4A7C15
    key = mix((seed + golden) & ones)
    key = mix(((key ^ episode) + golden) & ones)
    key = mix(((key ^ position) + golden) & ones)
    return [((mix((key + i * golden) & ones) >> 11) + 0.5) * 2.0**-53 for i in range(1, count + 1)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**62), st.integers(0, 2**40), st.integers(0, 5000))
def test_noise_is_splitmix64_of_the_key(seed: int, episode: int, position: int) -> None:
    got = counter_uniform(seed, torch.tensor([episode]), torch.tensor([position]), 5)[0].tolist()
    assert got == splitmix_reference(seed, episode, position, 5)


def test_signed_keeps_the_bits() -> None:
    assert _signed(2**64 - 1) == -1
    assert _signed(5) == 5


def test_noise_is_uniform() -> None:
    numbers = (
        counter_uniform(1, torch.arange(2000), torch.zeros(2000, dtype=torch.int64), 50).flatten().numpy()
    )
    observed, _ = np.histogram(numbers, bins=100, range=(0, 1))
    chi2 = ((observed - 1000) ** 2 / 1000).sum()
    assert chi2 < 99 + 5 * (2 * 99) ** 0.5
    assert np.corrcoef(numbers[:-1], numbers[1:])[0, 1] == pytest.approx(0, abs=0.015)


@pytest.mark.parametrize("vocab", [5, 256, 300, 700])
def test_draws_follow_the_softmax(vocab: int) -> None:
    torch.manual_seed(vocab)
    logits = torch.randn(1, vocab) * 2
    draws = 60_000
    tokens = sample(logits.expand(draws, -1), 3, torch.arange(draws), torch.zeros(draws, dtype=torch.int64))
    expected = torch.softmax(logits[0].double(), -1) * draws
    observed = torch.bincount(tokens, minlength=vocab).double()
    frequent = expected > 5
    chi2 = ((observed - expected) ** 2 / expected)[frequent].sum()
    freedom = int(frequent.sum()) - 1
    assert chi2 < freedom + 5 * (2 * freedom) ** 0.5


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    logits, episodes = torch.randn(16, 300), torch.arange(16)
    positions = torch.arange(16) % 3
    together = sample(logits, 7, episodes, positions)
    alone = [
        sample(logits[i : i + 1], 7, episodes[i : i + 1], positions[i : i + 1]).item() for i in range(16)
    ]
    assert together.tolist() == alone


def test_forbidden_tokens_are_never_drawn() -> None:
    logits = torch.full((5000, 400), float("-inf"))
    logits[:, [3, 399]] = 0.0
    tokens = sample(logits, 0, torch.arange(5000), torch.zeros(5000, dtype=torch.int64))
    assert set(tokens.tolist()) == {3, 399}


def test_greedy_takes_the_largest() -> None:
    assert greedy(torch.tensor([[0.0, 2.0, 1.0], [5.0, 2.0, 5.0]])).tolist() == [1, 0]
