"""A linear model on TF-IDF of words and letter groups, kept as JSON and safetensors.

Shapes: ``N`` texts, ``C`` labels (or one rating), ``F`` features.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors import SafetensorError

from textrl.errors import UserError
from textrl.evaluation.statistics import Floats
from textrl.files import read_tensors, write_tensors
from textrl.models.sources import build_once

#: What makes a folder one of ours.
FILE, TENSORS, FORMAT = "tfidf_judge.json", "tfidf_judge.safetensors", 1
_PARTS = ("words", "letters")


class TfidfModel:
    """Words, word pairs and letter groups, weighed by TF-IDF, under one linear layer.

    Attributes:
        labels: C names of classes; none for ratings.
    """

    def __init__(
        self, vectorizers: Sequence[Any], weight: Floats, bias: Floats, labels: Sequence[str]
    ) -> None:
        """Put a fitted model together; see `fit` and `load`.

        Args:
            vectorizers: Fitted, of words and of letters.
            weight: (C, F).
            bias: (C,).
            labels: See the class; C is 1 without any.
        """
        self._vectorizers, self._weight, self._bias = tuple(vectorizers), weight, bias
        self.labels = tuple(labels)

    @classmethod
    def fit(
        cls, texts: Sequence[str], targets: Sequence[str] | Sequence[float], *, strength: float = 1.0
    ) -> Self:
        """Fit to labels (logistic regression) or to ratings (ridge regression).

        Args:
            texts: N texts.
            targets: N names of labels, or N numbers.
            strength: Of the penalty on the weights.

        Raises:
            UserError: When there is nothing to tell apart.
        """
        from scipy.sparse import hstack
        from sklearn.linear_model import LogisticRegression, Ridge

        if len(set(targets)) < 2:
            raise UserError(f"All {len(texts)} texts have the same label or rating; give at least two.")
        rare = 1 if len(texts) < 500 else 2  # on a handful of texts every n-gram is rare
        vectorizers = [_vectorizer(part, min_df=rare) for part in _PARTS]
        try:
            matrix = hstack([one.fit_transform(list(texts)) for one in vectorizers]).tocsr()
        except ValueError as error:  # "empty vocabulary"
            raise UserError("The texts hold no words; give texts with words.") from error
        if isinstance(targets[0], str):
            model: Any = LogisticRegression(C=1 / strength, max_iter=1000).fit(matrix, np.asarray(targets))
            weight, bias = model.coef_, model.intercept_
            if len(weight) == 1:  # of two labels scikit-learn keeps the difference alone
                weight, bias = (
                    np.stack([-weight[0] / 2, weight[0] / 2]),
                    np.stack([-bias[0] / 2, bias[0] / 2]),
                )
            return cls(vectorizers, weight, bias, [str(name) for name in model.classes_])
        # sparse_cg: a direct solver would build the dense (F, F) matrix.
        model = Ridge(alpha=strength, solver="sparse_cg", tol=1e-6).fit(
            matrix, np.asarray(targets, np.float64)
        )
        return cls(vectorizers, model.coef_[None], np.array([model.intercept_]), ())

    def logits(self, texts: Sequence[str]) -> Floats:
        """Return (N, C): logits of the labels, or the rating."""
        from scipy.sparse import hstack

        if not texts:
            return np.zeros((0, len(self._bias)))
        matrix = hstack([one.transform(list(texts)) for one in self._vectorizers]).tocsr()
        return np.asarray(matrix @ self._weight.T + self._bias, dtype=np.float64)

    def save(self, folder: Path) -> None:
        """Write a folder that `load` reads; nothing half-written is left behind.

        Raises:
            UserError: When the folder exists already or cannot be written.
        """
        if folder.exists():
            raise UserError(f"The folder {folder} exists already; choose another or remove it.")
        described = {
            "format": FORMAT,
            "labels": list(self.labels),
            "vocabularies": {
                part: sorted(one.vocabulary_, key=one.vocabulary_.__getitem__)
                for part, one in zip(_PARTS, self._vectorizers, strict=True)
            },
        }
        tensors = {
            "weight": torch.from_numpy(self._weight.copy()),
            "bias": torch.from_numpy(self._bias.copy()),
        }
        for part, one in zip(_PARTS, self._vectorizers, strict=True):
            tensors[f"idf_{part}"] = torch.from_numpy(np.asarray(one.idf_, dtype=np.float64).copy())

        def fill(target: Path) -> None:
            (target / FILE).write_text(json.dumps(described, ensure_ascii=False), encoding="utf-8")
            write_tensors(target / TENSORS, tensors)

        build_once(folder, fill)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            UserError: When the folder holds no such model, or a damaged one.
        """
        try:
            described = json.loads((folder / FILE).read_text(encoding="utf-8"))
            if described["format"] != FORMAT:
                raise ValueError(f"its format is {described['format']}, this textrl reads {FORMAT}")
            tensors = {name: value.double().numpy() for name, value in read_tensors(folder / TENSORS).items()}
            vectorizers = []
            for part in _PARTS:
                words = described["vocabularies"][part]
                one = _vectorizer(part, vocabulary={word: place for place, word in enumerate(words)})
                one.idf_ = tensors[f"idf_{part}"]
                vectorizers.append(one)
            weight, bias, labels = tensors["weight"], tensors["bias"], described["labels"]
            features = sum(len(described["vocabularies"][part]) for part in _PARTS)
            if weight.shape != (max(len(labels), 1), features) or bias.shape != weight.shape[:1]:
                raise ValueError(f"{weight.shape} weights do not fit {len(labels)} labels")
            return cls(vectorizers, weight, bias, labels)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"The judge in {folder} cannot be read ({reason:.120}); fit it again.") from error


def _vectorizer(part: str, **options: Any) -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    if part == "words":
        return TfidfVectorizer(
            ngram_range=(1, 2),
            sublinear_tf=True,
            token_pattern=r"\b\w[\w']*\b|[!?]",
            dtype=np.float64,
            **options,
        )
    return TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, dtype=np.float64, **options
    )
