"""A tiny reward model, for the conformance kit to build the reward from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForSequenceClassification, GPT2Config, PreTrainedTokenizerFast

from textrl.models.sources import quiet_transformers
from textrl.testing.batches import EOS, PAD, WORDS


def conformance_settings(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Return settings that share ids with a policy of the kit's vocabulary; writes a model to `folder`."""
    path = tiny_scorer(folder / "tiny_reward_model")
    return {"reward_model": {"model": str(path), "policy_tokenizer": str(path), "micro_batch_size": 4}}


def tiny_scorer(folder: Path, *, pad: int = PAD, offset: float = 0.25, seed: int = 0) -> Path:
    """Write a GPT-2 of one layer with a random score head, and a tokenizer of the kit's words."""
    config = GPT2Config(
        vocab_size=len(WORDS),
        n_positions=64,
        n_embd=16,
        n_layer=1,
        n_head=2,
        num_labels=1,
        pad_token_id=pad,
        eos_token_id=EOS,
        bos_token_id=EOS,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config)
        # GPT-2's own 0.02 gives scores too close to 0 to tell episodes apart.
        torch.nn.init.normal_(model.score.weight)
    model.config.textrl_reward_offset = offset
    with quiet_transformers():
        model.save_pretrained(folder)
        word_tokenizer(pad).save_pretrained(folder)
    return folder


def word_tokenizer(pad: int = PAD) -> PreTrainedTokenizerFast:
    """Return a tokenizer of the kit's words, split at white space; unknown words become <pad>."""
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token=WORDS[PAD]))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=WORDS[EOS], pad_token=WORDS[pad], unk_token=WORDS[PAD]
    )
