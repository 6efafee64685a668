"""Rows, micro-batches, packing and residual dropout."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from trainers_kit import make_lm, make_tokenizer
from transformers import OPTConfig, OPTForCausalLM

from textrl.batching import (
    ResidualDropout,
    Row,
    check_packing,
    context_length,
    encode,
    hidden_states,
    pack,
    pad,
    plan,
)
from textrl.errors import UserError
from textrl.models.loading import blocks, freeze_below

ARCHITECTURES = pytest.mark.parametrize("kind", ["gpt2", "llama"])


def rows_of_lengths(*lengths: int) -> list[Row]:
    return [Row(tuple((7 * i + 3 * n) % 29 + 2 for i in range(n)), 1) for n in lengths]


@settings(deadline=None, max_examples=80)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 5)), max_size=30), st.integers(1, 120))
def test_a_plan_holds_every_item_once_within_the_budget(items: list[tuple[int, int]], budget: int) -> None:
    lengths, rows = [length for length, _ in items], [count for _, count in items]
    groups = plan(lengths, budget, rows)
    assert sorted(i for group in groups for i in group) == list(range(len(items)))
    for group in groups:
        size = max(lengths[i] for i in group) * sum(rows[i] for i in group)
        assert size <= budget or len(group) == 1


def test_similar_lengths_go_together() -> None:
    assert plan([3, 9, 3, 8, 3], budget=18) == [[1, 3], [0, 2, 4]]
    # Three rows of 10 fill an eighth of the budget, so short rows start a batch of their own.
    assert plan([10, 10, 10, 4, 4, 9], budget=240) == [[0, 1, 2, 5], [3, 4]]
    assert plan([10, 10, 4, 4], budget=240) == [[0, 1, 2], [3]]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=20))
def test_packs_hold_every_row_once_within_the_length(lengths: list[int]) -> None:
    rows = rows_of_lengths(*lengths)
    packs = pack(rows, 12)
    assert sorted(row for rows in packs for row in rows) == sorted(rows)
    assert all(sum(len(row.ids) for row in rows) <= 12 for rows in packs)


def test_layout_of_a_packed_and_a_padded_sequence() -> None:
    batch = pad([[Row((5, 6, 7), 2), Row((8, 9), 1)], [Row((4,), 1)]], pad_id=0)
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1], [0, 0, 0, 0, 0]]
    assert batch.mask.tolist() == [[True] * 5, [True] + [False] * 4]
    assert batch.targets.tolist() == [[False, False, True, False, True], [False] * 5]
    assert batch.packed
    assert not pad([[Row((5, 6), 1)], [Row((4,), 1)]], pad_id=0).packed


@ARCHITECTURES
def test_packed_rows_do_not_see_each_other(kind: str) -> None:
    model = make_lm(kind)
    rows = rows_of_lengths(5, 3, 6)
    packed = hidden_states(model, pad([rows, rows[:1]], pad_id=0))[0]
    start = 0
    for row in rows:
        alone = hidden_states(model, pad([[row]], pad_id=0))[0]
        torch.testing.assert_close(packed[start : start + len(row.ids)], alone, rtol=1e-5, atol=1e-6)
        start += len(row.ids)
    other = [Row((1, 1, 1, 1, 1), 1), *rows[1:]]
    changed = hidden_states(model, pad([other, rows[:1]], pad_id=0))[0]
    assert torch.equal(changed[5:14], packed[5:14])
    assert not torch.allclose(changed[:5], packed[:5])
    check_packing(model)


def test_packing_is_refused_where_rows_would_leak() -> None:
    config = OPTConfig(
        vocab_size=32,
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    model = OPTForCausalLM(config).eval()
    with torch.no_grad():
        for param in model.parameters():
            param.mul_(8)
    with pytest.raises(UserError, match="set packing to false"):
        check_packing(model)


@ARCHITECTURES
def test_padding_changes_no_real_token(kind: str) -> None:
    model = make_lm(kind)
    short, long = rows_of_lengths(3, 8)
    alone = hidden_states(model, pad([[short]], pad_id=0))[0]
    for pad_id in (0, 9):
        together = hidden_states(model, pad([[short], [long]], pad_id))[0]
        torch.testing.assert_close(together[:3], alone, rtol=1e-5, atol=1e-6)


@ARCHITECTURES
def test_dropout_acts_on_trainable_blocks_inside_the_context_only(kind: str) -> None:
    model = make_lm(kind, layers=3)
    freeze_below(model, 1)
    batch = pad([[row] for row in rows_of_lengths(6, 4)], pad_id=0)
    outputs: list[torch.Tensor] = []
    for block in blocks(model):
        block.register_forward_hook(lambda module, args, output: outputs.append(output.detach()))
    hidden_states(model, batch)
    dropout = ResidualDropout(model, 0.3, seed=1)
    hidden_states(model, batch)
    with dropout.active(batch, 0):
        hidden_states(model, batch)
    dropout.remove()
    hidden_states(model, batch)
    plain, outside, inside, after = (outputs[i : i + 3] for i in range(0, 12, 3))
    assert all(map(torch.equal, plain, outside))
    assert all(map(torch.equal, plain, after))
    assert torch.equal(plain[0], inside[0])
    assert not torch.equal(plain[1], inside[1])


def test_dropout_keeps_the_mean_and_drops_the_share() -> None:
    model = make_lm("llama", layers=1)
    block = blocks(model)[0]
    assert isinstance(block, nn.Module)
    batch = pad([[Row(tuple([5] * 60), 1)]] * 1, pad_id=0)
    dropout = ResidualDropout(model, 0.2, seed=3)
    ones = torch.ones(1, 60, 16)
    seen = []
    for step in range(20):
        with dropout.active(batch, step):
            seen.append(dropout._drop(block, (), ones))
    values = torch.stack(seen)
    assert set(values.unique().tolist()) == {0.0, 1.25}
    # 19,200 draws: the share's standard error is 0.003.
    assert (values == 0).float().mean().item() == pytest.approx(0.2, abs=0.015)
    assert not torch.equal(seen[0], seen[1])


def test_noise_belongs_to_the_row_not_to_its_neighbours() -> None:
    model = make_lm("gpt2")
    dropout = ResidualDropout(model, 0.5, seed=0)
    rows = rows_of_lengths(4, 7, 5)
    layouts = [pad([[row] for row in rows], 0), pad([rows], 0), pad([[rows[2]], [rows[1]]], 0)]
    found = []
    for batch in layouts:
        with dropout.active(batch, 5):
            hidden = hidden_states(model, batch)
        b, start, stop, _ = next(span for span in batch.spans if span[3] == rows[2])
        found.append(hidden[b, start:stop])
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[0], found[2], rtol=1e-5, atol=1e-6)


def test_dropout_is_refused_where_a_block_has_unknown_parts() -> None:
    model = make_lm("llama")
    for block in blocks(model):
        block.mixer = block._modules.pop("self_attn")
    with pytest.raises(UserError, match="set dropout to 0"):
        ResidualDropout(model, 0.1, seed=0)


def test_a_completion_ends_with_eos_unless_it_was_cut() -> None:
    tokenizer = make_tokenizer()
    eos = tokenizer.eos_token_id

    def row(prompt: str, completion: str, limit: int, eos_too: bool = True) -> Row:
        return encode(tokenizer, prompt, completion, max_tokens=limit, append_eos=eos_too, what="Example 3")

    full = row("the film", "is good", 10)
    assert (len(full.ids), full.first, full.ids[-1], full.targets) == (5, 2, eos, 3)
    cut = row("the film", "is good", 4)
    assert cut.ids == full.ids[:4]
    assert row("the film", "is good", 10, eos_too=False).ids == full.ids[:4]
    # Nothing comes before the first token of an empty prompt, so it is not counted.
    assert row("", "is good", 10).first == 1
    with pytest.raises(UserError, match="Example 3 has a prompt of 2 tokens"):
        row("the film", "is", 2)
    with pytest.raises(UserError, match="Example 3 has an empty completion"):
        row("the film", "", 10, eos_too=False)


def test_a_limit_beyond_the_context_is_refused() -> None:
    model = make_lm("gpt2")
    assert context_length(model, None) == 64
    assert context_length(model, 10) == 10
    with pytest.raises(UserError, match=r"max_tokens is 65, .* 64"):
        context_length(model, 65)
