from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Cohere2Config,
    Cohere2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from textrl.errors import UserError
from textrl.evaluation.perplexity import perplexities, perplexity, perplexity_change
from textrl.models.layers import freeze_below

TEXTS = ["A cat sat on the mat.", "No.", "It was a long and rather quiet evening in the city.", "ab", "x"]


def tiny(kind: str, vocab: int, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    sizes = {"vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    width = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, **sizes))
    elif kind == "llama":
        model = LlamaForCausalLM(
            LlamaConfig(num_key_value_heads=1, tie_word_embeddings=True, **width, **sizes)
        )
    else:  # scales its logits after the output embedding
        model = Cohere2ForCausalLM(Cohere2Config(num_key_value_heads=1, logit_scale=0.25, **width, **sizes))
    # Random weights of the usual scale give nearly uniform predictions, which would test little.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model.eval()


@torch.no_grad()
def naive(model: Any, tokenizer: Any, text: str) -> tuple[float, int]:
    """One forward pass per predicted token: no batch, no padding, no chunks."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    total = 0.0
    for place in range(1, len(ids)):
        logits = model(torch.tensor([ids[:place]])).logits[0, -1].double()
        total -= float(logits.log_softmax(-1)[ids[place]])
    return total, max(len(ids) - 1, 0)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "cohere2"])
def test_perplexity_is_that_of_a_naive_loop(kind: str, letters: PreTrainedTokenizerFast) -> None:
    model = tiny(kind, len(letters))
    expected = [naive(model, letters, text) for text in TEXTS]
    found = perplexity(model, letters, TEXTS, batch_size=3, chunk=7)
    assert found.nll_per_text == pytest.approx([nll for nll, _ in expected], rel=1e-5)
    assert found.tokens == sum(count for _, count in expected)
    assert found.value == pytest.approx(math.exp(sum(nll for nll, _ in expected) / found.tokens), rel=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_neither_batch_size_nor_chunk_nor_order_changes_it(
    kind: str, letters: PreTrainedTokenizerFast
) -> None:
    model = tiny(kind, len(letters))
    base = perplexity(model, letters, TEXTS)
    for batch_size, chunk in ((1, 256), (2, 1), (5, 3)):
        other = perplexity(model, letters, TEXTS, batch_size=batch_size, chunk=chunk)
        assert other.nll_per_text == pytest.approx(base.nll_per_text, rel=1e-6)
    turned = perplexity(model, letters, TEXTS[::-1])
    assert turned.nll_per_text[::-1] == pytest.approx(base.nll_per_text, rel=1e-6)


def test_it_weighs_tokens_and_not_texts(letters: PreTrainedTokenizerFast) -> None:
    model = tiny("gpt2", len(letters))
    short, long = (perplexity(model, letters, [TEXTS[index]]) for index in (1, 2))
    both = perplexity(model, letters, [TEXTS[1], TEXTS[2]])
    assert both.value == pytest.approx(
        math.exp((short.nll + long.nll) / (short.tokens + long.tokens)), rel=1e-6
    )


def test_bos_predicts_the_first_token_too(letters: PreTrainedTokenizerFast) -> None:
    model = tiny("llama", len(letters))
    assert letters.bos_token_id is None
    with pytest.raises(UserError, match="no BOS token"):
        perplexity(model, letters, TEXTS, bos=True)
    with_bos = copy.deepcopy(letters)
    with_bos.bos_token = "<eos>"
    found = perplexity(model, with_bos, ["x", "abc"], bos=True)
    assert found.tokens_per_text.tolist() == [1.0, 3.0]
    logits = model(torch.tensor([[with_bos.bos_token_id]])).logits[0, -1].double()
    expected = -float(logits.log_softmax(-1)[with_bos.convert_tokens_to_ids("x")].detach())
    assert found.nll_per_text[0] == pytest.approx(expected, rel=1e-5)


def test_long_texts_are_cut_at_the_limit_of_setting_and_model(letters: PreTrainedTokenizerFast) -> None:
    model = tiny("gpt2", len(letters))
    text = "abcdefghij" * 20
    assert perplexity(model, letters, [text], max_tokens=10).tokens == 9
    assert perplexity(model, letters, [text], max_tokens=500).tokens == 63  # 64 positions
    assert perplexity(model, letters, [text], max_tokens=10).nll == pytest.approx(
        perplexity(model, letters, [text[:10]]).nll, rel=1e-6
    )


def test_texts_without_a_predicted_token_count_nothing_and_none_at_all_is_refused(
    letters: PreTrainedTokenizerFast,
) -> None:
    model = tiny("gpt2", len(letters))
    assert perplexity(model, letters, ["x", "", "abc"]).tokens_per_text.tolist() == [0.0, 0.0, 2.0]
    for texts in ([], ["", "x"]):
        with pytest.raises(UserError, match="at least two tokens"):
            perplexity(model, letters, texts)


def test_dropout_is_off_while_measuring_and_the_mode_comes_back(letters: PreTrainedTokenizerFast) -> None:
    model = tiny("gpt2", len(letters)).train()
    first = perplexity(model, letters, TEXTS)
    assert first.nll == perplexity(model, letters, TEXTS).nll
    assert model.training


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("frozen", [0, 1])
def test_models_measured_together_are_as_measured_alone(
    kind: str, frozen: int, letters: PreTrainedTokenizerFast
) -> None:
    before = tiny(kind, len(letters))
    after = copy.deepcopy(before)
    if frozen:
        freeze_below(before, 1)
        freeze_below(after, 1)
    with torch.no_grad():
        for parameter in after.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn_like(parameter))
    alone = [perplexity(model, letters, TEXTS).nll_per_text for model in (before, after)]
    together = [one.nll_per_text for one in perplexities([before, after], letters, TEXTS, batch_size=2)]
    assert together[0] == pytest.approx(alone[0], rel=1e-5)
    assert together[1] == pytest.approx(alone[1], rel=1e-5)
    assert not np.allclose(alone[0], alone[1], rtol=1e-4)


def test_a_change_is_a_ratio_with_an_interval_around_it(letters: PreTrainedTokenizerFast) -> None:
    texts = [f"text number {i} about {i * i} things" for i in range(30)]
    one, two = (perplexity(tiny("gpt2", len(letters), seed), letters, texts) for seed in (0, 1))
    change = perplexity_change(one, two)
    assert change.value == pytest.approx(two.value / one.value - 1)
    assert change.lo < change.value < change.hi
    still = perplexity_change(one, one)
    assert (still.value, still.lo, still.hi) == (0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="same tokens"):
        perplexity_change(one, perplexity(tiny("gpt2", len(letters)), letters, texts[:5]))


def test_a_change_matches_a_plain_bootstrap(letters: PreTrainedTokenizerFast) -> None:
    texts = ["abc", "a longer text than that", "ab", "and one more text"]
    one, two = (perplexity(tiny("llama", len(letters), seed), letters, texts) for seed in (0, 1))
    rng = np.random.default_rng(4)
    ratios = []
    for row in rng.integers(4, size=(200, 4)):
        tokens = one.tokens_per_text[row].sum()
        first, second = (math.exp(p.nll_per_text[row].sum() / tokens) for p in (one, two))
        ratios.append(second / first - 1)
    found = perplexity_change(one, two, seed=4, resamples=200)
    assert (found.lo, found.hi) == pytest.approx(tuple(np.quantile(ratios, [0.025, 0.975])), rel=1e-6)
