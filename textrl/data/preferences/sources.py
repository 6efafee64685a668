"""Where records are read from: everything `textrl.data.records` reads, JSON lists, and session stores.

    .jsonl .ndjson (.gz), .parquet, what `datasets` loads    by `textrl.data.records`
    .json (.gz)                                              a list of objects, or objects one after the other
    .sqlite .sqlite3 .db                                     the events of a feedback session

All of them are read as a stream: a JSON list of any length needs the memory of its largest item.
"""

from __future__ import annotations

import gzip
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from textrl.data.records import Bad, Records, is_file_name, read_records
from textrl.errors import UserError

_JSON = (".json", ".json.gz")
_SQLITE = (".sqlite", ".sqlite3", ".db")
_CHUNK = 1 << 20  # characters
_SPACE = " \t\r\n"
#: The table of a session's events; columns that stand in none of the events' meaning are not read.
_EVENTS = "events"
_EVENT_COLUMNS = ("seq", "uuid", "session", "annotator", "kind", "payload")


def open_source(source: str | Path, *, split: str = "train", bad: Bad | None = None) -> Records:
    """Yield (place, record) of a file or a dataset.

    Args:
        source: See the module's text.
        split: Which part of a dataset.
        bad: Told of single lines that are no records; see `read_records`.

    Raises:
        UserError: When there is no such file or it cannot be read further; names the place.
    """
    path = Path(source).expanduser()
    name = path.name.lower()
    if path.is_file() and name.endswith(_JSON):
        return _json_values(path, bad)
    if path.is_file() and (name.endswith(_SQLITE) or _is_sqlite(path)):
        return _events(path)
    return read_records(source, split=split, bad=bad)


def records_expected(source: str | Path) -> int | None:
    """Estimate how many records a file has, for a progress bar; None where that is not cheap to tell."""
    path = Path(source).expanduser()
    name = path.name.lower()
    if not is_file_name(path) or not path.is_file():
        return None
    if name.endswith(".parquet"):
        try:
            import pyarrow.parquet

            return int(pyarrow.parquet.read_metadata(path).num_rows)
        except Exception:  # whatever is wrong with the file, the reader says it in a sentence
            return None
    if name.endswith((".jsonl", ".ndjson")):
        with path.open("rb") as file:
            head = file.read(_CHUNK)
        return max(1, round(path.stat().st_size / max(len(head), 1) * max(head.count(b"\n"), 1)))
    return None


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


def _json_values(path: Path, bad: Bad | None) -> Records:
    """Yield the objects of a JSON list, or of objects that follow each other."""
    try:
        with (gzip.open if path.suffix.lower() == ".gz" else open)(path, "rt", encoding="utf-8-sig") as file:
            number = 0
            for number, value in enumerate(_decode(path, file), start=1):
                place = f"{path}, item {number}"
                if isinstance(value, Mapping):
                    yield place, value
                    continue
                error = UserError(f"{place} is a {type(value).__name__} and no JSON object; give objects.")
                if bad is None:
                    raise error
                bad(error)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the file is not valid UTF-8 ({error.reason}); save it as UTF-8.") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: the file is damaged or not gzip ({error}); write it again.") from error
    except OSError as error:
        raise UserError(f"{path}: the file cannot be read ({error.strerror or error}).") from error
    if number == 0:
        raise UserError(f"{path}: the file holds no objects; give a JSON list of them.")


def _decode(path: Path, file: IO[Any]) -> Iterator[Any]:
    """Decode one value after the other, reading on where one is not complete yet."""
    decoder = json.JSONDecoder()
    buffer = file.read(_CHUNK)
    start = _skip(buffer, 0, _SPACE)
    listed = buffer[start : start + 1] == "["
    start += listed
    number, ended, step = 0, False, _CHUNK
    while True:
        start = _skip(buffer, start, _SPACE + "," if listed else _SPACE)
        if start == len(buffer) or (listed and buffer[start] == "]"):
            more = file.read(_CHUNK) if start == len(buffer) else ""
            if not more:
                if listed and start == len(buffer):
                    raise UserError(f"{path}: the list is not closed after item {number}; write it again.")
                return
            buffer, start, step = more, 0, _CHUNK
            continue
        try:
            value, end = decoder.raw_decode(buffer, start)
        except (ValueError, RecursionError) as error:
            # Doubling what is read keeps the repeated attempts at one large item linear.
            more = "" if ended else file.read(step)
            if not more:
                reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
                raise UserError(
                    f"{path}, item {number + 1}: the text is not JSON ({reason}); give a list of objects."
                ) from None
            buffer, start, step = buffer[start:] + more, 0, 2 * step
            continue
        number, start, step = number + 1, end, _CHUNK
        yield value


def _skip(text: str, start: int, what: str) -> int:
    while start < len(text) and text[start] in what:
        start += 1
    return start


def _events(path: Path) -> Records:
    """Yield a session store's events in the order they were written."""
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)
    except sqlite3.Error as error:
        raise UserError(f"{path}: the session store cannot be opened ({error}).") from error
    try:
        have = {row[1] for row in connection.execute(f"PRAGMA table_info({_EVENTS})")}
        if not {"seq", "kind", "payload"} <= have:
            raise UserError(
                f"{path}: this is SQLite but no session store, which has a table '{_EVENTS}' with seq, kind "
                "and payload."
            )
        columns = [column for column in _EVENT_COLUMNS if column in have]
        number = 0
        for row in connection.execute(f"SELECT {', '.join(columns)} FROM {_EVENTS} ORDER BY seq"):
            number += 1
            event = dict(zip(columns, row, strict=True))
            place = f"{path}, event {event['seq']}"
            try:
                event["payload"] = json.loads(event["payload"])
            except (TypeError, ValueError) as error:
                raise UserError(f"{place}: the payload is not JSON ({error}).") from None
            yield place, event
    except sqlite3.Error as error:
        raise UserError(f"{path}: the session store cannot be read ({error}).") from error
    finally:
        connection.close()
    if number == 0:
        raise UserError(f"{path}: the session store has no events yet.")
