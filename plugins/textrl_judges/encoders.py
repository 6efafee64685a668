"""What `similarity` compares texts with: a sentence encoder, or letters where there is none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from textrl.errors import UserError
from textrl.evaluation.judges import MiniLMEncoder, minilm_folder
from textrl.models.sources import one_line, resolve


class Encoder(Protocol):
    """Turns texts into what can be compared."""

    def encode(self, texts: Sequence[str]) -> Sequence[Any]:
        """Return one vector per text; a text's vector does not depend on its neighbours."""
        ...

    def cosine(self, first: Any, second: Any) -> float:
        """Return the cosine of two vectors, 0 where one of them is zero."""
        ...


class SentenceEncoder:
    """The last layer of a BERT-like encoder, averaged over tokens and scaled to length 1."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        """Load the encoder."""
        self._encoder = MiniLMEncoder(folder, layers=(-1,), max_tokens=max_tokens)

    def encode(self, texts: Sequence[str]) -> Sequence[Any]:
        """Return (H,) float64 arrays of length 1."""
        return list(self._encoder(texts))

    def cosine(self, first: Any, second: Any) -> float:
        """Return the inner product."""
        return float(first @ second)


class LexicalEncoder:
    """Counts of words and of their letter groups, in lower case.

    A word counts as itself and as every group of 2, 3 and 4 letters of it with a space at either end, so
    that "film" and "films" are alike. Texts without a letter group in common have the cosine 0.
    """

    def encode(self, texts: Sequence[str]) -> Sequence[Mapping[str, float]]:
        """Return sparse vectors of length 1; empty where a text has no word."""
        return [_scaled(_groups(text)) for text in texts]

    def cosine(self, first: Mapping[str, float], second: Mapping[str, float]) -> float:
        """Return the inner product."""
        if len(second) < len(first):
            first, second = second, first
        return math.fsum(value * second[key] for key, value in first.items() if key in second)


def _groups(text: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    for word in text.lower().split():
        counts[word] += 1
        padded = f" {word} "
        for size in (2, 3, 4):
            counts.update(padded[start : start + size] for start in range(len(padded) - size + 1))
    return counts


def _scaled(counts: Counter[str]) -> dict[str, float]:
    length = math.sqrt(sum(count * count for count in counts.values()))
    return {key: count / length for key, count in counts.items()}


def load_encoder(name: str, max_tokens: int) -> Encoder:
    """Return an encoder by its name; see `SimilaritySettings.encoder`.

    Raises:
        UserError: When there is none.
    """
    if name == "lexical":
        return LexicalEncoder()
    if name == "minilm":
        return SentenceEncoder(minilm_folder(), max_tokens)
    folder = resolve(name)
    try:
        return SentenceEncoder(Path(folder), max_tokens)
    except Exception as error:  # transformers and safetensors raise many kinds
        raise UserError(f"the encoder '{name}' cannot be loaded ({one_line(error)}).") from error
