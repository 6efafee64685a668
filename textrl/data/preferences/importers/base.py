"""What a format of another tool is: how its records become canonical ones and back.

A format reads and writes one record at a time, so that files of any size pass through. Nothing is dropped
in silence: what cannot be held is counted in `Notes`, in words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from textrl.data.preferences.dialogue import ANSWER, is_dialogue
from textrl.data.preferences.schema import Form, Record
from textrl.data.records import Records


@dataclass
class Notes:
    """What a conversion had to leave out or change, each said once with how often.

    Attributes:
        counts: What is said, and how often.
        serial: Records numbered so far.
    """

    counts: Counter[str] = field(default_factory=Counter)
    serial: int = 0

    def next_serial(self) -> int:
        """Count the records of a format that numbers them, from 1."""
        self.serial += 1
        return self.serial

    def count(self, said: str, times: int = 1) -> None:
        """Count what was left out or changed; nothing for 0 times."""
        if times:
            self.counts[said] += times

    def columns(self, record: Mapping[str, Any], held: Collection[str], name: str) -> None:
        """Count the columns of a record that a format has no place for."""
        for column in record:
            if column not in held:
                self.counts[f"column '{column}' left out: {name} has no place for it"] += 1


@dataclass(frozen=True)
class Options:
    """What a file does not say about itself.

    Attributes:
        rename: Canonical column -> the file's name of it; also ``left`` and ``right`` of Label Studio.
        buckets: Label Studio's buckets, best first.
        messages: Write prompts and completions as lists of messages (TRL).
    """

    rename: Mapping[str, str] = field(default_factory=dict)
    buckets: tuple[str, ...] = ()
    messages: bool = False


Read = Callable[[str, Mapping[str, Any], Options, Notes], Iterable[Record]]
Write = Callable[[Form, Record, Options, Notes], Iterable[Record]]


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: On the command line.
        summary: One line.
        read: (place, record, options, notes) -> canonical records; raises UserError on a bad one.
        write: (form, canonical record, options, notes) -> records of the format.
        fits: Tells a record of this format from others.
        prepare: Puts records together that depend on each other, before `read`.
        holds: Forms `write` can hold; rows of a ranking are put together first unless it has them.
    """

    name: str
    summary: str
    read: Read
    write: Write
    fits: Callable[[Mapping[str, Any]], bool]
    holds: tuple[Form, ...]
    prepare: Callable[[Records, Notes], Records] | None = None


def pairs_of(form: Form, record: Record) -> Iterator[Record]:
    """Yield all pairs of a pair or a ranking, ties as ties; ratings give the margins.

    Pairs come in the order of the completions: (1, 2), (1, 3) ..., each with the better one chosen.
    """
    if form == "pair":
        yield record
        return
    rest = {c: v for c, v in record.items() if c not in ("completions", "ranks", "ratings")}
    texts, ranks, ratings = record["completions"], record["ranks"], record.get("ratings")
    for i in range(len(texts)):
        for j in range(i + 1, len(texts)):
            first, second = (i, j) if ranks[i] <= ranks[j] else (j, i)
            pair = {**rest, "chosen": texts[first], "rejected": texts[second]}
            if ranks[i] == ranks[j]:
                pair["tie"] = True
            elif ratings is not None and ratings[first] >= ratings[second]:
                pair["margin"] = ratings[first] - ratings[second]
            yield pair


def as_dialogue(prompt: str, notes: Notes) -> tuple[str, bool]:
    """Return a prompt as a dialogue that waits for an answer, and whether it had to become one."""
    if is_dialogue(prompt):
        return prompt, False
    notes.count("prompts written as a turn of the user: they were plain text")
    return f"\n\nHuman: {prompt}{ANSWER}", True


def spoken(completion: str, wrapped: bool) -> str:
    """Return a completion as it follows a dialogue: a plain one gets the space behind the colon."""
    return f" {completion}" if wrapped and not completion.startswith(" ") else completion
