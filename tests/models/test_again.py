"""What is computed again in the backward pass gives the same gradients and is not kept meanwhile."""

import weakref
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from textrl.models import again
from textrl.models.again import project_again
from textrl.models.packed import Packing, run_packed


def made(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "gpt2":
        config = GPT2Config(vocab_size=17, n_positions=16, n_embd=16, n_layer=2, n_head=2)
        return GPT2LMHeadModel(config).eval()
    llama = LlamaConfig(
        vocab_size=17, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16,
    )  # fmt: skip
    return LlamaForCausalLM(llama).eval()


def autocast(precision: str) -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_are_the_same_to_the_last_bit(
    kind: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], dtype=torch.bool)
    ids = torch.randint(17, (8,), generator=torch.Generator().manual_seed(1))
    found = []
    for least in (0, 1 << 40):
        monkeypatch.setattr(again, "LARGE", least)
        model = made(kind)
        with autocast(precision):
            hidden = run_packed(model, ids, Packing.of(mask), 0, 2, final=True)
        torch.autograd.backward(hidden.float().square().sum())
        found.append(
            [hidden.detach(), *(p.grad for p in model.base_model.parameters() if p.grad is not None)]
        )
    assert len(found[0]) > 10
    for ours, kept in zip(*found, strict=True):
        assert torch.equal(ours, kept)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("rows", [1024, 8])
def test_a_large_input_is_not_kept(precision: str, rows: int) -> None:
    norm, product = torch.nn.LayerNorm(256), Conv1D(512, 256)
    x = torch.randn(rows, 256)
    seen = []

    def compute() -> torch.Tensor:
        out: torch.Tensor = norm(x)
        seen.append(weakref.ref(out.untyped_storage()))
        return out

    with autocast(precision):
        y = project_again(product, compute)
    kept = [one for one in seen if one() is not None]
    assert bool(kept) == (rows == 8 and precision == "fp32")
    torch.autograd.backward(y.float().sum())
    assert len(seen) == (2 if rows == 1024 else 1)


def test_nothing_is_computed_twice_without_a_gradient() -> None:
    calls = []
    linear = torch.nn.Linear(256, 8)

    def compute() -> torch.Tensor:
        calls.append(1)
        return torch.ones(2048, 256)

    with torch.no_grad():
        project_again(linear, compute)
    assert calls == [1]
