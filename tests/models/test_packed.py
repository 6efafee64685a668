"""Blocks over real tokens only: what transformers' own forward pass gives, wherever the padding is."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from textrl.mdp.logprobs import logits_of, token_logprobs
from textrl.mdp.token_loss import token_loss
from textrl.models import packed
from textrl.models.attention import causal_attention
from textrl.models.layers import freeze_below
from textrl.models.packed import Packing, packable
from textrl.models.products import head_logits
from textrl.models.stack import Part, Trunk, final_hidden, hidden_at

VOCAB = 13
KINDS = ("gpt2", "llama")


def make(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    ids = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=VOCAB, n_positions=32, n_embd=16, n_layer=3, n_head=2, initializer_range=0.4, **ids
        )
        return GPT2LMHeadModel(config).double().eval()
    llama = LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, initializer_range=0.4, **ids,
    )  # fmt: skip
    return LlamaForCausalLM(llama).double().eval()


def their_hidden(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = model.base_model(
        input_ids=ids, attention_mask=mask.long(), position_ids=(mask.long().cumsum(-1) - 1).clamp(min=0)
    ).last_hidden_state
    return out


def layout(rows: int, length: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random rows with padding on both sides; at least two real tokens each."""
    torch.manual_seed(seed)
    mask = torch.zeros(rows, length, dtype=torch.bool)
    for row in mask:
        left = int(torch.randint(0, length - 2, ()))
        row[left : int(torch.randint(left + 2, length + 1, ()))] = True
    return torch.randint(VOCAB, (rows, length)), mask


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(rows=st.integers(1, 4), length=st.integers(3, 9), seed=st.integers(0, 50))
def test_hidden_states_are_those_of_transformers(kind: str, rows: int, length: int, seed: int) -> None:
    model = make(kind)
    ids, mask = layout(rows, length, seed)
    expected = their_hidden(model, ids, mask)
    ours = final_hidden(model, ids, mask)
    torch.testing.assert_close(ours[mask], expected[mask], rtol=1e-9, atol=1e-11)
    assert bool((ours[~mask] == 0).all())
    wanted = mask & (torch.rand(mask.shape) < 0.5)
    torch.testing.assert_close(
        hidden_at(model, Part(ids, mask, wanted)), expected[wanted], rtol=1e-9, atol=1e-11
    )


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_transformers(kind: str) -> None:
    model = make(kind)
    ids, mask = layout(3, 8, seed=4)
    wanted = mask & (torch.arange(8) % 2 == 0)
    slope = torch.randn(int(wanted.sum()), 16, dtype=torch.float64)
    grads = []
    for hidden in (their_hidden(model, ids, mask)[wanted], hidden_at(model, Part(ids, mask, wanted))):
        found = torch.autograd.grad((hidden * slope).sum(), list(model.parameters()), allow_unused=True)
        grads.append(found)
    for theirs, ours in zip(*grads, strict=True):
        assert (theirs is None) == (ours is None)
        if theirs is not None and ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_attention_by_hand(groups: int) -> None:
    torch.manual_seed(groups)
    q = torch.randn(2, 7, 4, 8, dtype=torch.float64)
    k, v = (torch.randn(2, 7, groups, 8, dtype=torch.float64) for _ in range(2))
    found = causal_attention(q, k, v, 0.3)
    for row in range(2):
        for head in range(4):
            shared = head * groups // 4
            for at in range(7):
                scores = 0.3 * (k[row, : at + 1, shared] @ q[row, at, head])
                expected = torch.softmax(scores, 0) @ v[row, : at + 1, shared]
                torch.testing.assert_close(found[row, at, head], expected, rtol=1e-10, atol=1e-12)


def test_a_packing_goes_to_a_rectangle_and_back() -> None:
    mask = torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 0]]).bool()
    packing = Packing.of(mask)
    x = torch.arange(7.0)[:, None]
    rectangle = packing.rectangle(x)
    assert rectangle.squeeze(-1).tolist() == [[0, 1, 0, 0], [2, 3, 4, 5], [6, 0, 0, 0]]
    assert torch.equal(packing.listed(rectangle), x)
    assert packing.positions.tolist() == [0, 1, 0, 1, 2, 3, 0]
    assert packing.padded(x).squeeze(-1).tolist() == [[0, 0, 1, 0], [2, 3, 4, 5], [0, 0, 6, 0]]


def test_what_this_module_does_not_know_is_left_to_transformers() -> None:
    model = make("gpt2")
    assert packable(model)
    model.train()
    assert not packable(model)  # dropout
    model.eval()
    block = model.base_model.h[1]
    block.forward = partial(block.forward)  # what gradient checkpointing does
    assert not packable(model)
    with torch.no_grad():
        assert packable(model)
        handle = block.register_forward_hook(lambda *_: None)
        assert not packable(model)
        handle.remove()
        assert packable(model)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 50), frozen=st.integers(0, 2))
