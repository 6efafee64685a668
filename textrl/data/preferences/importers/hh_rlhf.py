"""Dialogues as in hh-rlhf (Bai et al. 2022): two strings that share their beginning.

    {"chosen": "\\n\\nHuman: Why?\\n\\nAssistant: So.", "rejected": "\\n\\nHuman: Why?\\n\\nAssistant: No."}

The prompt is what both have in common up to the last "Assistant:". What follows may hold further turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from textrl.data.preferences.dialogue import ANSWER, QUESTION, cut, split_pair
from textrl.data.preferences.importers.base import Format, Notes, Options, as_dialogue, pairs_of, spoken
from textrl.data.preferences.schema import Form, Record
from textrl.errors import UserError


def fits(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is a pair of dialogues without a prompt of its own."""
    texts = [record.get("chosen"), record.get("rejected")]
    return record.get("prompt") is None and all(
        isinstance(text, str) and QUESTION in text and ANSWER in text for text in texts
    )


def read(where: str, record: Mapping[str, Any], options: Options, notes: Notes) -> Iterator[Record]:
    """Yield the pair.

    Raises:
        UserError: When the two are no dialogues with a common beginning.
    """
    for column in ("chosen", "rejected"):
        if not isinstance(record.get(column), str):
            raise UserError(
                f"{where}: '{column}' is {cut(record.get(column))}; it must be a dialogue's text."
            )
    parts = split_pair(record["chosen"], record["rejected"])
    if parts is None:
        raise UserError(
            f"{where}: 'chosen' and 'rejected' have no beginning in common that ends with "
            f"'{ANSWER.strip()}'; give both the same conversation before the answers."
        )
    rest = {column: value for column, value in record.items() if column not in ("chosen", "rejected")}
    yield {"prompt": parts[0], "chosen": parts[1], "rejected": parts[2], **rest}


def write(form: Form, record: Record, options: Options, notes: Notes) -> Iterator[Record]:
    """Yield a record for every pair that is no tie."""
    for pair in pairs_of(form, record):
        if pair.get("tie"):
            notes.count("ties left out: hh has no ties")
            continue
        notes.columns(pair, ("prompt", "chosen", "rejected", "tie"), "hh")
        prompt, wrapped = as_dialogue(pair["prompt"], notes)
        dialogues = [prompt + spoken(pair[column], wrapped) for column in ("chosen", "rejected")]
        parts = split_pair(*dialogues)
        notes.count(
            "pairs whose answers begin with the same further turns, which hh counts to the prompt",
            parts is None or parts[0] != prompt,
        )
        yield {"chosen": dialogues[0], "rejected": dialogues[1]}


FORMAT = Format(
    name="hh",
    summary="hh-rlhf: two dialogues with a common beginning",
    read=read,
    write=write,
    fits=fits,
    holds=("pair", "ranking"),
)
