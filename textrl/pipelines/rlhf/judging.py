"""Judges of one run: fitted once before any training, kept for the evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from textrl.evaluation.judges import FittedJudge, fit_judges
from textrl.pipelines.rlhf.stages import Context

_FITTED: dict[str, list[FittedJudge]] = {}


def judges_of(context: Context) -> Sequence[FittedJudge]:
    """Fit the judges to the judge split, or return those of this process.

    A fit is a function of the ratings and the seed, so a resumed run fits the same judges again.
    """
    key = str(context.run.path)
    if key not in _FITTED:
        names = ("tfidf",) if context.settings.data.source == "made" else ("minilm", "tfidf")
        _FITTED[key] = fit_judges(
            context.material.judge, context.material.judge_test, anchors=context.material.anchors, names=names
        )
    return _FITTED[key]
