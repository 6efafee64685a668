"""One number for everything that was learnt: SHA-256 over arrays, numbers and their names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np


def digest_of(state: Any) -> str:
    """Return the SHA-256, in hexadecimal, of nested mappings and lists of arrays and JSON values.

    Arrays count by type, shape and bytes, so that two states have one digest only where every bit is the
    same; mappings count by key, in whatever order they were filled.

    Args:
        state: Mappings with text keys, lists, tuples, numpy arrays, numbers, text, booleans and None.

    Raises:
        TypeError: When something else is in it.
    """
    running = hashlib.sha256()
    _add(running, state)
    return running.hexdigest()


def _add(running: Any, value: Any) -> None:
    if isinstance(value, Mapping):
        running.update(b"{%d" % len(value))
        for key in sorted(value):
            _text(running, key)
            _add(running, value[key])
    elif isinstance(value, list | tuple):
        running.update(b"[%d" % len(value))
        for item in value:
            _add(running, item)
    elif isinstance(value, np.ndarray):
        # Little-endian everywhere, so that machines of both kinds agree.
        plain = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False)
        _text(running, f"{plain.dtype.str}{list(value.shape)}")
        running.update(plain.tobytes())
    else:
        _text(running, json.dumps(value.item() if isinstance(value, np.generic) else value))


def _text(running: Any, text: str) -> None:
    """Add text after its length: neighbours cannot be cut apart in two ways."""
    encoded = text.encode()
    running.update(b"%d:" % len(encoded) + encoded)
