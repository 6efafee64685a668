"""Blocks and freezing across architectures, and the choice of precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from textrl.errors import UserError
from textrl.models import precision
from textrl.models.loading import base, blocks, freeze_below, scorer_from_causal_lm

SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
    "pad_token_id": 1,
    "eos_token_id": 0,
}
GATED = SMALL | {"intermediate_size": 16, "num_key_value_heads": 1}


def _make(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if name == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(
                vocab_size=40, n_embd=16, n_layer=2, n_head=2, n_positions=32, pad_token_id=1, eos_token_id=0
            )
        )
    if name == "opt":
        return OPTForCausalLM(OPTConfig(**SMALL, ffn_dim=16, word_embed_proj_dim=16))
    if name == "gpt_neox":
        return GPTNeoXForCausalLM(GPTNeoXConfig(**SMALL, intermediate_size=16))
    kinds = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    }
    config, model = kinds[name]
    return model(config(**GATED, tie_word_embeddings=name == "llama"))


ARCHITECTURES = ["gpt2", "gpt_neox", "llama", "mistral", "opt", "qwen2"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_only_the_top_trains(name: str) -> None:
    model = _make(name).eval()
    assert len(blocks(model)) == 2
    assert base(model) is not model
    freeze_below(model, 1)
    model(torch.tensor([[3, 4, 5]])).logits.square().sum().backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    top = {id(parameter) for parameter in blocks(model)[1].parameters()}
    rest = {name for name in trained if id(model.get_parameter(name)) not in top}
    assert len(trained) - len(rest) == len(top)
    assert all("norm" in name or "ln_f" in name for name in rest), rest
    assert rest
    assert not model.get_output_embeddings().weight.requires_grad
    assert not model.get_input_embeddings().weight.requires_grad
    assert not any(parameter.requires_grad for parameter in blocks(model)[0].parameters())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_gives_a_scorer(name: str) -> None:
    scorer = scorer_from_causal_lm(_make(name), layers=1)
    freeze_below(scorer, 1)
    trained = [name for name, parameter in scorer.named_parameters() if parameter.requires_grad]
    assert any("score" in name for name in trained)
    assert not any("embed" in name or "wte" in name for name in trained)
    scorer(torch.tensor([[3, 4, 5]])).logits.sum().backward()
    head = [parameter for name, parameter in scorer.named_parameters() if "score" in name]
    assert head[0].grad is not None
    assert head[0].grad.abs().sum() > 0


def test_an_encoder_keeps_its_pooler_and_head_trainable() -> None:
    model = BertForSequenceClassification(BertConfig(**SMALL, intermediate_size=16))
    freeze_below(model, 2)
    trained = {
        name.split(".")[0] + "." + name.split(".")[1]
        for name, p in model.named_parameters()
        if p.requires_grad
    }
    assert trained == {"bert.pooler", "classifier.weight", "classifier.bias"}


def test_freezing_too_much_or_something_else_is_refused() -> None:
    with pytest.raises(
        UserError, match="first trainable layer is 3, but the model has 2 layers; choose 0 to 2"
    ):
        freeze_below(_make("llama"), 3)
    with pytest.raises(UserError, match="layers of a Linear cannot be found"):
        blocks(nn.Linear(2, 2))


def test_precision_follows_the_hardware_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(precision.VARIABLE)
    for flags, expected in (({"avx2", "avx512f"}, None), ({"amx_bf16"}, torch.bfloat16)):
        monkeypatch.setattr(precision, "cpu_flags", lambda flags=flags: frozenset(flags))
        assert precision.resolve_precision("auto", "cpu").autocast_dtype == expected
    assert precision.resolve_precision("fp32").name == "fp32"
    with pytest.raises(UserError, match=r"precision 'fp23' does not exist. Did you mean 'fp32'\?"):
        precision.resolve_precision("fp23")
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset({"amx_bf16"}))
    monkeypatch.setenv(precision.VARIABLE, "fp32")
    assert precision.resolve_precision("auto", "cpu").name == "fp32"
    assert precision.resolve_precision("bf16", "cpu").name == "bf16"
    monkeypatch.setenv(precision.VARIABLE, "bf61")
    with pytest.raises(UserError, match=r"the environment's TEXTRL_PRECISION 'bf61' does not exist"):
        precision.resolve_precision("auto", "cpu")


def test_autocast_keeps_master_weights_in_fp32() -> None:
    layer, x = nn.Linear(4, 4), torch.randn(2, 4)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with precision.resolve_precision(name).autocast("cpu"):
            assert layer(x).dtype == dtype
    assert layer.weight.dtype == torch.float32


def test_the_flags_of_this_machine_are_read() -> None:
    precision.cpu_flags.cache_clear()
    assert precision.has_native_bf16("cpu") == bool(
        precision.cpu_flags() & {"avx512_bf16", "amx_bf16", "bf16"}
    )
    assert not precision.has_native_bf16("meta")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_precision_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(precision.VARIABLE)
    assert precision.resolve_precision("auto").autocast_dtype == torch.bfloat16
