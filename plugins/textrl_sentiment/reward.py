"""VADER: a lexicon and rules for the sentiment of short texts (Hutto and Gilbert 2014)."""

from __future__ import annotations

import torch
from torch import Tensor
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from textrl.protocols import Batch
from textrl_sentiment.settings import SentimentSettings


class SentimentReward:
    """Pay what the lexicon finds in a response; an empty text is neutral."""

    def __init__(self, settings: SentimentSettings) -> None:
        """Read the lexicon once (about 7,500 entries)."""
        self.settings = settings
        self.analyser = SentimentIntensityAnalyzer()

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32."""
        assert batch.text is not None
        assert batch.prompt_text is not None  # in the record's needs
        texts = list(batch.text)
        if self.settings.scope == "prompt+response":
            texts = [prompt + text for prompt, text in zip(batch.prompt_text, texts, strict=True)]
        values = [float(self.analyser.polarity_scores(text)[self.settings.measure]) for text in texts]
        return torch.tensor(values, dtype=torch.float32)
