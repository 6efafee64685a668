"""`textrl data screen`: personal data in the texts of a file, reported, masked or dropped with its record.

InstructGPT filtered personally identifiable information out of its training split. Every string in a text
column is looked at, messages and lists included; other columns are not (a ``user_id`` that is an address
should be hashed before it gets here).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from textrl.data.preferences.lines import Outputs, RecordFile
from textrl.data.preferences.pii_patterns import NAMES, find
from textrl.data.preferences.results import bar, new_file
from textrl.data.preferences.texts import replace_strings, strings_of
from textrl.errors import UserError, did_you_mean

ACTIONS = ("report", "mask", "drop")
#: Places named for each kind.
PLACES = 5


@dataclass(frozen=True)
class ScreenReport:
    """What was found.

    Attributes:
        records: In the file.
        affected: Records with a finding.
        findings: Kind -> how many.
        columns: Column -> how many.
        places: Kind -> the first records, from 1, with the column and the finding half hidden.
        action: What was done.
        written: Records in the new file; None where none was asked for.
    """

    records: int
    affected: int
    findings: dict[str, int]
    columns: dict[str, int]
    places: dict[str, list[dict[str, Any]]]
    action: str
    written: int | None

    def plain(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return asdict(self)


def screen_file(
    source: str | Path, action: str = "report", out: Path | None = None, kinds: Sequence[str] = ()
) -> ScreenReport:
    """Look through a file, and write it without what was found.

    Args:
        source: A ``.jsonl(.gz)`` or ``.parquet`` file; a parquet file is not masked.
        action: ``report``, ``mask`` (``[EMAIL]`` in its place) or ``drop`` (the whole record).
        out: The file to write; ends as the source does. Records without a finding are copied as they are.
        kinds: Only these; all where empty.

    Raises:
        UserError: On a file that cannot be read or written, or options that do not go together.
    """
    chosen = _checked(action, out, kinds)
    file = RecordFile(source)
    if out is not None and not out.name.lower().endswith(file.suffix):
        raise UserError(f"--out {out}: the name must end in {file.suffix}, as the source's does.")
    if action == "mask" and file.table:
        raise UserError(
            f"{source}: only JSONL is masked; convert it with 'textrl data convert', or use drop."
        )
    counts: Counter[str] = Counter()
    columns: Counter[str] = Counter()
    places: dict[str, list[dict[str, Any]]] = {}
    flags = bytearray()
    with bar(f"Screening {file.path.name}", file.size) as tick:
        for row, record in enumerate(file.records(tick)):
            before = counts.total()
            for column, kind, text in findings(record, chosen):
                counts[kind] += 1
                columns[column] += 1
                shown = places.setdefault(kind, [])
                if len(shown) < PLACES:
                    shown.append({"row": row + 1, "column": column, "text": half_hidden(text)})
            flags.append(counts.total() > before)
    affected = sum(flags)
    written = None
    if out is not None:
        written = len(flags) - (affected if action == "drop" else 0)
        if written == 0:
            raise UserError(
                f"{source}: every record has a finding, so nothing would be left; use --action mask."
            )
        with new_file(out) as temporary, bar(f"Writing {out.name}", file.size) as tick:
            if action == "drop":
                file.copy([-int(flag) for flag in flags], [temporary], tick)
            else:
                _write_masked(file, flags, temporary, chosen)
    return ScreenReport(len(flags), affected, dict(counts), dict(columns), places, action, written)


def findings(record: Mapping[str, Any], kinds: tuple[str, ...] = NAMES) -> Iterator[tuple[str, str, str]]:
    """Yield (column, kind, text) of everything found in a record."""
    for column, text in strings_of(record):
        for item in find(text, kinds):
            yield column, item.kind, text[item.start : item.end]


def mask(text: str, kinds: tuple[str, ...] = NAMES) -> str:
    """Return the text with ``[KIND]`` in place of every finding."""
    parts, end = [], 0
    for item in find(text, kinds):
        parts += [text[end : item.start], f"[{item.kind.upper()}]"]
        end = item.end
    return "".join([*parts, text[end:]])


def half_hidden(text: str) -> str:
    """Return enough of a finding to judge it by, and no more: a report is passed around."""
    shown = max(1, min(3, len(text) // 4))
    return text[:shown] + "*" * (len(text) - 2 * shown) + text[-shown:]


def _write_masked(file: RecordFile, flags: Sequence[int], path: Path, kinds: tuple[str, ...]) -> None:
    with Outputs([path]) as (output,):
        for flag, line in zip(flags, file.raw(), strict=True):
            if flag:
                record = replace_strings(json.loads(line), lambda text: mask(text, kinds))
                line = _line(record)
            output.write(line)


def _line(record: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(record, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can write
        return json.dumps(record).encode() + b"\n"


def _checked(action: str, out: Path | None, kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds to look for."""
    if action not in ACTIONS:
        raise UserError(f"--action {action}: there is no such action.{did_you_mean(action, ACTIONS)}")
    if action == "report" and out is not None:
        raise UserError("--out needs something to write: add --action mask or --action drop.")
    if action != "report" and out is None:
        raise UserError(f"--action {action} writes a new file: name it with --out FILE.")
    for kind in kinds:
        if kind not in NAMES:
            raise UserError(f"--kinds {kind}: there is no such kind.{did_you_mean(kind, NAMES)}")
    return tuple(kinds) or NAMES
