"""What a policy's texts look like before and after training, by judges that took no part in it.

Shapes: N prompts, S samples of each. The result is a plain nested mapping with the names that
`textrl.report.schema` reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from textrl.evaluation import text_metrics
from textrl.evaluation.judges import FittedJudge, Judge
from textrl.evaluation.statistics import Floats, paired_gain, win_rate

Samples = Sequence[str] | Sequence[Sequence[str]]


def evaluate_texts(
    before: Samples,
    after: Samples,
    prompts: Sequence[str],
    judges: Sequence[FittedJudge],
    *,
    tokenizer: Any = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> dict[str, Any]:
    """Compare two policies' responses to the same prompts.

    Args:
        before: N responses, or N lists of S responses, of the policy that training started from.
        after: The same of the trained policy.
        prompts: N prompts; a judge scores prompt and response as one text.
        judges: Fitted before training; the first one gives the headline.
        tokenizer: Counts tokens; None leaves ``length_tokens`` out.
        seed: Seeds the bootstrap.
        resamples: Bootstrap resamples.

    Returns:
        ``headline``, ``judges``, ``text`` and ``phrases``; a figure that does not exist is left out.

    Raises:
        ValueError: When the numbers of prompts and responses differ, or there is no judge.
    """
    if not judges:
        raise ValueError("a comparison needs a judge")
    first, second = _nested(before, prompts), _nested(after, prompts)
    rows = []
    for fitted in judges:
        score_before, score_after = score_samples(fitted.judge, prompts, first, second)
        rows.append(
            {
                "name": fitted.judge.name,
                "features": fitted.judge.features,
                "pair_accuracy": fitted.report.pair_accuracy,
                "pearson": fitted.report.pearson,
                "anchor_human_2_5": fitted.report.anchor,
                "anchor_texts": fitted.report.anchor_texts,
                **compare_scores(score_before, score_after, seed=seed, resamples=resamples),
            }
        )
    headline = {
        "prompts": len(prompts),
        "judge": rows[0]["name"],
        "judge_gain": rows[0]["gain"],
        "win_rate": rows[0]["win_rate"],
    }
    flat_before, flat_after = _flat(first), _flat(second)
    summary = {
        "headline": headline,
        "judges": rows,
        "text": _surface(flat_before, flat_after, tokenizer),
        "phrases": {
            "before": _phrases(flat_before),
            "after": _phrases(flat_after),
        },
    }
    result: dict[str, Any] = _finite(summary)
    return result


def compare_scores(
    before: Any, after: Any, *, seed: int = 0, resamples: int = 10_000
) -> dict[str, float | dict[str, float]]:
    """Compare any scores, such as the reward model's own, of the same prompts.

    Args:
        before: (N,) or (N, S) scores.
        after: (N,) or (N, S) scores.
        seed: Seeds the bootstrap.
        resamples: Bootstrap resamples.

    Returns:
        ``before`` and ``after`` means, ``gain`` and ``win_rate`` with intervals.
    """
    return {
        "before": float(np.mean(before)),
        "after": float(np.mean(after)),
        "gain": paired_gain(before, after, seed=seed, resamples=resamples).plain(),
        "win_rate": win_rate(before, after, seed=seed, resamples=resamples).plain(),
    }


def score_samples(
    judge: Judge, prompts: Sequence[str], *samples: Sequence[Sequence[str]]
) -> tuple[Floats, ...]:
    """Score prompt and response as one text; returns an (N, S) array for each set of samples.

    Equal texts are scored once, so that they tie exactly.
    """
    wholes = [
        [(prompt + response).strip() for prompt, row in zip(prompts, one, strict=True) for response in row]
        for one in samples
    ]
    unique = list(dict.fromkeys(text for whole in wholes for text in whole))
    known = dict(zip(unique, judge.score(unique), strict=True))
    return tuple(np.array([known[text] for text in whole]).reshape(len(prompts), -1) for whole in wholes)


def sample_summary(
    before: Samples,
    after: Samples,
    prompts: Sequence[str],
    judge: Judge,
    *,
    count: int = 8,
    seed: int = 0,
) -> list[dict[str, str | float]]:
    """Return some samples side by side, drawn at random rather than chosen; the first of each prompt.

    Args:
        before: As in `evaluate_texts`.
        after: As in `evaluate_texts`.
        prompts: N prompts.
        judge: Scores the samples shown.
        count: How many.
        seed: Seeds the draw.
    """
    first, second = _nested(before, prompts), _nested(after, prompts)
    drawn = np.random.default_rng(seed).permutation(len(prompts))[:count]
    rows = []
    for index in drawn:
        one, two = [first[index][:1]], [second[index][:1]]
        score_before, score_after = score_samples(judge, [prompts[index]], one, two)
        rows.append(
            {
                "prompt": prompts[index],
                "before": one[0][0],
                "after": two[0][0],
                "judge_before": float(score_before[0, 0]),
                "judge_after": float(score_after[0, 0]),
            }
        )
    return rows


def _surface(before: list[str], after: list[str], tokenizer: Any) -> dict[str, dict[str, float]]:
    measures: dict[str, Callable[[list[str]], float]] = {
        "distinct_1": lambda texts: text_metrics.distinct_n(texts, 1),
        "distinct_2": lambda texts: text_metrics.distinct_n(texts, 2),
        "repetition": text_metrics.repetition,
        "length_words": text_metrics.mean_words,
    }
    if tokenizer is not None:
        measures["length_tokens"] = lambda texts: text_metrics.mean_tokens(texts, tokenizer)
    # The share of different word pairs falls with the amount of text: count the same number of each.
    size = min(len(before), len(after))
    return {
        name: {"before": measure(before[:size]), "after": measure(after[:size])}
        for name, measure in measures.items()
    }


def _phrases(texts: list[str]) -> list[dict[str, str | float]]:
    return [{"phrase": phrase, "share": share} for phrase, share in text_metrics.common_phrases(texts)]


def _nested(samples: Samples, prompts: Sequence[str]) -> list[list[str]]:
    rows = [[row] if isinstance(row, str) else list(row) for row in samples]
    if len(rows) != len(prompts) or not rows:
        raise ValueError(f"there are {len(rows)} sets of responses to {len(prompts)} prompts")
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise ValueError("every prompt needs the same number of responses, at least one")
    return rows


def _flat(samples: list[list[str]]) -> list[str]:
    # Sample by sample over all prompts, so that a cut to equal size keeps every prompt.
    return [row[index] for index in range(len(samples[0])) for row in samples]


def _finite(value: Any) -> Any:
    """Leave out figures that are not finite, which JSON cannot say."""
    if isinstance(value, Mapping):
        kept = {key: _finite(part) for key, part in value.items()}
        return {
            key: part
            for key, part in kept.items()
            if not (isinstance(part, float) and not math.isfinite(part))
        }
    return [_finite(part) for part in value] if isinstance(value, list) else value
