"""ROUGE-L: how much of a reference's words stand in a candidate in the same order (Lin 2004, ACL workshop).

Words are those of the usual package: lower case, runs of letters a-z and digits, no stemming. Its results are
what the tests compare with.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True)
class Rouge:
    """One comparison.

    Attributes:
        precision: Share of the candidate's words that are in the longest common subsequence.
        recall: Share of the reference's words that are.
        f1: Their harmonic mean; 0 where nothing is common.
    """

    precision: float
    recall: float
    f1: float


def rouge_l(candidate: str, reference: str) -> Rouge:
    """Compare a candidate with a reference by their longest common subsequence of words.

    Args:
        candidate: What was written.
        reference: What was to be written.

    Returns:
        Zeros where one of them has no words.
    """
    said, meant = _WORD.findall(candidate.lower()), _WORD.findall(reference.lower())
    common = longest_common_subsequence(said, meant)
    if not common:
        return Rouge(0.0, 0.0, 0.0)
    precision, recall = common / len(said), common / len(meant)
    return Rouge(precision, recall, 2 * precision * recall / (precision + recall))


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, in time and memory of a row of its table."""
    row = [0] * (len(second) + 1)
    for item in first:
        corner = 0
        for j, other in enumerate(second, start=1):
            above = row[j]
            row[j] = corner + 1 if item == other else max(above, row[j - 1])
            corner = above
    return row[-1]
