"""Judgements given in a textrl feedback session: its event store, or the same events as JSONL.

    {"uuid": ..., "session": ..., "annotator": ..., "kind": "ranked", "payload": {a canonical record}}

The kind is ``ranked`` (pairs and rankings), ``rated``, ``labelled`` or ``demonstrated``. What a ranking says
of each completion, in the lists ``likert`` and ``flags``, becomes ratings beside it. An event of the kind
``undone`` whose payload has the ``uuid`` of an earlier one takes that back. The SQLite store has the same
columns in a table ``events``, in the order of ``seq``. Other kinds (key presses, say) are counted and left.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from textrl.data.preferences.dialogue import cut
from textrl.data.preferences.importers.base import Format, Notes, Options
from textrl.data.preferences.schema import COMMON, Form, Record
from textrl.data.records import Records
from textrl.errors import UserError

#: Form -> kind of event.
KINDS: Mapping[Form, str] = {
    "pair": "ranked",
    "ranking": "ranked",
    "ranking_row": "ranked",
    "rating": "rated",
    "label": "labelled",
    "demonstration": "demonstrated",
}
UNDONE = "undone"


def fits(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is an event of a session."""
    return "kind" in record and "payload" in record


def prepare(records: Records, notes: Notes) -> Records:
    """Yield the events that were not taken back, in their order.

    They are held until the end of the file, since any of them may be taken back there.
    """
    kept: list[tuple[str, Mapping[str, Any]]] = []
    undone: set[str] = set()
    for where, event in records:
        if event.get("kind") == UNDONE:
            payload = event.get("payload")
            if not isinstance(payload, Mapping) or not isinstance(payload.get("uuid"), str):
                raise UserError(
                    f"{where}: the payload of '{UNDONE}' must hold the uuid of what it takes back."
                )
            undone.add(payload["uuid"])
        else:
            kept.append((where, event))
    for where, event in kept:
        if event.get("uuid") in undone:
            notes.count("events left out: they were taken back")
        else:
            yield where, event


def read(where: str, record: Mapping[str, Any], options: Options, notes: Notes) -> Iterator[Record]:
    """Yield the judgement of an event; behind a ranking the ratings that it holds.

    Raises:
        UserError: When the payload is no object, or its scores do not belong to its completions.
    """
    kind, payload = record.get("kind"), record.get("payload")
    if kind not in KINDS.values():
        notes.count(f"events of the kind '{kind}' left out: they are no judgement of texts")
        return
    if not isinstance(payload, Mapping):
        raise UserError(f"{where}: 'payload' is {cut(payload)}; it must be a record.")
    annotator = {"annotator": record["annotator"]} if record.get("annotator") is not None else {}
    said = {**payload, **annotator}
    if kind == KINDS["ranking"] and payload.get("completions") is not None:
        if said.get("group") is None and None not in (record.get("session"), payload.get("item")):
            # What ties the ranking and its ratings together, by the name that the export gives it.
            said["group"] = f"{record['session']}/{payload['item']}"
        scores = {column: said.pop(column, None) for column in ("likert", "flags")}
        yield said
        yield from _ratings(where, said, scores)
    else:
        yield said


def _ratings(where: str, said: Record, scores: Mapping[str, Any]) -> Iterator[Record]:
    """Yield a rating for each completion of a ranking that was scored or flagged."""
    completions = said["completions"]
    size = len(completions) if isinstance(completions, list) else 0
    lists: dict[str, list[Any]] = {}
    for column, values in scores.items():
        if values is not None and (not isinstance(values, list) or len(values) != size):
            raise UserError(
                f"{where}: '{column}' is {cut(values)}; it must be a list with one entry for each of the "
                "completions."
            )
        lists[column] = values or [None] * size
    shared = {column: said[column] for column in ("prompt", *COMMON) if said.get(column) is not None}
    for number in range(size):
        likert, flags = lists["likert"][number], lists["flags"][number]
        if isinstance(flags, Mapping):  # a table has null where another response has a flag
            flags = {name: ticked for name, ticked in flags.items() if ticked is not None}
        scored = {} if likert is None else {"likert": likert}
        # No flag at all says nothing; flags that are all false say that none applies.
        if flags not in (None, {}):
            scored["flags"] = flags
        if scored:
            yield {**shared, "completion": completions[number], **scored}


def write(form: Form, record: Record, options: Options, notes: Notes) -> Iterator[Record]:
    """Yield the record as an event."""
    payload = {column: value for column, value in record.items() if column != "annotator"}
    serial = notes.next_serial()
    # Derived from the content and its place, so that the same conversion writes the same file.
    name = json.dumps([serial, payload, record.get("annotator")], sort_keys=True, default=str)
    yield {
        "uuid": str(uuid5(NAMESPACE_URL, name)),
        "session": "converted",
        "annotator": record.get("annotator"),
        "kind": KINDS[form],
        "payload": payload,
    }


FORMAT = Format(
    name="session",
    summary="a textrl feedback session: SQLite store or events as JSONL",
    read=read,
    write=write,
    fits=fits,
    holds=tuple(KINDS),
    prepare=prepare,
)
