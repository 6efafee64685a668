"""Columns whose name is a slip of the pen away from one that textrl reads."""

from __future__ import annotations

from collections.abc import Iterable

#: Shorter names are a letter away from words of their own: ``tie`` from ``time``.
_SHORTEST = 4
#: Similarity from which two names with several slips are one, as `difflib` has it: ``anottator`` reaches it,
#: ``annotation`` and ``annotator_id`` do not.
_ALIKE = 0.88


def meant(name: str, known: Iterable[str]) -> str | None:
    """Return the known column that a name is a misspelling of, or None for a name of its own.

    Misspelt is what differs in case, hyphens and underscores only, by one letter (wrong, missing, too many,
    two of them swapped), or a little more where names are long. This is stricter than
    `textrl.errors.did_you_mean`, which answers those who have made a mistake for certain: a file may have
    any columns.
    """
    plain = {_plain(column): column for column in known}
    own = _plain(name)
    if own in plain:
        return plain[own]
    slips = [text for text in plain if len(text) >= _SHORTEST and _one_slip(own, text)]
    if not slips:
        import difflib  # here: it costs milliseconds that only an unknown column should pay

        # The name as it is: an underscore parts words, and `annotator_id` is another column.
        return next(iter(difflib.get_close_matches(name.lower(), plain.values(), n=1, cutoff=_ALIKE)), None)
    return plain[slips[0]]


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def _one_slip(a: str, b: str) -> bool:
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    a, b = a[start:], b[start:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return max(len(a), len(b)) <= 1 or (len(a) == 2 and a == b[::-1])
