"""textrl's own records, and the columns of TRL, which are a part of them.

TRL knows pairs (prompt, chosen, rejected), answers with a label, answers, prompts and conversations; each
may be text or lists of messages. It has no rankings, ties or ratings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from textrl.data.preferences.dialogue import completion_messages, is_dialogue, is_messages, messages_of
from textrl.data.preferences.importers.base import Format, Notes, Options, pairs_of
from textrl.data.preferences.schema import FORMS, Form, Record, kind_of

_TEXTS = ("prompt", "completion", "chosen", "rejected")


def fits(record: Mapping[str, Any]) -> bool:
    """Tell whether a record has one of textrl's forms."""
    return kind_of(record) is not None


def fits_trl(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is one of textrl's that holds messages, as TRL's tools write them."""
    return fits(record) and any(is_messages(record.get(column)) for column in (*_TEXTS, "messages"))


def read(where: str, record: Mapping[str, Any], options: Options, notes: Notes) -> Iterator[Record]:
    """Yield the record."""
    yield dict(record)


def write(form: Form, record: Record, options: Options, notes: Notes) -> Iterator[Record]:
    """Yield the record as it is."""
    yield record


def write_trl(form: Form, record: Record, options: Options, notes: Notes) -> Iterator[Record]:
    """Yield the record, a ranking as its pairs; ties are counted and left out."""
    if form not in ("pair", "ranking"):
        yield _talking(record, notes) if options.messages else record
        return
    for pair in pairs_of(form, record):
        if pair.pop("tie", False):
            notes.count("ties left out: trl has no ties")
        else:
            yield _talking(pair, notes) if options.messages else pair


def _talking(record: Record, notes: Notes) -> Record:
    """Write a record's texts as messages."""
    if "prompt" not in record:
        return record
    plain = not is_dialogue(record["prompt"])
    notes.count("prompts written as a turn of the user: they were plain text", plain)
    changed = dict(record)
    for column in _TEXTS:
        if column == "prompt":
            changed[column] = messages_of(record[column])
        elif column in record:
            changed[column] = completion_messages(record[column])
    return changed


TEXTRL = Format(
    name="textrl",
    summary="textrl's own records, all forms",
    read=read,
    write=write,
    fits=fits,
    holds=FORMS,
)
TRL = Format(
    name="trl",
    summary="TRL: prompt, chosen, rejected and the like, text or messages",
    read=read,
    write=write_trl,
    fits=fits_trl,
    holds=("pair", "ranking", "label", "demonstration", "prompt", "dialogue"),
)
