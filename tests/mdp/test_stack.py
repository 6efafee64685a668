"""Running a model block by block: the same numbers, whoever computed the frozen part."""

from __future__ import annotations

import copy
import gc
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from textrl.models.layers import freeze_below
from textrl.models.loading import scorer_from_causal_lm
from textrl.models.stack import (
    Trunk,
    final_hidden,
    frozen_depth,
    run_blocks,
    score_ids,
    share_frozen,
    shared_depth,
)

VOCAB = 11


def make(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=VOCAB, n_positions=32, n_embd=16, n_layer=4, n_head=2, initializer_range=0.4
        )
        return GPT2LMHeadModel(config).eval()
    llama = LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=4, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=32, initializer_range=0.4, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(llama).eval()


def padded(rows: int = 3, length: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows with padding on the left (two positions of row 0) and on the right (row 1)."""
    torch.manual_seed(1)
    ids = torch.randint(VOCAB, (rows, length))
    mask = torch.ones(rows, length, dtype=torch.bool)
    mask[0, :2] = False
    mask[1, -2:] = False
    return ids, mask


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_blocks_in_pieces_give_the_whole(kind: str) -> None:
    model = make(kind)
    ids, mask = padded()
    whole = model.base_model(
        input_ids=ids, attention_mask=mask.long(), position_ids=(mask.long().cumsum(-1) - 1).clamp(min=0)
    ).last_hidden_state
    assert torch.allclose(final_hidden(model, ids, mask)[mask], whole[mask], atol=1e-6)
    x = run_blocks(model, ids, mask, 0, 1)
    x = run_blocks(model, x, mask, 1, 3)
    x = run_blocks(model, x, mask, 3, 4, final=True)
    assert torch.allclose(x[mask], whole[mask], atol=1e-6)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_trunk_changes_nothing_and_runs_frozen_blocks_once(kind: str) -> None:
    model = make(kind)
    freeze_below(model, 3)
    twin = copy.deepcopy(model).requires_grad_(False)
    ids, mask = padded()
    trunk = Trunk(model, ids, mask, (2, 3))
    calls = []
    handle = model.base_model.get_input_embeddings().register_forward_hook(lambda *_: calls.append(1))
    with_trunk = final_hidden(model, ids, mask, trunk)
    again = final_hidden(twin, ids, mask, trunk)
    handle.remove()
    assert len(calls) == 1
    assert set(trunk.hidden) == {2, 3}
    plain = final_hidden(twin, ids, mask)
    assert torch.allclose(with_trunk[mask], plain[mask], atol=1e-6)
    assert torch.equal(again, with_trunk)
    with_trunk[mask].sum().backward()
    assert next(model.base_model.get_input_embeddings().parameters()).grad is None


def test_depths_that_are_shared() -> None:
    model = make("llama")
    freeze_below(model, 3)
    assert frozen_depth(model) == 3
    scorer = scorer_from_causal_lm(model, layers=2).requires_grad_(False)
    assert shared_depth(model, scorer) == 2
    first = dict(model.base_model.layers[0].named_parameters())
    second = dict(scorer.base_model.layers[0].named_parameters())
    assert all(second[name].data_ptr() == tensor.data_ptr() for name, tensor in first.items())
    other = scorer_from_causal_lm(model, layers=3)
    with torch.no_grad():
        next(other.base_model.layers[1].parameters()).add_(1.0)
    other.requires_grad_(False)
    assert share_frozen(model, other) == 1
    assert share_frozen(make("gpt2").requires_grad_(False), other) == 0


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mapped files")
def test_a_network_that_shares_leaves_its_file(tmp_path: Path) -> None:
    """Or the file's copy of what is shared would stay in memory beside the one that is used."""
    first = make("llama").requires_grad_(False)
    first.save_pretrained(tmp_path / "second")
    second = LlamaForCausalLM.from_pretrained(tmp_path / "second").eval()
    freeze_below(second, 2)
    before = {name: param.detach().clone() for name, param in second.named_parameters()}
    file = str(tmp_path / "second" / "model.safetensors")
    assert file in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert shared_depth(first, second) == 2
    gc.collect()
    assert file not in Path("/proc/self/maps").read_text(encoding="utf-8")
    for name, param in second.named_parameters():
        assert torch.equal(param, before[name]), name
    ours, theirs = first.model.layers, second.model.layers
    assert ours[1].mlp.up_proj.weight.data_ptr() == theirs[1].mlp.up_proj.weight.data_ptr()
    assert ours[2].mlp.up_proj.weight.data_ptr() != theirs[2].mlp.up_proj.weight.data_ptr()
    assert second.lm_head.weight is second.model.embed_tokens.weight


def test_a_trunk_of_other_ids_is_not_used() -> None:
    model = make("llama").requires_grad_(False)
    ids, mask = padded()
    trunk = Trunk(model, ids, mask, (4,))
    final_hidden(model, ids, mask, trunk)
    other = (ids + 1) % VOCAB
    assert torch.equal(final_hidden(model, other, mask, trunk), final_hidden(model, other, mask))


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@settings(max_examples=10, deadline=None)
@given(left=st.integers(0, 3), right=st.integers(0, 3), garbage=st.integers(0, VOCAB - 1))
def test_scores_ignore_padding_wherever_it_is(kind: str, left: int, right: int, garbage: int) -> None:
    scorer = scorer_from_causal_lm(make(kind), layers=None)
    torch.manual_seed(2)
    torch.nn.init.normal_(scorer.score.weight)
    ids = torch.tensor([[1, 2, 3, 4]])
    plain = score_ids(scorer, ids, torch.ones_like(ids, dtype=torch.bool))
    wide = torch.nn.functional.pad(ids, (left, right), value=garbage)
    mask = torch.zeros_like(wide, dtype=torch.bool)
    mask[:, left : left + 4] = True
    assert torch.allclose(score_ids(scorer, wide, mask), plain, atol=1e-5)
