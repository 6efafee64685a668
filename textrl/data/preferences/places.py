"""Places of records as whole numbers: those of a million rankings take eight megabytes."""

from __future__ import annotations

#: Bits for what follows the last space of a place: the number of a line, row, item or event.
_BITS = 40
#: Digits of a number that fits `_BITS`.
_DIGITS = 12


class Places:
    """Turns places such as ``file.jsonl, line 7`` into numbers and back.

    What stands before the number is kept once; a place without a number is kept whole.
    """

    def __init__(self) -> None:
        self._heads: dict[str, int] = {}

    def code(self, where: str) -> int:
        """Return the number of a place; of one head they are in the order of the file."""
        head, _, tail = where.rpartition(" ")
        number = 0
        if head and tail.isascii() and tail.isdecimal() and len(tail) <= _DIGITS and tail[0] != "0":
            number = int(tail)
        else:
            head = where
        return self._heads.setdefault(head, len(self._heads)) << _BITS | number

    def place(self, code: int) -> str:
        """Return the place that `code` made the number of."""
        head, number = self._parts(code)
        return f"{head} {number}" if number else head

    def both(self, code: int, other: int) -> str:
        """Name two places, and what they have in common once: ``file.jsonl, line 7 against line 3``."""
        (head, _), (same, number) = self._parts(code), self._parts(other)
        short = f"{head.rpartition(', ')[2]} {number}" if head == same and number else self.place(other)
        return f"{self.place(code)} against {short}" if short else self.place(code)

    def _parts(self, code: int) -> tuple[str, int]:
        # Looked for and not indexed: a report asks for a handful of places.
        index = code >> _BITS
        return next(head for head, at in self._heads.items() if at == index), code & ((1 << _BITS) - 1)
