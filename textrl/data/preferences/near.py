"""Near-duplicates among different texts: by a long common prefix, and by the Jaccard similarity of shingles.

Both work on normalised texts (`textrl.data.preferences.texts.normalise`) and name, for each text, the text
that stands for it. Shapes: M texts, P permutations, B bands of R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textrl.errors import UserError

Ids = NDArray[np.int64]
Tick = Callable[[int], None]

#: Characters of a shingle. Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.2: 5 for
#: short texts such as e-mails.
SHINGLE = 5
PERMUTATIONS = 128
#: Keeps the permutations, and with them every result, the same.
_SEED = 1
_TICK_EVERY = 1000
#: A missed pair stays in the data, a false candidate only costs a comparison: bands are chosen accordingly.
_WEIGHTS = (0.1, 0.9)


@dataclass(frozen=True)
class Similar:
    """Which text stands for which.

    Attributes:
        keeper: (M,) the text that stays; a text that stays names itself.
        similarity: (M,) characters in common, or the Jaccard similarity, with the keeper; 0 for itself.
    """

    keeper: Ids
    similarity: NDArray[np.float64]

    def largest(self) -> int:
        """Return how many texts the largest class has."""
        return int(np.bincount(self.keeper).max()) if len(self.keeper) else 0


def by_prefix(texts: Sequence[str], length: int) -> Similar:
    """Find texts that begin with the same `length` characters; the first of each class stays.

    To share a prefix of that length is an equivalence relation, and in sorted order its classes are runs, so
    it is enough to compare neighbours.

    Args:
        texts: (M,) different from each other.
        length: Characters; shorter texts are like no other.
    """
    order = sorted(range(len(texts)), key=texts.__getitem__)
    keeper = np.arange(len(texts), dtype=np.int64)
    similarity = np.zeros(len(texts))
    start = 0
    for i in range(1, len(order) + 1):
        same = i < len(order) and _share(texts[order[i - 1]], texts[order[i]], length)
        if same:
            continue
        if i - start > 1:
            run = order[start:i]
            first = min(run)
            for index in run:
                if index != first:
                    keeper[index] = first
                    similarity[index] = _common(texts[first], texts[index])
        start = i
    return Similar(keeper, similarity)


def _share(first: str, second: str, length: int) -> bool:
    return len(first) >= length and first[:length] == second[:length]


def _common(first: str, second: str) -> int:
    """Count the characters with which both begin."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))


def by_minhash(texts: Sequence[str], threshold: float, tick: Tick | None = None) -> Similar:
    """Find texts whose shingles have a Jaccard similarity of at least `threshold`.

    MinHash signatures put texts that are probably similar into a common band; each such pair is then compared
    exactly, so that nothing is dropped below the threshold. A text is compared with those before it that
    stay: no two texts that stay are a pair that was found, and every dropped text resembles one that stays.
    Takes about a kilobyte and 0.2 ms for a text of 200 characters.

    Args:
        texts: (M,) different from each other.
        threshold: Jaccard similarity, in (0, 1].
        tick: Told how many texts have a signature.

    Raises:
        UserError: When datasketch is not installed.
    """
    bands, rows = band_shape(threshold)
    shingles = [shingled(text) for text in texts]
    keys = band_keys(shingles, bands, rows, tick)
    runs = _runs(keys)
    keeper = np.arange(len(texts), dtype=np.int64)
    similarity = np.zeros(len(texts))
    kept_in: dict[int, list[int]] = {}
    for index, mine in sorted(runs.items()):
        found = _resembled(index, mine, kept_in, shingles, threshold)
        if found is None:
            for run in mine:
                kept_in.setdefault(run, []).append(index)
        else:
            keeper[index], similarity[index] = found
    return Similar(keeper, similarity)


def shingled(text: str) -> NDArray[np.uint32]:
    """Return the sorted 32-bit hashes of a text's runs of `SHINGLE` characters; a shorter text is one run."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    count = max(len(points) - SHINGLE + 1, 1)
    hashes = np.zeros(count, np.uint32)
    with np.errstate(over="ignore"):
        for offset in range(min(SHINGLE, len(points))):
            # Knuth's multiplicative constant: a polynomial in it, modulo 2^32, spreads neighbouring letters.
            hashes = hashes * np.uint32(2654435761) + points[offset : offset + count]
    return np.unique(hashes)


def jaccard(first: NDArray[np.uint32], second: NDArray[np.uint32]) -> float:
    """Return |A and B| / |A or B| of two sorted sets."""
    common = len(np.intersect1d(first, second, assume_unique=True))
    return common / (len(first) + len(second) - common)


def band_shape(threshold: float) -> tuple[int, int]:
    """Return (B, R), B * R <= P, with the fewest misses and false candidates at a threshold."""
    lsh: Any = _datasketch().MinHashLSH(threshold=threshold, num_perm=PERMUTATIONS, weights=_WEIGHTS)
    return int(lsh.b), int(lsh.r)


def band_keys(
    shingles: Sequence[NDArray[np.uint32]], bands: int, rows: int, tick: Tick | None = None
) -> NDArray[np.uint64]:
    """Return (M, B) hashes of the bands of every text's MinHash signature.

    The bands stand in one array, not in datasketch's index of dictionaries, which needs kilobytes a text.
    """
    made = _datasketch().MinHash.generator(
        (part.tolist() for part in shingles), num_perm=PERMUTATIONS, seed=_SEED, hashfunc=_same
    )
    keys = np.empty((len(shingles), bands), np.uint64)
    weights = np.random.default_rng(_SEED).integers(1, 2**63, size=rows, dtype=np.uint64) | np.uint64(1)
    with np.errstate(over="ignore"):
        for index, one in enumerate(made):
            signature = one.hashvalues[: bands * rows].astype(np.uint64).reshape(bands, rows)
            keys[index] = (signature * weights).sum(axis=1)
            if tick is not None and index % _TICK_EVERY == 0:
                tick(index)
    return keys


def _runs(keys: NDArray[np.uint64]) -> dict[int, list[int]]:
    """Return for each text the numbers of the bands it shares with another text; others are left out."""
    found: dict[int, list[int]] = {}
    number = 0
    for column in keys.T:
        order = np.argsort(column, kind="stable")
        edges = np.flatnonzero(np.diff(column[order])) + 1
        starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(order)]])
        for start, end in zip(starts[ends - starts > 1], ends[ends - starts > 1], strict=True):
            for index in order[start:end].tolist():
                found.setdefault(index, []).append(number)
            number += 1
    return found


def _resembled(
    index: int,
    runs: Sequence[int],
    kept_in: dict[int, list[int]],
    shingles: Sequence[NDArray[np.uint32]],
    threshold: float,
) -> tuple[int, float] | None:
    """Return the first kept text, by its number, that is similar enough, and how similar it is."""
    others = {other for run in runs for other in kept_in.get(run, ())}
    mine = shingles[index]
    for other in sorted(others):
        theirs = shingles[other]
        # The similarity is at most the ratio of the sizes.
        if min(len(mine), len(theirs)) < threshold * max(len(mine), len(theirs)):
            continue
        value = jaccard(mine, theirs)
        if value >= threshold:
            return other, value
    return None


def _same(value: int) -> int:
    """Hash what is a hash already."""
    return value


def _datasketch() -> Any:
    try:
        import datasketch
    except ImportError:
        raise UserError(
            "Deduplication by MinHash needs datasketch; run pip install 'textrl-mdp[dedup]' "
            "or use --method prefix."
        ) from None
    return datasketch
