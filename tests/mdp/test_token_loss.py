"""A loss finished with its logits: the numbers and gradients of the two-pass form, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.mdp.losses import policy_loss
from textrl.mdp.token_loss import token_loss


def world(count: int, seed: int, learns: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    make = {"dtype": torch.float64}
    return {
        "hidden": torch.randn(count, 6, **make, requires_grad=True),
        "weight": torch.randn(11, 6, **make, requires_grad=learns),
        "bias": torch.randn(11, **make, requires_grad=learns),
        "targets": torch.randint(11, (count,)),
        "old": torch.randn(count, **make) * 0.3 - 2.0,
        "advantages": torch.randn(count, **make),
    }


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 12), st.floats(0.4, 2.0), st.booleans(), st.integers(0, 5))
def test_equals_autograd_through_whole_logits(
    count: int, chunk: int, temperature: float, learns: bool, seed: int
) -> None:
    w = world(count, seed, learns)
    leaves = [w["hidden"], *([w["weight"], w["bias"]] if learns else [])]
    logits = (w["hidden"] @ w["weight"].T + w["bias"]) / temperature
    expected_logprobs = torch.log_softmax(logits, -1).gather(1, w["targets"][:, None]).squeeze(1)
    expected = policy_loss(expected_logprobs, w["old"], w["advantages"], 0.2).total
    expected_grads = torch.autograd.grad(3.0 * expected, leaves)

    def loss(logprobs: torch.Tensor, rows: slice) -> torch.Tensor:
        return policy_loss(logprobs, w["old"][rows], w["advantages"][rows], 0.2).total

    total, logprobs = token_loss(
        w["hidden"], w["weight"], w["targets"], loss, bias=w["bias"], temperature=temperature, chunk=chunk
    )
    assert not logprobs.requires_grad
    torch.testing.assert_close(logprobs, expected_logprobs.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-12)
    for found, wanted in zip(torch.autograd.grad(3.0 * total, leaves), expected_grads, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_a_frozen_head_gets_no_gradient() -> None:
    w = world(4, 0, learns=False)
    total, _ = token_loss(w["hidden"], w["weight"], w["targets"], lambda new, _: -new.sum(), bias=w["bias"])
    total.backward()
    assert w["hidden"].grad is not None
    assert w["weight"].grad is None


def test_a_forbidden_token_leaves_no_nan() -> None:
    w = world(5, 1, learns=True)
    with torch.no_grad():
        w["bias"][3] = float("-inf")
    targets = torch.full_like(w["targets"], 4)
    total, _ = token_loss(w["hidden"], w["weight"], targets, lambda new, _: -new.sum(), bias=w["bias"])
    by_hidden, by_weight = torch.autograd.grad(total, [w["hidden"], w["weight"]])
    assert bool(torch.isfinite(by_hidden).all())
    assert bool((by_weight[3] == 0).all())


def test_float32_is_as_good_as_float32_can_be() -> None:
    w = world(64, 2, learns=True)
    exact, _ = token_loss(w["hidden"], w["weight"], w["targets"], lambda new, _: -new.sum(), bias=w["bias"])
    rough, _ = token_loss(
        w["hidden"].float(), w["weight"].float(), w["targets"], lambda new, _: -new.sum(),
        bias=w["bias"].float(),
    )  # fmt: skip
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=1e-6)
