"""Best-of-n sampling, estimated without bias for every n from one set of samples.

Shapes: X prompts, N samples of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def best_of_n(proxy: ArrayLike, values: ArrayLike, sizes: Sequence[int]) -> Floats:
    """Estimate the mean value of the sample that a proxy likes best among n.

    Of N samples, sorted by the proxy from the worst to the best, number i is the best of a random n of them
    with probability C(i - 1, n - 1) / C(N, n). The weighted mean is the average over all subsets of n, hence
    unbiased (Nakano et al. 2021, arXiv 2112.09332, appendix I). Samples that the proxy scores equal
    share their weight, as if ties were broken at random.

    Args:
        proxy: (X, N) what is maximised.
        values: (X, N) what is measured; the proxy itself, or the gold judge.
        sizes: Numbers n, each from 1 to N.

    Returns:
        (X, len(sizes)) one estimate for each prompt and n.

    Raises:
        ValueError: When shapes differ, something is not finite, or an n is out of range.
    """
    scores, measured = np.asarray(proxy, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if scores.ndim != 2 or scores.shape != measured.shape:
        raise ValueError(f"proxy and values have the shapes {scores.shape} and {measured.shape}")
    if not (np.isfinite(scores).all() and np.isfinite(measured).all()):
        raise ValueError("scores must be finite")
    count = scores.shape[1]
    for n in sizes:
        if not 1 <= n <= count:
            raise ValueError(f"n is {n}; with {count} samples it must be from 1 to {count}")
    weights = np.stack([subset_weights(count, n) for n in sizes], axis=1)  # (N, sizes)
    order = np.argsort(scores, axis=1, kind="stable")
    ranked = np.take_along_axis(measured, order, axis=1)
    keys = np.take_along_axis(scores, order, axis=1)
    ranked = np.stack([_within_ties(row, key) for row, key in zip(ranked, keys, strict=True)])
    return ranked @ weights


def subset_weights(count: int, n: int) -> Floats:
    """Return (N,) probabilities that the i-th worst of N samples is the best of a random n of them."""
    weights = np.zeros(count)
    # The best of all is in a subset with probability n / N; each step down multiplies by the chance that
    # the other n - 1 lie below: C(i - 2, n - 1) / C(i - 1, n - 1) = (i - n) / (i - 1).
    weight = n / count
    for i in range(count, n - 1, -1):
        weights[i - 1] = weight
        if i > 1:
            weight *= (i - n) / (i - 1)
    return weights


def kl_of_best_of_n(n: int) -> float:
    """Return KL(best-of-n || one sample), nats: log n - (n - 1) / n (Stiennon et al. 2020, appendix G.3).

    Exact where no two samples are scored equal, an upper bound otherwise (Beirami et al. 2024).

    Args:
        n: At least 1.
    """
    return math.log(n) - (n - 1) / n


def sizes_up_to(largest: int) -> list[int]:
    """Return 1, 2, 3, 4, 6, 8, 12 ... up to `largest`."""
    found = {1, largest}
    power = 2
    while power <= largest:
        found |= {n for n in (power, power * 3 // 2) if n <= largest}
        power *= 2
    return sorted(found)


def _within_ties(values: Floats, keys: Floats) -> Floats:
    """Replace values by the mean of those whose (sorted) key is the same."""
    _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
    means = np.bincount(group, weights=values) / sizes
    return np.asarray(means[group], dtype=np.float64)
