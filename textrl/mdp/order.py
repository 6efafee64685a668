"""Random orders that are functions of their key: no state to save, nothing to replay on resume."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


@lru_cache(maxsize=64)
def _order(key: tuple[int, ...], count: int) -> NDArray[np.intp]:
    # NumPy promises the raw stream of a bit generator for ever, but not Generator.permutation's.
    raw = np.random.PCG64(list(key)).random_raw(count)
    return np.argsort(raw, kind="stable")


def keyed_order(key: Sequence[int], count: int) -> NDArray[np.intp]:
    """Return a permutation of ``range(count)`` that depends on `key` (non-negative ints) alone."""
    return _order(tuple(key), count)


def visit(key: Sequence[int], index: int, count: int) -> int:
    """Return item number `index` of an endless walk through ``range(count)``, reshuffled every epoch."""
    epoch, position = divmod(index, count)
    return int(keyed_order((*key, epoch), count)[position])
