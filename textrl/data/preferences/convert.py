"""From one format to another, record by record, with an account of what did not come along."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from textrl.data.preferences.formats import find_format, guess
from textrl.data.preferences.importers.base import Format, Notes, Options
from textrl.data.preferences.reshape import Item, gather, reshape
from textrl.data.preferences.schema import Form, canonical
from textrl.data.preferences.sources import open_source
from textrl.data.preferences.writing import Writer
from textrl.data.records import Bad, Records
from textrl.errors import UserError

_LOOK = 20
#: Bad records that are named; all are counted.
NAMED = 5


@dataclass
class Conversion:
    """What came of a conversion.

    Attributes:
        origin: The format read.
        guessed: Whether it was guessed from the content.
        to: The format written.
        out: The file.
        read: Records of the file.
        forms: Canonical records by form.
        written: Records written.
        notes: What was left out or changed, and how often.
        bad: Records that could not be used and were passed over.
        bad_examples: What is wrong with the first of them.
    """

    origin: str
    guessed: bool
    to: str
    out: str
    read: int = 0
    forms: Counter[str] = field(default_factory=Counter)
    written: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    bad: int = 0
    bad_examples: list[str] = field(default_factory=list)

    def pass_over(self, error: UserError) -> None:
        """Count a bad record and remember the first few."""
        self.bad += 1
        if len(self.bad_examples) < NAMED:
            self.bad_examples.append(str(error))


def opened(
    source: str | Path, origin: str | None, options: Options, *, split: str = "train", bad: Bad | None = None
) -> tuple[Format, bool, Records]:
    """Open a file, guess its format where none is given, and rename its columns.

    Returns:
        The format, whether it was guessed, and the records.

    Raises:
        UserError: When the file cannot be read or its format cannot be guessed.
    """
    records = open_source(source, split=split, bad=bad)
    renames = {theirs: ours for ours, theirs in options.rename.items()}
    if origin is not None:
        return find_format(origin), False, _renamed(records, renames)
    head = list(islice(records, _LOOK))
    found = guess(_rename(record, renames) for _, record in head)
    if found is None:
        columns = sorted({str(column) for _, record in head for column in record})
        raise UserError(
            f"{source}: no format fits its records, which have the columns {', '.join(columns) or '(none)'}; "
            "name those that are meant, for example --columns completion=text (docs/data.md has the forms)."
        )
    return found, True, _renamed(chain(head, records), renames)


def convert(
    source: str | Path,
    out: str | Path,
    *,
    to: str,
    origin: str | None = None,
    form: Form | None = None,
    split: str = "train",
    options: Options | None = None,
    skip_bad: bool = False,
    tick: Callable[[int], None] = lambda done: None,
) -> Conversion:
    """Convert a file.

    Args:
        source: A file or a dataset; see `textrl.data.preferences.sources`.
        out: The file to write; its ending decides how.
        to: Format to write.
        origin: Format to read; guessed from the content by default.
        form: Bring all records into this form first.
        split: Which part of a dataset.
        options: What the file does not say about itself.
        skip_bad: Pass over records that cannot be used, and count them.
        tick: Told how many records have been read.

    Returns:
        What was read, written, changed and left out.

    Raises:
        UserError: When something cannot be read or written, on the first bad record without `skip_bad`,
            and when nothing would be written; no file is made then.
    """
    options = options or Options()
    target = find_format(to)
    notes = Notes()
    writer = Writer(out)
    result = Conversion("", False, to, str(out), notes=notes.counts)
    bad = result.pass_over if skip_bad else None
    made, result.guessed, records = opened(source, origin, options, split=split, bad=bad)
    result.origin = made.name
    items = items_of(made, _counted(records, result, tick), options, notes, bad)
    if form is not None:
        items = reshape(items, form, notes)
    elif "ranking_row" not in target.holds:
        items = gather(items, notes)
    with writer:
        for _, kind, record in items:
            result.forms[kind] += 1
            if kind not in target.holds:
                notes.count(f"{kind.replace('_', ' ')}s left out: {to} has no place for them")
                continue
            for one in target.write(kind, record, options, notes):
                writer.add(one)
        if not writer.written:
            why = "; ".join(f"{times} {said}" for said, times in notes.counts.most_common(3))
            raise UserError(f"{source}: nothing of it can be written as {to}{f' ({why})' if why else ''}.")
    result.written = writer.written
    return result


def items_of(
    made: Format, records: Records, options: Options, notes: Notes, bad: Bad | None = None
) -> Iterator[Item]:
    """Yield the canonical records of a file in a format.

    Args:
        made: The format.
        records: As read.
        options: What the file does not say about itself.
        notes: Told of what is left out.
        bad: Told what is wrong with a record, which is then passed over; without it the first ends all.

    Raises:
        UserError: On a bad record, without `bad`.
    """
    if made.prepare is not None:
        records = made.prepare(records, notes)
    for where, record in records:
        try:
            found = [canonical(one, where) for one in made.read(where, record, options, notes)]
        except UserError as error:
            if bad is None:
                raise
            bad(error)
            continue
        for form, given in found:
            yield where, form, given


def _counted(records: Records, result: Conversion, tick: Callable[[int], None]) -> Records:
    for where, record in records:
        result.read += 1
        if result.read % 1000 == 0:
            tick(result.read)
        yield where, record


def _renamed(records: Iterable[tuple[str, Mapping[str, Any]]], renames: Mapping[str, str]) -> Records:
    for where, record in records:
        yield where, _rename(record, renames)


def _rename(record: Mapping[str, Any], renames: Mapping[str, str]) -> Mapping[str, Any]:
    if not renames:
        return record
    return {renames.get(str(column), str(column)): value for column, value in record.items()}
