"""The one log-probability function against torch's own in float64, gradients included, in both types."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.mdp.logprobs import token_logprobs, token_logprobs_and_entropy


def plain(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, t: float) -> torch.Tensor:
    logits = hidden.double() @ weight.double().T
    return torch.log_softmax((logits if bias is None else logits + bias.double()) / t, dim=-1)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 20),
    vocab=st.integers(2, 40),
    chunk=st.integers(1, 25),
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    head_learns=st.booleans(),
    with_bias=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
def test_values_and_gradients_match_float64(
    rows: int, vocab: int, chunk: int, temperature: float, head_learns: bool, with_bias: bool,
    dtype: torch.dtype, seed: int,
) -> None:  # fmt: skip
    """Whatever the chunk; in float64 to 1e-12, where the chunk shows as rounding alone."""
    torch.manual_seed(seed)
    hidden = torch.randn(rows, 8, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocab, 8, dtype=dtype, requires_grad=head_learns)
    bias = torch.randn(vocab, dtype=dtype, requires_grad=head_learns) if with_bias else None
    targets = torch.randint(vocab, (rows,))
    upstream = torch.randn(rows, dtype=dtype)
    exact = dtype == torch.float64
    ours, entropy = token_logprobs_and_entropy(
        hidden, weight, targets, bias=bias, temperature=temperature, chunk=chunk
    )
    table = plain(hidden, weight, bias, temperature)
    theirs = table.gather(1, targets[:, None]).squeeze(1)
    assert ours.dtype == entropy.dtype == dtype
    assert torch.allclose(ours.double(), theirs, rtol=0, atol=1e-12 if exact else 2e-5)
    wanted_entropy = -(table.exp() * table).sum(-1)
    assert torch.allclose(entropy.double(), wanted_entropy, rtol=0, atol=1e-12 if exact else 1e-4)
    inputs = [
        hidden,
        *([weight] if head_learns else []),
        *([bias] if head_learns and bias is not None else []),
    ]
    got = torch.autograd.grad((ours * upstream).sum(), inputs)
    wanted = torch.autograd.grad((theirs * upstream.double()).sum(), inputs)
    for a, b in zip(got, wanted, strict=True):
        tolerance = {"atol": 1e-12, "rtol": 1e-9} if exact else {"atol": 2e-4, "rtol": 1e-4}
        assert torch.allclose(a, b, **tolerance)


def test_hand_computed_value() -> None:
    # Logits 0, ln 2, ln 5: probabilities 1/8, 2/8, 5/8.
    weight = torch.tensor([[0.0], [0.6931471805599453], [1.6094379124341003]])
    got = token_logprobs(torch.ones(3, 1), weight, torch.arange(3)).exp()
    assert got.tolist() == pytest.approx([0.125, 0.25, 0.625], abs=1e-6)


@pytest.mark.parametrize("head_learns", [False, True])
def test_gradient_matches_finite_differences(head_learns: bool) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 4, dtype=torch.float64, requires_grad=head_learns)
    bias = torch.randn(7, dtype=torch.float64, requires_grad=head_learns)
    targets = torch.tensor([0, 6, 3, 3, 1])

    def function(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return token_logprobs(hidden, weight, targets, bias=bias, temperature=0.7, chunk=2)

    assert torch.autograd.gradcheck(function, (hidden, weight, bias))


def test_narrow_models_give_float32() -> None:
    hidden = torch.ones(2, 3, dtype=torch.bfloat16)
    weight = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
    got = token_logprobs(hidden, weight, torch.tensor([0, 4]))
    assert got.dtype == torch.float32
    # The sum over the vocabulary is made in float32 too: in bf16 it would be off by half a percent.
    every = token_logprobs(hidden[:1].expand(5, -1), weight, torch.arange(5)).exp().sum()
    assert every.item() == pytest.approx(1.0, abs=1e-6)


def test_no_rows_give_no_values() -> None:
    assert token_logprobs(torch.zeros(0, 4), torch.zeros(5, 4), torch.zeros(0, dtype=torch.int64)).shape == (
        0,
    )


def test_forbidden_tokens_leave_the_entropy_finite() -> None:
    bias = torch.tensor([0.0, 0.0, float("-inf")])
    _, entropy = token_logprobs_and_entropy(
        torch.zeros(1, 2), torch.zeros(3, 2), torch.tensor([0]), bias=bias
    )
    assert entropy.item() == pytest.approx(0.6931472, abs=1e-6)
