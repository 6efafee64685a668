"""Who and what stands in more than one part of the data, where records name their part in ``split``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from textrl.data.preferences.dialogue import cut
from textrl.data.preferences.orders import Found
from textrl.data.preferences.texts import normalise, prompt_of

_Keys = Iterable[tuple[str, Any]]


class Leaks:
    """Takes in records and counts annotators, users and prompts that are in two parts or more.

    Prompts are compared as `textrl data split` does: case, white space and the width of characters make no
    difference, and an empty one is nobody's. Each is remembered by 64 bits of a hash.
    """

    def __init__(self) -> None:
        self._parts: dict[str, int] = {}
        # Column -> key -> the part it was first seen in, by number; and the keys that were in another, too.
        self._homes: dict[str, dict[int, int]] = {"annotator": {}, "user_id": {}, "prompt": {}}
        self._spread: dict[str, set[int]] = {column: set() for column in self._homes}
        self._first: dict[str, str] = {}

    def see(self, where: str, record: Mapping[str, Any]) -> None:
        """Take in a canonical record; one without a ``split`` is in no part."""
        if "split" not in record:
            return
        part = self._parts.setdefault(record["split"], len(self._parts))
        for column, value in _keys(record):
            key = hash(value)
            home = self._homes[column].setdefault(key, part)
            if home != part:
                self._spread[column].add(key)
                if column not in self._first:
                    names = list(self._parts)
                    self._first[column] = f"{where}: {cut(value)} in {names[part]}, before in {names[home]}"

    def found(self) -> Found:
        """Return, as ``split_`` and the column, how many are in several parts, and the first of them."""
        return {
            f"split_{column}": (len(keys), self._first[column])
            for column, keys in self._spread.items()
            if keys
        }


def _keys(record: Mapping[str, Any]) -> _Keys:
    for name in record.get("annotators") or ((record["annotator"],) if "annotator" in record else ()):
        yield "annotator", str(name)
    if "user_id" in record:
        yield "user_id", str(record["user_id"])
    prompt = normalise(prompt_of(record))
    if prompt:
        yield "prompt", prompt
