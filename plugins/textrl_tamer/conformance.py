"""What the conformance kit builds ``tamer_text`` from: a tiny language model, and a head taught on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedTokenizerFast

from textrl.models.sources import quiet_transformers
from textrl.tamer.text.head import TokenHead, unit
from textrl.tamer.text.saved import save_head
from textrl.testing.batches import EOS, HIDDEN, PAD, WORDS

_RANK, _SEED = 4, 0


def conformance_settings(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return settings with an H that is not 0; writes the model and the head to `folder`."""
    path = tiny_model(folder / "tiny_policy")
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(path, use_safetensors=True)
    embeddings = model.get_input_embeddings().weight.detach().numpy()
    head = TokenHead(embeddings, rank=_RANK, alpha=0.3, seed=_SEED)
    draws = np.random.default_rng(0)
    for token in range(len(WORDS)):
        head.learn(unit(draws.standard_normal(HIDDEN)), token, float(draws.standard_normal()))
    weights = save_head(head, folder / "head")
    return {"tamer_text": {"model": str(path), "rank": _RANK, "seed": _SEED, "weights": str(weights)}}


def tiny_model(folder: Path, *, seed: int = 0) -> Path:
    """Write a GPT-2 of one layer over the kit's words, as wide as the kit's hidden states."""
    config = GPT2Config(
        vocab_size=len(WORDS),
        n_positions=64,
        n_embd=HIDDEN,
        n_layer=1,
        n_head=2,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=EOS,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=WORDS[PAD]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=WORDS[EOS], pad_token=WORDS[PAD], unk_token=WORDS[PAD]
    )
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder
