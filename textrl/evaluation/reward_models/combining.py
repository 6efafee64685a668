"""How the scores of an ensemble become one, as the reward ``reward_model`` combines them.

Shapes: ``M`` members, ``N`` texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textrl.evaluation.statistics import Floats


def combined(scores: Sequence[Floats], how: str, pessimism: float) -> Floats:
    """Return (N,) scores (Coste et al., "Reward model ensembles help mitigate overoptimization", 2023).

    Args:
        scores: M times (N,); a single member's are returned as they are.
        how: ``mean``; ``min``, the lowest; ``pessimistic``, the mean minus `pessimism` standard deviations
            (of a sample: divided by M - 1).
        pessimism: How many.
    """
    table = np.stack(scores)
    if len(table) == 1:
        return np.asarray(table[0], dtype=np.float64)
    if how == "min":
        return np.asarray(table.min(axis=0), dtype=np.float64)
    spread = pessimism * table.std(axis=0, ddof=1) if how == "pessimistic" else 0.0
    return np.asarray(table.mean(axis=0) - spread, dtype=np.float64)


def in_words(how: str, pessimism: float) -> str:
    """Name the combined score."""
    if how == "pessimistic":
        return f"mean score minus {pessimism:g} standard deviations"
    return "lowest score" if how == "min" else "mean score"
