"""The formulas: advantages and losses by hand, their gradients by enumeration in float64."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.learners.groups.loss import group_loss, weights
from textrl.learners.grpo.learner import EPSILON, relative
from textrl.learners.rloo.learner import leave_one_out
from textrl.mdp.kl import k3

REWARDS = torch.tensor([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]], dtype=torch.float64)


def test_advantages_by_hand() -> None:
    assert leave_one_out(REWARDS).tolist() == [
        pytest.approx([1 - 4, 2 - 3.5, 6 - 1.5]),
        [0.0, 0.0, 0.0],
    ]
    assert relative(REWARDS, scale=False).tolist() == [pytest.approx([-2, -1, 3]), [0.0, 0.0, 0.0]]
    spread = math.sqrt((4 + 1 + 9) / 2) + EPSILON
    scaled = relative(REWARDS, scale=True).tolist()
    assert scaled == [pytest.approx([-2 / spread, -1 / spread, 3 / spread]), [0.0, 0.0, 0.0]]


@settings(deadline=None, max_examples=50)
@given(
    rewards=st.lists(st.floats(-50, 50), min_size=2, max_size=6),
    own=st.floats(-50, 50),
    at=st.integers(0, 5),
)
def test_no_reward_is_part_of_its_own_baseline(rewards: list[float], own: float, at: int) -> None:
    row = torch.tensor([rewards], dtype=torch.float64)
    place = at % len(rewards)
    baseline = (row - leave_one_out(row))[0, place]
    row[0, place] = own
    assert float((row - leave_one_out(row))[0, place]) == pytest.approx(float(baseline), abs=1e-10)


def test_the_expected_gradient_is_that_of_the_mean_reward() -> None:
    """Over all groups of 3 of 4 responses: RLOO gives it exactly, GRPO without scaling (K-1)/K of it."""
    rewards = torch.tensor([0.3, -1.0, 2.0, 0.7], dtype=torch.float64)
    logits = torch.tensor([0.1, 0.4, -0.3, 0.0], dtype=torch.float64, requires_grad=True)
    logprobs = torch.log_softmax(logits, 0)
    (wanted,) = torch.autograd.grad((logprobs.exp() * rewards).sum(), logits, retain_graph=True)
    found = {"rloo": torch.zeros_like(wanted), "grpo": torch.zeros_like(wanted)}
    for group in itertools.product(range(4), repeat=3):
        chosen = torch.tensor(group)
        chance = float(logprobs.detach()[chosen].sum().exp())
        paid = rewards[chosen][None]
        for name, advantages in (("rloo", leave_one_out(paid)), ("grpo", relative(paid, scale=False))):
            loss = group_loss(
                logprobs[chosen], logprobs.detach()[chosen], logprobs.detach()[chosen], advantages[0],
                torch.full((3,), 1 / 3, dtype=torch.float64), clip=None, beta=0.0,
            ).total  # fmt: skip
            (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
            found[name] -= chance * gradient
    assert torch.allclose(found["rloo"], wanted, atol=1e-12)
    assert torch.allclose(found["grpo"], wanted * 2 / 3, atol=1e-12)


def test_what_a_decision_weighs() -> None:
    lengths = torch.tensor([1, 4])
    sizes = {"sequences": 2, "tokens": 5, "longest": 8}
    assert weights(lengths, "sequence", **sizes).tolist() == [1 / 2, 1 / 8]
    assert weights(lengths, "token", **sizes).tolist() == [1 / 5, 1 / 5]
    assert weights(lengths, "constant", **sizes).tolist() == [1 / 16, 1 / 16]
    assert weights(lengths, "sum", **sizes).tolist() == [1 / 2, 1 / 2]


def test_the_loss_by_hand() -> None:
    old = torch.tensor([-1.0, -1.0, -1.0], dtype=torch.float64)
    ratios = torch.tensor([1.5, 1.5, 0.9], dtype=torch.float64)
    new, ref = old + ratios.log(), old + math.log(2)
    advantages = torch.tensor([2.0, -1.0, 1.0], dtype=torch.float64)
    weight = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
    plain = group_loss(new, old, ref, advantages, weight, clip=0.2, beta=0.0)
    held = -(0.5 * 1.2 * 2 - 0.25 * 1.5 + 0.25 * 0.9)  # only a gain is held back
    assert float(plain.total) == pytest.approx(held)
    assert (float(plain.kl_loss), float(plain.clipped)) == (0.0, 2.0)
    free = group_loss(new, old, ref, advantages, weight, clip=None, beta=0.0)
    assert float(free.total) == pytest.approx(-(0.5 * 1.5 * 2 - 0.25 * 1.5 + 0.25 * 0.9))
    assert float(free.clipped) == 0
    # k3 = ref/pi - 1 - log(ref/pi)
    shares = [2 / ratio for ratio in ratios.tolist()]
    each = [share - 1 - math.log(share) for share in shares]
    penalty = 0.3 * sum(w * k for w, k in zip(weight.tolist(), each, strict=True))
    both = group_loss(new, old, ref, advantages, weight, clip=0.2, beta=0.3)
    assert float(both.kl_loss) == pytest.approx(penalty)
    assert float(both.total) == pytest.approx(held + penalty)
    assert float(k3(new, ref)[0]) == pytest.approx(each[0])
