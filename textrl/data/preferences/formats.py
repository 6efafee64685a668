"""The formats by name, and which of them a file is in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from textrl.data.preferences.importers import (
    argilla,
    hh_rlhf,
    label_studio,
    oasst,
    qa_feedback,
    sessions,
    trl,
)
from textrl.data.preferences.importers.base import Format
from textrl.errors import UserError, did_you_mean

#: In the order in which a record is held against them: the particular ones first.
FORMATS: Mapping[str, Format] = {
    item.name: item
    for item in (
        sessions.FORMAT,
        label_studio.FORMAT,
        argilla.FORMAT,
        oasst.FORMAT,
        qa_feedback.FORMAT,
        hh_rlhf.FORMAT,
        trl.TRL,
        trl.TEXTRL,
    )
}
#: Records that are looked at.
_LOOK = 20


def find_format(name: str) -> Format:
    """Return a format.

    Raises:
        UserError: When there is none of that name.
    """
    if name not in FORMATS:
        raise UserError(f"There is no format '{name}'.{did_you_mean(name, FORMATS)}")
    return FORMATS[name]


def guess(records: Iterable[Mapping[str, Any]]) -> Format | None:
    """Return the format that most of the first records have, or None where none fits any of them."""
    votes: dict[str, int] = {}
    for record in islice(records, _LOOK):
        for item in FORMATS.values():
            if item.fits(record):
                votes[item.name] = votes.get(item.name, 0) + 1
                break
    return FORMATS[max(votes, key=lambda name: votes[name])] if votes else None