def test_parts_that_go_together_give_what_they_give_alone(kind: str, seed: int, frozen: int) -> None:
    model = make(kind)
    if frozen:
        freeze_below(model, frozen)
    parts = []
    for number, (rows, length) in enumerate(((3, 5), (1, 9), (2, 3))):
        ids, mask = layout(rows, length, seed + 100 * number)
        parts.append(Part(ids, mask, mask & (torch.rand(mask.shape) < 0.6), Trunk(model, ids, mask, ())))
    alone = torch.cat([hidden_at(model, part) for part in parts])
    together = hidden_at(model, *parts)
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)
    slope = torch.randn(alone.shape, dtype=torch.float64)
    learning = [param for param in model.parameters() if param.requires_grad]
    grads = [
        torch.autograd.grad((hidden * slope).sum(), learning, allow_unused=True)
        for hidden in (alone, together)
    ]
    for expected, found in zip(*grads, strict=True):
        assert (expected is None) == (found is None)
        if expected is not None and found is not None:
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


class Sizes(TorchDispatchMode):
    """Collects how many rows the matrix products have."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.rows.add(args[-2].shape[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 50), frozen=st.booleans())
def test_under_autocast_products_have_few_sizes_and_the_same_results(
    kind: str, seed: int, frozen: bool
) -> None:
    model = make(kind).float()
    ids, mask = layout(7, 12, seed)
    wanted = mask & (torch.rand(mask.shape) < 0.6)
    if frozen:
        freeze_below(model, 1)
    slope = torch.randn(int(wanted.sum()), 16)
    learning = [param for param in model.parameters() if param.requires_grad]
    found = {}
    for multiple in (1, 64):
        with (
            pytest.MonkeyPatch.context() as patch,
            torch.autocast("cpu", torch.bfloat16),
            Sizes() as seen,
        ):
            patch.setattr(packed, "_MULTIPLE", multiple)
            trunk = Trunk(model, ids, mask, ())
            some = hidden_at(model, Part(ids, mask, wanted, trunk))
            every = final_hidden(model, ids, mask)
        grads = torch.autograd.grad((some * slope).sum(), learning, allow_unused=True)
        found[multiple] = [some.detach(), every.detach(), *(g for g in grads if g is not None)]
        assert (multiple == 64) == ({rows % 64 for rows in seen.rows} == {0})
    for plain, rounded in zip(*found.values(), strict=True):
        # Not to the last bit of bf16: another number of rows may be summed in another order.
        assert (rounded - plain).norm() <= 0.03 * plain.norm()


def test_attention_is_computed_in_fp32_on_a_cpu() -> None:
    torch.manual_seed(0)
    three = [torch.randn(2, 5, heads, 4).bfloat16() for heads in (4, 2, 2)]
    exact = causal_attention(*(x.float() for x in three), 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        found = causal_attention(*three, 0.5)
    assert torch.equal(found, exact)


def test_logits_are_not_rounded_to_bf16_on_a_cpu() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(5, 32), torch.randn(40, 32)
    targets = torch.arange(5)
    exact = torch.log_softmax(hidden.double() @ weight.double().T, -1).gather(1, targets[:, None])[:, 0]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = {
            "sampling": torch.log_softmax(head_logits(hidden, weight, None, 1.0), -1)[range(5), targets],
            "scoring": token_logprobs(hidden, weight, targets),
            "acting": torch.log_softmax(logits_of(hidden, weight, None, 1.0), -1)[range(5), targets],
            "learning": token_loss(hidden, weight, targets, lambda chosen, _: chosen.sum())[1],
        }
    for name, logprobs in found.items():
        assert logprobs.dtype == torch.float32, name
        torch.testing.assert_close(logprobs, exact.float(), rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("head_learns", [False, True])
def test_gradients_under_autocast_are_bf16s(head_learns: bool) -> None:
    torch.manual_seed(0)
    targets = torch.randint(40, (300,))
    grads = {}
    for cast in (False, True):
        hidden = torch.randn(300, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
        weight = torch.randn(40, 32, generator=torch.Generator().manual_seed(2)).requires_grad_(head_learns)
        with torch.autocast("cpu", torch.bfloat16, enabled=cast):
            total = token_loss(hidden, weight, targets, lambda chosen, _: chosen.sum())[0]
            total = total + token_logprobs(hidden, weight, targets).sum()
        total.backward()
        grads[cast] = [hidden.grad, *([weight.grad] if head_learns else [])]
    for exact, rounded in zip(grads[False], grads[True], strict=True):
        assert exact is not None
        assert rounded is not None
        assert 0 < (rounded - exact).norm() < 0.01 * exact.norm()
