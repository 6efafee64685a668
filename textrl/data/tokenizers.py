"""Tokenizers: any of Hugging Face's, a byte-level BPE trained here, or plain bytes.

Both of ours cover every string (their alphabet is the 256 bytes), keep EOS and padding apart, and
never read a special token out of ordinary text, so a prompt cannot end its own episode.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textrl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

EOS, PAD = "<|eos|>", "<|pad|>"
#: 256 bytes and two special tokens.
SMALLEST_VOCAB = 258


def train_byte_bpe(texts: Iterable[str], vocab_size: int, path: str | Path) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer (Sennrich et al. 2016, on bytes as in GPT-2) and save it.

    Args:
        texts: What to learn merges from.
        vocab_size: Upper bound on the number of tokens, at least 258; few texts give fewer.
        path: A new or empty folder, loadable with ``AutoTokenizer.from_pretrained``. It appears
            complete or not at all.

    Raises:
        UserError: When the vocabulary is too small, or the folder already holds something or cannot be
            written.
    """
    if vocab_size < SMALLEST_VOCAB:
        raise UserError(
            f"vocab_size is {vocab_size}; a byte-level vocabulary needs at least {SMALLEST_VOCAB} "
            "(256 bytes, EOS and padding)."
        )
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} already exists and is not an empty folder; choose another path.")
    tokenizer = _wrap(_train(texts, vocab_size))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as unfinished:
            finished = Path(unfinished) / "tokenizer"
            tokenizer.save_pretrained(finished)
            os.replace(finished, path)
    except Exception as error:  # the writer in Rust raises plain exceptions
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: the tokenizer could not be written ({reason}).") from error
    return tokenizer


@lru_cache(maxsize=1)
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer of 258 tokens: one per byte, EOS and padding."""
    return _wrap(_train([], SMALLEST_VOCAB))


def _train(texts: Iterable[str], vocab_size: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _wrap(tokenizer: Any) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        split_special_tokens=True,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer by folder, by the name of a registered model, or by hub id.

    Raises:
        UserError: When nothing of that name can be loaded.
    """
    from transformers import AutoTokenizer

    from textrl.registry import get_registry

    models = get_registry().specs("model")
    folder = str(models[name].load()()) if name in models else name
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers raises OSError, ValueError and hub errors alike
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"The tokenizer '{name}' is neither a folder, a registered model nor a hub id that can be "
            f"reached ({reason}).{did_you_mean(name, models)}"
        ) from error
