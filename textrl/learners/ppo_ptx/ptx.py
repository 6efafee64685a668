"""The pretraining stream: fixed-length pieces of ordinary text, addressed by number, and its loss."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from textrl.data.prompts import check_text
from textrl.data.records import read_records
from textrl.errors import UserError
from textrl.mdp.order import visit


class PretrainingStream:
    """An endless, reshuffled walk through text; example `i` is a function of (seed, i)."""

    def __init__(self, documents: Iterable[list[int]], length: int, separator: int, seed: int) -> None:
        """Join the documents and cut them into pieces.

        Args:
            documents: Token ids of each document.
            length: Tokens of one piece.
            separator: Token between documents, usually EOS.
            seed: Keys the order.

        Raises:
            UserError: When the text gives not even one piece.
        """
        joined = [token for document in documents for token in (*document, separator)]
        count = len(joined) // length
        if not count:
            raise UserError(
                f"The pretraining text has {len(joined)} tokens, fewer than one piece of {length}."
            )
        self.pieces = torch.tensor(joined[: count * length], dtype=torch.int64).view(count, length)
        self.seed = seed

    @classmethod
    def read(
        cls, path: str | Path, tokenizer: PreTrainedTokenizerBase, *, length: int, seed: int
    ) -> PretrainingStream:
        """Read a JSONL or parquet file, or a dataset, with a ``text`` column.

        Raises:
            UserError: On a file that cannot be read and on a record without text; names the line.
        """
        texts = []
        for place, record in read_records(path):
            if not isinstance(record.get("text"), str):
                raise UserError(f"{place}: a pretraining record needs a string in the column 'text'.")
            check_text(place, record["text"])
            texts.append(record["text"])
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return cls(ids, length, tokenizer.eos_token_id, seed)

    def batch(self, start: int, count: int) -> Tensor:
        """Return examples number `start` to ``start + count``, (count, length) int64."""
        rows = [visit((self.seed, 7), start + i, len(self.pieces)) for i in range(count)]
        return self.pieces[torch.tensor(rows, dtype=torch.int64)]


@dataclass(frozen=True)
class Pretraining:
    """One process's examples of a step.

    Attributes:
        ids: (E, L) int64; E is 0 without a pretraining term.
        scale: What the sum of negative log-likelihoods is multiplied by: gamma_ptx over the tokens that are
            predicted in all processes' examples.
    """

    ids: Tensor
    scale: float

    @classmethod
    def of(cls, examples: Tensor | None, accelerator: Accelerator, coef: float) -> Pretraining:
        """Take this process's share."""
        if examples is None:
            return cls(torch.zeros(0, 1, dtype=torch.int64), 0.0)
        count = examples.shape[0] * (examples.shape[1] - 1)
        return cls(examples[accelerator.process_index :: accelerator.num_processes], coef / count)

    def loss(self, logprobs: Tensor) -> Tensor:
        """Return this part of gamma_ptx times the mean negative log-likelihood."""
        return -self.scale * logprobs.sum()
