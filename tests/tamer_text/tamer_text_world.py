"""A small vocabulary, orthogonal contexts, and a language model whose words have several tokens."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from textrl_tamer.settings import TamerTextSettings
from textrl_tamer.text_source import TamerText
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

from textrl.data.tokenizers import train_byte_bpe
from textrl.rewards import join_tensors, split_tensors
from textrl.settings import build
from textrl.tamer.credit import Loss
from textrl.tamer.settings import DelaySettings
from textrl.tamer.text.head import TokenHead
from textrl.tamer.text.lessons import Replay
from textrl.tamer.text.teaching import Teaching, Token
from textrl.tamer.text.words import Pieces as Pieces

RNG = np.random.default_rng(0)
VOCABULARY, WIDTH = 20, 8
EMBEDDINGS = RNG.standard_normal((VOCABULARY, WIDTH)).astype(np.float32)
#: Contexts that have nothing in common.
APART = list(np.eye(WIDTH, dtype=np.float32))
#: F(t) = t - .2 between .2 and 1.2 s.
DELAY = DelaySettings(kind="uniform", low=0.2, high=1.2)


def head(alpha: float = 0.25, rank: int = 6, seed: int = 1, embeddings: Any = EMBEDDINGS) -> TokenHead:
    return TokenHead(embeddings, rank=rank, alpha=alpha, seed=seed)


def teaching(loss: Loss = "importance", replay: Replay | None = None) -> Teaching:
    """H over five tokens in five contexts that have nothing in common, so that H(s, a) moves alone."""
    made = Teaching(head(), DELAY, loss, replay)
    made.tokens += [Token(APART[i], i + 1) for i in range(5)]
    return made


def values(of: Teaching) -> list[float]:
    return [of.head.value(one.state, one.token) for one in of.tokens]


@functools.cache
def language_model(width: int = 16, seed: int = 0) -> tuple[Any, Any]:
    """Return a GPT-2 over byte pairs, and its tokenizer, to which "kindness" is several tokens."""
    folder = Path(tempfile.mkdtemp(prefix="textrl-tamer-text-"))
    train_byte_bpe(["the film was slow, and the ending made no sense"] * 3, 290, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = GPT2Config(vocab_size=290, n_positions=64, n_embd=width, n_layer=1, n_head=2)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config).eval(), tokenizer


def source(*, bound: bool = True, **settings: Any) -> TamerText:
    made = TamerText(build(TamerTextSettings, settings, where=str))
    if bound:
        made.bind_text(*language_model())
    return made


def through_files(state: Any) -> Any:
    """Return a state as a checkpoint gives it back."""
    tensors, rest = split_tensors(state)
    return join_tensors(tensors, json.loads(json.dumps(rest, allow_nan=False)))
