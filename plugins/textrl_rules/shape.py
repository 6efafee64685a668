"""Rewards for the shape of a response: its length, and how much it repeats itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from textrl.protocols import Batch
from textrl_rules.settings import LengthSettings, RepetitionSettings, Unit


class LengthReward:
    """Minus the distance to the wanted length, in units of `scale`."""

    def __init__(self, settings: LengthSettings) -> None:
        """Derive the range and the scale."""
        self.unit: Unit = settings.unit
        exact = settings.target
        self.low = exact if exact is not None else settings.min if settings.min is not None else 0
        self.high = exact if exact is not None else settings.max
        wanted = exact or settings.max or settings.min or 1
        self.scale = settings.scale if settings.scale is not None else float(wanted)

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32, 0 inside the range and negative outside."""
        lengths = [len(parts) for parts in split(batch, self.unit)]
        return torch.tensor([-self._miss(length) / self.scale for length in lengths], dtype=torch.float32)

    def _miss(self, length: int) -> int:
        over = 0 if self.high is None else max(length - self.high, 0)
        return max(self.low - length, over)


class RepetitionReward:
    """Minus the share of n-grams that occurred before in the same response."""

    def __init__(self, settings: RepetitionSettings) -> None:
        """Keep the settings."""
        self.n = settings.n
        self.unit: Unit = settings.unit

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32, from 0 (every n-gram is new) towards -1."""
        rates = [repeat_rate(parts, self.n) for parts in split(batch, self.unit)]
        return -torch.tensor(rates, dtype=torch.float32)


def repeat_rate(parts: Sequence[object], n: int) -> float:
    """Return 1 - distinct / all n-grams; 0 where there is no n-gram."""
    grams = [tuple(parts[i : i + n]) for i in range(len(parts) - n + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def split(batch: Batch, unit: Unit) -> list[Sequence[object]]:
    """Return each response as a sequence of token ids, of words or of characters."""
    if unit == "tokens":
        rows = zip(batch.response_ids, batch.response_mask, strict=True)
        return [ids[mask].tolist() for ids, mask in rows]
    assert batch.text is not None  # in the records' needs
    return [text.split() if unit == "words" else text for text in batch.text]
