from __future__ import annotations

import random
from collections.abc import Mapping

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from textrl.data.rankings import RankingGroup
from textrl.sft import SFTExample

TEXT = "the a film is was good bad dull bright very not and but so it I liked hated plot"
WORDS = tuple(TEXT.split())


VALUES = {"good": 1, "bright": 1, "liked": 1, "bad": -1, "dull": -1, "hated": -1}
GPT2_IDS = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1}


def make_tokenizer() -> PreTrainedTokenizerFast:
    vocab = {word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", *dict.fromkeys(WORDS)])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )


def sentence(generator: random.Random, longest: int = 9) -> str:
    return " ".join(generator.choice(WORDS) for _ in range(generator.randint(1, longest)))


def demonstrations(count: int, seed: int = 0) -> list[SFTExample]:
    generator = random.Random(seed)
    return [SFTExample(sentence(generator, 4), sentence(generator)) for _ in range(count)]


def rankings(count: int, k: int = 4, seed: int = 0) -> list[RankingGroup]:
    """Completions ranked by their kind words less their unkind ones, which makes ties."""
    generator = random.Random(seed)
    groups = []
    for _ in range(count):
        texts = tuple(sentence(generator) for _ in range(generator.randint(2, k)))
        ranks = tuple(-float(sum(VALUES.get(word, 0) for word in text.split())) for text in texts)
        groups.append(RankingGroup(sentence(generator, 3), texts, ranks))
    return groups


def silent(step: int, figures: Mapping[str, float]) -> None:
    """A log that keeps nothing."""


def make_lm(kind: str, vocab: int = 32, layers: int = 2, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    if kind == "gpt2":
        config = GPT2Config(vocab_size=vocab, n_positions=64, n_embd=16, n_layer=layers, n_head=2, **GPT2_IDS)
        model: PreTrainedModel = GPT2LMHeadModel(config)
    else:
        model = LlamaForCausalLM(llama_config(vocab, layers))
    return spread(model)


def make_scorer(kind: str, vocab: int = 32, layers: int = 2, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    if kind == "gpt2":
        config = GPT2Config(
            vocab_size=vocab, n_positions=64, n_embd=16, n_layer=layers, n_head=2, **GPT2_IDS, num_labels=1
        )
        return spread(GPT2ForSequenceClassification(config))
    config = llama_config(vocab, layers)
    config.num_labels = 1
    return spread(LlamaForSequenceClassification(config))


def llama_config(vocab: int, layers: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocab,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        tie_word_embeddings=True,
    )


@torch.no_grad()
def spread(model: PreTrainedModel) -> PreTrainedModel:
    """Make the weights large enough that the attention mask matters."""
    for param in model.parameters():
        if param.ndim >= 2:
            param.mul_(8)
    return model.eval()


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights that matter. Softmax cancels the bias of the keys, and a difference of scores the bias
    of a scorer's last norm: their gradients are rounding noise, which Adam turns into full steps."""
    found = {name: param.detach().clone() for name, param in model.named_parameters()}
    if hasattr(model, "score"):
        found.pop("transformer.ln_f.bias", None)
    for name, tensor in found.items():
        if name.endswith("c_attn.bias"):
            queries, keys, values = tensor.chunk(3)
            found[name] = torch.cat([queries, torch.zeros_like(keys), values])
    return found


def assert_close(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], rtol: float = 1e-6) -> None:
    """Compare by the relative size of the difference, tensor by tensor."""
    assert one.keys() == two.keys()
    for name in one:
        gap = (one[name] - two[name]).norm() / one[name].norm().clamp(min=1e-12)
        assert gap <= rtol, f"{name}: {gap:.2e}"
