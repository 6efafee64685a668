"""Shortcuts: does the model go by length, formatting or position more than people do?

For each surface measure, pairs in which the two texts differ in it are counted twice: how often people prefer
the text with more of it, and how often the model does. Where the model's share is higher, it uses the measure
as a shortcut; a plain correlation cannot tell that apart from a measure that people value themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from textrl.evaluation.reward_models.comparisons import Text
from textrl.evaluation.reward_models.resampling import Ints
from textrl.evaluation.statistics import Floats, pearson
from textrl.evaluation.text_metrics import repetition, words

#: Lengths within this factor are alike.
ALIKE = 1.1
_BULLET = re.compile(r"^[ \t]*(?:[-*+\u2022\u2013]|\d{1,3}[.)])[ \t]+\S", re.M)
_HEADING = re.compile(r"^#{1,6}[ \t]+\S", re.M)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")

#: Measure -> how it is counted in one completion.
MEASURES: Mapping[str, Callable[[str], float]] = {
    "words": lambda text: len(words(text)),
    "lines": lambda text: sum(1 for line in text.splitlines() if line.strip()),
    "bullets": lambda text: len(_BULLET.findall(text)),
    "headings and bold": lambda text: len(_HEADING.findall(text)) + len(_BOLD.findall(text)),
    "digits": lambda text: sum(character.isdigit() for character in text),
    "capitals, share": lambda text: _capitals(text),
    "exclamation marks": lambda text: text.count("!"),
    "question marks": lambda text: text.count("?"),
    "repetition": lambda text: repetition([text]),
}


def _capitals(text: str) -> float:
    """Return the share of letters that are capitals; the first letter of a text says nothing."""
    letters = [character for character in text if character.isalpha()][1:]
    return sum(character.isupper() for character in letters) / len(letters) if letters else 0.0


def measured(texts: Sequence[Text]) -> dict[str, Floats]:
    """Return every measure of N completions, (N,) each, and ``log length``."""
    found = {
        name: np.array([float(count(text.completion)) for text in texts]) for name, count in MEASURES.items()
    }
    # Twice as long is as much at 10 words as at 100.
    found["log length"] = np.log(np.array([len(text.completion) + 1.0 for text in texts]))
    return found


def alike_in_length(first: ArrayLike, second: ArrayLike) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return (P,) whether lengths in words differ by no more than a tenth (of texts of some length)."""
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return np.asarray(np.maximum(one, two) <= ALIKE * np.minimum(one, two), dtype=np.bool_)


def without(gaps: Floats, differences: Floats) -> tuple[Floats, float]:
    """Return (P,) gaps without what a difference explains of them, and its slope.

    The slope is that of the least-squares line through the origin: swapping a pair's sides changes both
    signs, so that which side is called the better one has no influence.

    Args:
        gaps: (P,) score of one side minus that of the other.
        differences: (P,) measure of the one side minus that of the other.
    """
    power = float((differences**2).sum())
    slope = float((gaps * differences).sum()) / power if power > 0 else 0.0
    return gaps - slope * differences, slope


def correlation(scores: Floats, values: Floats, prompts: Ints) -> float:
    """Correlation of scores with a measure within prompts: both as distances from their prompt's mean.

    A prompt that invites long answers and high scores would else look like a shortcut. NaN where one of
    them does not vary.

    Args:
        scores: (N,).
        values: (N,).
        prompts: (N,) index of each text's prompt; all equal for a plain correlation.
    """
    _, which = np.unique(prompts, return_inverse=True)
    count = np.bincount(which).astype(np.float64)
    centred = [one - (np.bincount(which, weights=one) / count)[which] for one in (scores, values)]
    scale = [float(np.abs(one).max()) + 1e-300 for one in (scores, values)]
    flat = [np.where(np.abs(one) < 1e-12 * size, 0.0, one) for one, size in zip(centred, scale, strict=True)]
    return pearson(*flat)
