"""A small GPT-2 made from scratch: what remains when no weights can be had, and what tests use."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from textrl.data.cache import cache_dir
from textrl.data.tokenizers import train_byte_bpe
from textrl.models.sources import build_once

# Enough English to learn the commonest letter groups from when no text is given.
_TEXT = """
The light in the old cinema went down and everybody stopped talking. On the screen a woman walked along
the beach, and behind her the sea was as grey as the sky. She had left the city without telling anyone,
and nothing that happened in the next two hours could make her go back. Some people in the room thought
that this was the best film they had seen in years: the story was simple, the actors were wonderful, and
there was not one scene that should have been shorter. Others were bored, and said so on the way home. It
was slow, they said, the music was too loud, and the ending made no sense at all. Which of them was right?
When you ask people what they like, you get many answers, and the only way to learn something from them is
to ask often, to write down what was said, and to count. I did not expect to laugh, but I did; you may not
expect to cry, and then you will. There are films with great ideas and no heart, and films with a heart as
big as a house in which hardly anything works. Whatever you think about this one, you will be thinking
about it tomorrow, and that is more than can be said for most of what was made this year.
"""


def tiny_gpt2(
    texts: Iterable[str] | None = None,
    *,
    folder: Path | None = None,
    vocab_size: int = 2048,
    width: int = 192,
    layers: int = 4,
    heads: int = 6,
    context: int = 512,
    seed: int = 0,
) -> Path:
    """Make a GPT-2 with random weights and its byte-level BPE tokenizer, once; return their folder.

    Args:
        texts: What the tokenizer learns its merges from; a built-in paragraph by default.
        folder: Where to; by default a folder of the cache keyed by all other arguments.
        vocab_size: Upper bound on the number of tokens.
        width: Of the residual stream.
        layers: Transformer blocks.
        heads: Attention heads; `width` must be a multiple.
        context: Longest sequence in tokens.
        seed: For the initial weights.

    Raises:
        UserError: When the vocabulary is too small for bytes, or the disk is full.
    """
    lines = list(texts) if texts is not None else [_TEXT]
    if folder is None:
        key = hashlib.sha256(repr((vocab_size, width, layers, heads, context, seed)).encode())
        for line in lines:
            key.update(line.encode("utf-8", errors="replace") + b"\0")
        folder = cache_dir() / "models" / f"tiny-gpt2-{key.hexdigest()[:12]}"

    def fill(target: Path) -> None:
        tokenizer = train_byte_bpe(lines, vocab_size, target)
        config = GPT2Config(
            vocab_size=len(tokenizer),
            n_positions=context,
            n_embd=width,
            n_layer=layers,
            n_head=heads,
            bos_token_id=tokenizer.eos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            # Trainers that want dropout switch it on; elsewhere the policy must be one function.
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            resid_pdrop=0.0,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = GPT2LMHeadModel(config)
        model.save_pretrained(target)

    return build_once(folder, fill)
