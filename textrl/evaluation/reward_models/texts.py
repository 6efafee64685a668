"""The texts that are scored, each once, with the place and the columns of its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Text:
    """What is scored; prompt and completion make it the text that it is.

    Attributes:
        prompt: May be empty.
        completion: What was written.
        where: The first place where it stands, or empty.
        record: The columns of that record that are no verdict, for rewards that read some of them.
    """

    prompt: str
    completion: str
    where: str = field(default="", compare=False)
    record: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        """Name it in a message: by its place where that is known."""
        return self.where or f"The text {self.completion[:40]!r}"


@dataclass
class TextTable:
    """Gives every text its index.

    Attributes:
        found: Text -> index.
        differing: Columns in which a later record of a text differs from its first.
    """

    found: dict[Text, int] = field(default_factory=dict)
    differing: set[str] = field(default_factory=set)
    _records: list[Mapping[str, Any]] = field(default_factory=list)

    def index(
        self, prompt: str, completion: str, where: str = "", record: Mapping[str, Any] | None = None
    ) -> int:
        """Return the index of a text, a new one where it is new; see `Text`."""
        own = record if record is not None else {}
        index = self.found.setdefault(Text(prompt, completion, where, own), len(self.found))
        if index == len(self._records):
            self._records.append(own)
        elif own != self._records[index]:
            first = self._records[index]
            self.differing |= {name for name in own.keys() | first.keys() if own.get(name) != first.get(name)}
        return index

    def texts(self) -> tuple[Text, ...]:
        """Return the texts in the order of their indices."""
        return tuple(self.found)
