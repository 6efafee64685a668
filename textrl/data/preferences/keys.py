"""What ties records together: the same user, group or prompt; and the parts of a file tied so.

Keys are 64-bit keyed hashes. Two different keys of three million share one with probability 2.4e-7
(n^2 / 2^65), and the only harm would be two components taken for one. Shapes: N records, C columns of keys.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from textrl.data.preferences.texts import normalise, prompt_of

#: 0 stands for "this record has no such key".
Keys = NDArray[np.uint64]
Labels = NDArray[np.int64]

PROMPT = "prompt"
#: Columns that the prompt is made of.
_PROMPT_COLUMNS = ("prompt", "messages")


@dataclass(frozen=True)
class KeyTable:
    """Keys of every record.

    Attributes:
        columns: C names; ``prompt`` stands for the normalised prompt.
        keys: (N, C).
        whole: (N,) hash of the whole record where it has no prompt, else 0: it then stands for itself.
        annotators: (N,) hash of who judged; 0 where the record does not say.
        seen: The columns of the file.
        own_splits: Records with a ``split`` of their own.
    """

    columns: tuple[str, ...]
    keys: Keys
    whole: Keys
    annotators: Keys
    seen: frozenset[str] = frozenset()
    own_splits: int = 0

    def of(self, column: str) -> Keys:
        """Return the (N,) keys of one column."""
        return self.keys[:, self.columns.index(column)]


def read_keys(records: Iterable[Mapping[str, Any]], columns: Sequence[str], seed: int) -> KeyTable:
    """Hash the keys of all records.

    Args:
        records: Of a file, in order.
        columns: Names; ``prompt`` means the normalised prompt, which an empty one does not have.
        seed: Keys the hashes: another seed gives unrelated ones.
    """
    secret = seed.to_bytes(16, "big", signed=True)
    salts = [name.encode() + b"\0" for name in columns]
    found = [array("Q") for _ in columns]
    whole, annotators = array("Q"), array("Q")
    shapes: set[tuple[str, ...]] = set()
    own = 0

    def key(content: bytes) -> int:
        return int.from_bytes(blake2b(content, digest_size=8, key=secret).digest(), "big") or 1

    for record in records:
        shapes.add(tuple(record))
        own += record.get("split") is not None
        prompt = b""
        for name, salt, keys in zip(columns, salts, found, strict=True):
            if name == PROMPT:
                prompt = normalise(prompt_of(record)).encode("utf-8", "surrogatepass")
                keys.append(key(salt + prompt) if prompt else 0)
            else:
                keys.append(_named(record.get(name), salt, key))
        whole.append(0 if prompt else key(json.dumps(record, sort_keys=True, default=str).encode()))
        annotators.append(_named(record.get("annotator"), b"annotator\0", key))
    seen = frozenset(str(name) for names in shapes for name in names)
    table = (
        np.stack([_numbers(keys) for keys in found], axis=1)
        if found
        else np.zeros((len(whole), 0), np.uint64)
    )
    return KeyTable(tuple(columns), table, _numbers(whole), _numbers(annotators), seen, own)


def components(keys: Keys) -> Labels:
    """Return (N,) labels 0, 1, ... of records that hang together through equal keys in any column.

    Connected components of the graph that joins every record to each of its keys.

    Args:
        keys: (N, C); a 0 joins nothing.
    """
    total = len(keys)
    records, nodes, first = [], [], total
    for column in range(keys.shape[1]):
        rows = np.flatnonzero(keys[:, column])
        distinct, inverse = np.unique(keys[rows, column], return_inverse=True)
        records.append(rows)
        nodes.append(inverse + first)
        first += len(distinct)
    rows = np.concatenate([*records, np.zeros(0, np.int64)])
    columns = np.concatenate([*nodes, np.zeros(0, np.int64)])
    ones = np.ones(len(rows), np.int8)
    graph = coo_array((ones, (rows, columns)), shape=(first, first))
    labels = connected_components(graph, directed=False)[1][:total]
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def mixed(numbers: Keys) -> Keys:
    """Return a fixed scrambling of 64-bit numbers, uniform where they are not (splitmix64's last steps).

    The smallest of many keys is small, so a component's order must not be its smallest key itself.
    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014, variant 13.
    """
    with np.errstate(over="ignore"):
        z = numbers + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def _named(value: Any, salt: bytes, key: Any) -> int:
    """Hash a name or number; 7 and "7" are the same user, as files disagree on how to write one."""
    if value is None or value == "":
        return 0
    text = value if isinstance(value, str) else str(value)
    return int(key(salt + text.encode("utf-8", "surrogatepass")))


def _numbers(values: array[int]) -> Keys:
    return np.frombuffer(values, dtype=np.uint64) if len(values) else np.zeros(0, np.uint64)
