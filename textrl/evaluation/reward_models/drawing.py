"""Random parts of pairs and rankings, where there are more than are asked for.

Shapes: ``P`` pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textrl.evaluation.reward_models.resampling import Ints


def draw_rankings(sizes: Sequence[int], most_pairs: int, seed: int) -> list[int]:
    """Draw rankings until their pairs reach the limit.

    Args:
        sizes: How many texts each ranking has.
        most_pairs: The limit.
        seed: Of the draw.

    Returns:
        Indices of the drawn rankings, at least one, ascending.
    """
    chosen: list[int] = []
    count = 0
    for index in np.random.default_rng(seed).permutation(len(sizes)).tolist():
        count += sizes[index] * (sizes[index] - 1) // 2
        if chosen and count > most_pairs:
            break
        chosen.append(index)
    return sorted(chosen)


def draw_pairs(count: int, most: int, seed: int) -> tuple[Ints, Ints]:
    """Return (P,) and (P,) ends of all pairs of `count` texts, or of `most` different ones."""
    possible = count * (count - 1) // 2
    if possible <= max(most, 1):
        one, two = np.triu_indices(count, 1)
        return np.asarray(one, dtype=np.int64), np.asarray(two, dtype=np.int64)
    rng = np.random.default_rng(seed)
    number = np.sort(rng.choice(possible, size=most, replace=False))
    # Pair number n of the upper triangle by columns: column j holds the j pairs from j (j - 1) / 2 on.
    column = np.floor((1 + np.sqrt(1 + 8 * number.astype(np.float64))) / 2).astype(np.int64)
    column -= (column * (column - 1) // 2 > number).astype(np.int64)  # the root is rounded
    column += ((column + 1) * column // 2 <= number).astype(np.int64)
    return number - column * (column - 1) // 2, column
