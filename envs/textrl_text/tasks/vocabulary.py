"""Vocabularies of a few words: padding, EOS, and the task's own, each one token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from textrl.data.tokenizers import EOS, PAD

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD_ID, EOS_ID = 0, 1
#: Number of the first word of a task; those below are padding and EOS.
FIRST_WORD = 2


def word_ids(words: Sequence[str]) -> dict[str, int]:
    """Return the token of each word."""
    return {word: FIRST_WORD + index for index, word in enumerate(words)}


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """Return the tokenizer of texts in which single spaces stand between `words`.

    Such a text is decoded to what was encoded. A word that is none of `words` is an error of the tokenizer.

    Args:
        words: Distinct, without white space.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {PAD: PAD_ID, EOS: EOS_ID, **word_ids(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
