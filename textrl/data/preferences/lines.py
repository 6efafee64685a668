"""A file of records that can be read twice: once as records, once to copy chosen ones unchanged.

`textrl.data.records` gives records and no bytes; to split or to deduplicate a file its lines must come out
as they went in. A record is named by its row: records counted from 0, blank lines not counted. Nothing of
the file stays in memory.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from textrl.data.records import is_file_name, read_records
from textrl.errors import UserError

#: Called with how many bytes of the file have been read.
Tick = Callable[[int], None]

_TICK_EVERY = 4096
_BATCH = 4096
#: A megabyte at a time: the default of 8 kB costs a third more on long lines.
_BUFFER = 1 << 20


class RecordFile:
    """A ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` file.

    Attributes:
        path: Where it is.
        suffix: What the files made from it end in: the source's own ending.
        table: Whether it is parquet.
        size: Bytes, for a progress bar.
    """

    def __init__(self, path: str | Path) -> None:
        """Look at the file without reading it.

        Raises:
            UserError: When there is none, or its name has none of the endings.
        """
        self.path = Path(path).expanduser()
        if not self.path.is_file():
            if self.path.is_dir() or not is_file_name(self.path):
                raise UserError(f"{path}: this needs a .jsonl, .jsonl.gz or .parquet file, and that is none.")
            next(iter(read_records(self.path)))  # it says which name is near
        name = self.path.name.lower()
        endings = [
            end for end in (".jsonl.gz", ".ndjson.gz", ".jsonl", ".ndjson", ".parquet") if name.endswith(end)
        ]
        if not endings:
            raise UserError(
                f"{path}: the format is not known by its name; give a .jsonl, .jsonl.gz or .parquet file."
            )
        self.suffix = endings[0]
        self.table = self.suffix == ".parquet"
        status = self.path.stat()
        self.size = status.st_size
        self._written_ns = status.st_mtime_ns

    def place(self, row: int) -> str:
        """Name a record the way `textrl.data.records` does; counts lines again to find its own."""
        if self.table:
            return f"{self.path}, row {row + 1}"
        for found, (number, _) in enumerate(self._numbered(None)):
            if found == row:
                return f"{self.path}, line {number}"
        return f"{self.path}, record {row + 1}"

    def records(
        self, tick: Tick | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the records in order.

        Args:
            tick: Told every few thousand records how far the reading is.
            columns: A table reads only these, where it has them; JSONL gives whole records.

        Raises:
            UserError: On a line that is no record, an empty or a damaged file; names the line.
        """
        if self.table:
            for batch in self._batches(tick, columns):
                yield from batch.to_pylist()
            return
        loads, empty = json.loads, True
        try:
            for _, raw in self._numbered(tick):
                record = loads(raw.decode("utf-8"))
                if type(record) is not dict:
                    raise ValueError
                empty = False
                yield record
        except (ValueError, RecursionError, OSError, EOFError, zlib.error):
            self._blame()
        if empty:
            self._blame()

    def raw(self, tick: Tick | None = None) -> Iterator[bytes]:
        """Yield the lines of a JSONL file that hold a record, each with its line end."""
        for _, line in self._numbered(tick):
            yield line if line.endswith(b"\n") else line + b"\n"

    def copy(self, part: Sequence[int], outputs: Sequence[Path], tick: Tick | None = None) -> None:
        """Write each record, unchanged, to the output its row is assigned to.

        Args:
            part: For each row an index into `outputs`, or -1 to leave the record out.
            outputs: Files to write; each ends in `suffix`.
            tick: As in `records`.

        Raises:
            UserError: When the file has changed since it was looked at.
        """
        status = self.path.stat()
        if (status.st_size, status.st_mtime_ns) != (self.size, self._written_ns):
            raise UserError(f"{self.path}: the file changed while it was read; start again.")
        if self.table:
            self._copy_table(part, outputs, tick)
            return
        with Outputs(outputs) as files:
            writes = [file.write for file in files]
            for index, line in zip(part, self.raw(tick), strict=True):
                if index >= 0:
                    writes[index](line)

    def digest(self) -> str:
        """Return the SHA-256 of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _numbered(self, tick: Tick | None) -> Iterator[tuple[int, bytes]]:
        """Yield (line number from 1, line) of the lines that are not blank."""
        with self.path.open("rb", buffering=_BUFFER) as base:
            file: Any = gzip.GzipFile(fileobj=base) if self.suffix.endswith(".gz") else base
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                if tick is not None and number % _TICK_EVERY == 0:
                    tick(base.tell())
                if not line.isspace() and line:
                    yield number, line

    def _blame(self) -> None:
        """Read once more, carefully: that raises the sentence with the line and what is wrong with it."""
        for _ in read_records(self.path):
            pass
        raise UserError(f"{self.path}: the file cannot be read; write it again.")

    def _batches(self, tick: Tick | None, columns: Sequence[str] | None) -> Iterator[Any]:
        parquet, broken = _pyarrow(self.path)
        done = 0
        try:
            with parquet.ParquetFile(self.path) as file:
                known = file.schema_arrow.names
                wanted = None if columns is None else [name for name in columns if name in known]
                total = file.metadata.num_rows
                if total == 0:
                    raise UserError(f"{self.path}: the file has no rows; give at least one.")
                for batch in file.iter_batches(batch_size=_BATCH, columns=wanted):
                    done += batch.num_rows
                    if tick is not None:
                        tick(self.size * done // total)
                    yield batch
        except broken as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{self.path}: the parquet file cannot be read after row {done} ({reason:.200}); "
                "write it again."
            ) from error

    def _copy_table(self, part: Sequence[int], outputs: Sequence[Path], tick: Tick | None) -> None:
        import numpy as np

        parquet, _ = _pyarrow(self.path)
        schema = parquet.read_schema(self.path)
        chosen = np.asarray(part)
        writers = [parquet.ParquetWriter(path, schema) for path in outputs]
        try:
            start = 0
            for batch in self._batches(tick, None):
                here = chosen[start : start + batch.num_rows]
                start += batch.num_rows
                for index, writer in enumerate(writers):
                    rows = np.flatnonzero(here == index)
                    if len(rows):
                        writer.write_batch(batch.take(rows))
        finally:
            for writer in writers:
                writer.close()
        for path in outputs:
            sync(path)


class Outputs:
    """Binary files to write, gzip where the name says so; a context manager that flushes them to the disk."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._files: list[Any] = []

    def __enter__(self) -> list[IO[bytes]]:
        for path in self._paths:
            base = path.open("wb", buffering=_BUFFER)
            # No time stamp and no name inside, so that equal records make equal files.
            packed = path.name.endswith(".gz")
            self._files.append((gzip.GzipFile("", "wb", 6, base, mtime=0) if packed else base, base))
        return [file for file, _ in self._files]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file, base in self._files:
            if file is not base:
                file.close()
            base.flush()
            os.fsync(base.fileno())
            base.close()


def sync(path: Path) -> None:
    """Flush a file or a folder's list of names to the disk."""
    # Not textrl.files.sync: that module imports torch, which nothing here needs.
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _pyarrow(path: Path) -> tuple[Any, tuple[type[Exception], ...]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            f"{path}: reading parquet needs pyarrow; run pip install 'textrl-mdp[datasets]' "
            "or convert it to JSONL."
        ) from None
    return pyarrow.parquet, (pyarrow.ArrowException, OSError, UnicodeDecodeError)
