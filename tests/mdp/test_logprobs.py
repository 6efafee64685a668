"""The one log-probability function against torch's own in float64, gradients included."""

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
    seed=st.integers(0, 2**31),
)
def test_values_and_gradients_match_float64(
    rows: int, vocab: int, chunk: int, temperature: float, head_learns: bool, with_bias: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    hidden = torch.randn(rows, 8, requires_grad=True)
    weight = torch.randn(vocab, 8, requires_grad=head_learns)
    bias = torch.randn(vocab, requires_grad=head_learns) if with_bias else None
    targets = torch.randint(vocab, (rows,))
    upstream = torch.randn(rows)
    ours, entropy = token_logprobs_and_entropy(
        hidden, weight, targets, bias=bias, temperature=temperature, chunk=chunk
    )
    table = plain(hidden, weight, bias, temperature)
    theirs = table.gather(1, targets[:, None]).squeeze(1)
    assert torch.allclose(ours.double(), theirs, atol=1e-5)
    assert torch.allclose(entropy.double(), -(table.exp() * table).sum(-1), atol=1e-4)
    inputs = [
        hidden,
        *([weight] if head_learns else []),
        *([bias] if head_learns and bias is not None else []),
    ]
    got = torch.autograd.grad((ours * upstream).sum(), inputs)
    wanted = torch.autograd.grad((theirs * upstream.double()).sum(), inputs)
    for a, b in zip(got, wanted, strict=True):
        assert torch.allclose(a, b, atol=2e-4, rtol=1e-4)


def test_hand_computed_value() -> None:
    # Logits 0, ln 2, ln 5: probabilities 1/8, 2/8, 5/8.
    weight = torch.tensor([[0.0], [0.6931471805599453], [1.6094379124341003]])
    got = token_logprobs(torch.ones(3, 1), weight, torch.arange(3)).exp()
    assert got.tolist() == pytest.approx([0.125, 0.25, 0.625], abs=1e-6)


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
