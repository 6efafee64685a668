"""A trained classifier as a judge: any sequence classifier of transformers, or a fitted TF-IDF model.

Shapes: ``B`` episodes, ``N`` texts, ``C`` labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from textrl.errors import UserError, did_you_mean
from textrl.evaluation.statistics import Floats
from textrl.protocols import Batch
from textrl_judges.settings import ClassifierSettings
from textrl_judges.texts import Memory, judged
from textrl_judges.tfidf import FILE, TfidfModel


class Classifier(Protocol):
    """What gives logits of labels; `textrl_judges.tfidf.TfidfModel` is one.

    Attributes:
        labels: C names; none, or one, where the model gives one number.
    """

    labels: tuple[str, ...]

    def logits(self, texts: Sequence[str]) -> Floats:
        """Return (N, C) float64; a text's logits do not depend on its neighbours."""
        ...


class ClassifierReward:
    """Pay the probability, the log odds or the logit of one label."""

    def __init__(self, settings: ClassifierSettings) -> None:
        """Load the classifier and find the label.

        Raises:
            UserError: When there is no such model or label.
        """
        self.settings = settings
        self.classifier = load_classifier(settings)
        self.index = _index(settings, self.classifier.labels)
        self.exclusive = not getattr(self.classifier, "multi_label", False)
        self._memory: Memory[float] = Memory()

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32."""
        texts = judged(batch, self.settings.scope)
        return torch.tensor(self._memory.look_up(texts, self._rate), dtype=torch.float32)

    def _rate(self, texts: list[str]) -> list[float]:
        logits = torch.from_numpy(self.classifier.logits(texts))  # (N, C)
        found: list[float] = self._value(logits).tolist()
        return found

    def _value(self, logits: Tensor) -> Tensor:
        value, own = self.settings.value, logits[:, self.index]
        single = logits.shape[1] == 1
        if value == "score" or (value == "auto" and single):
            return own
        if single or not self.exclusive:
            odds = own
        else:
            others = [label for label in range(logits.shape[1]) if label != self.index]
            odds = own - logits[:, others].logsumexp(1)
        return odds if value == "log_odds" else logsigmoid(odds).exp()


def load_classifier(settings: ClassifierSettings) -> Classifier:
    """Load what `settings.model` names; a folder of ``textrl fit-judge`` is known by its file.

    Raises:
        UserError: When there is no such model.
    """
    folder = Path(settings.model).expanduser()
    if (folder / FILE).is_file():
        return TfidfModel.load(folder)
    from textrl_judges.sequence_classifier import SequenceClassifier

    return SequenceClassifier(settings)


def _index(settings: ClassifierSettings, labels: Sequence[str]) -> int:
    if len(labels) < 2:
        if settings.label is not None and settings.label not in labels:
            raise UserError(
                f"{settings.model} gives one number and has no label '{settings.label}'; leave label out."
            )
        return 0
    if settings.label is None:
        raise UserError(f"label is missing; name one of {', '.join(labels)}, the labels of {settings.model}.")
    if settings.label not in labels:
        raise UserError(
            f"{settings.model} has no label '{settings.label}'.{did_you_mean(settings.label, labels)}"
        )
    return list(labels).index(settings.label)
