"""How much a response resembles reference texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from textrl.errors import UserError, did_you_mean
from textrl.protocols import Batch
from textrl_judges.encoders import load_encoder
from textrl_judges.settings import SimilaritySettings
from textrl_judges.texts import Memory, judged


class SimilarityReward:
    """Pay the cosine similarity to the reference texts, the largest or the mean of several."""

    def __init__(self, settings: SimilaritySettings) -> None:
        """Load the encoder.

        Raises:
            UserError: When there is no such encoder.
        """
        self.settings = settings
        self.encoder = load_encoder(settings.encoder, settings.max_tokens)
        self._memory: Memory[Any] = Memory(4096)

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32, -1 to 1.

        Raises:
            UserError: When a record has no such column, or no text in it.
        """
        assert batch.records is not None  # in the record's needs
        texts = judged(batch, self.settings.scope)
        references = [self._references(record) for record in batch.records]
        wanted = [*texts, *(text for row in references for text in row)]
        vectors = dict(zip(wanted, self._memory.look_up(wanted, self.encoder.encode), strict=True))
        pay = max if self.settings.of == "max" else fmean
        values = [
            pay([self.encoder.cosine(vectors[text], vectors[reference]) for reference in row])
            for text, row in zip(texts, references, strict=True)
        ]
        return torch.tensor(values, dtype=torch.float32)

    def _references(self, record: Mapping[str, Any]) -> Sequence[str]:
        column = self.settings.column
        if column is None:
            return self.settings.texts
        if column not in record:
            raise UserError(
                f"a prompt's record has no column '{column}'.{did_you_mean(column, map(str, record))}"
            )
        found = record[column]
        texts = [found] if isinstance(found, str) else found
        if not isinstance(texts, list | tuple) or not texts or not all(isinstance(t, str) for t in texts):
            raise UserError(
                f"the column '{column}' holds {str(found)[:60]!r}; it must hold a text or a list of texts."
            )
        return list(texts)
