"""Writing records to a file that appears whole or not at all.

.jsonl .ndjson (.gz)   one object a line
.json (.gz)            a list
.parquet               a table; a column missing in a record is null there
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from textrl.data.preferences.lines import sync
from textrl.errors import UserError

ENDINGS = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".json", ".json.gz", ".parquet")
_BATCH = 4096  # rows of a parquet file written at once


class Writer:
    """Takes records one by one; the file gets its name when the `with` block ends well.

    An error or an interrupt inside the block leaves what was there before. A file without a
    record is not made.

    Attributes:
        written: Records so far.
    """

    def __init__(self, path: str | Path) -> None:
        """Prepare to write.

        Raises:
            UserError: When the name has none of the endings, or there is no such folder.
        """
        self.path = Path(path).expanduser()
        name = self.path.name.lower()
        if not name.endswith(ENDINGS):
            raise UserError(
                f"{path}: the format is not known by its name; let it end in {', '.join(ENDINGS[:-1])} or "
                f"{ENDINGS[-1]}."
            )
        if not self.path.parent.is_dir():
            raise UserError(f"{path}: there is no folder {self.path.parent}; make it first.")
        if self.path.is_dir():
            raise UserError(f"{path} is a folder; name a file.")
        self.written = 0
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        self._listed = name.endswith((".json", ".json.gz"))
        self._packed = name.endswith(".gz")
        self._table = name.endswith(".parquet")
        self._rows: list[Mapping[str, Any]] = []
        self._file: Any = None

    def __enter__(self) -> Writer:
        try:
            if not self._table:
                base = self._temporary.open("wb", buffering=1 << 20)
                # No time stamp inside, so that equal records make equal files.
                self._file = gzip.GzipFile("", "wb", 6, base, mtime=0) if self._packed else base
                self._base = base
        except OSError as error:
            raise UserError(
                f"{self.path}: the file cannot be written ({error.strerror or error})."
            ) from error
        return self

    def add(self, record: Mapping[str, Any]) -> None:
        """Write one record.

        Raises:
            UserError: When the disk is full, or a value fits no table or no JSON.
        """
        if self._table:
            self._rows.append(record)
            self.written += 1
            return
        try:
            line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode()
            before = (b",\n" if self.written else b"[\n") if self._listed else b""
            self._file.write(before + line + (b"" if self._listed else b"\n"))
        except (TypeError, ValueError) as error:
            raise UserError(f"{self.path}: record {self.written + 1} cannot be JSON ({error}).") from error
        except OSError as error:
            raise UserError(
                f"{self.path}: the file cannot be written ({error.strerror or error})."
            ) from error
        self.written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            keep = kind is None and self.written > 0
            if self._table:
                if keep:
                    self._write_table()
            else:
                if self._listed and keep:
                    self._file.write(b"\n]\n")
                if self._packed:
                    self._file.close()
                self._base.close()
            if keep:
                sync(self._temporary)
                self._temporary.replace(self.path)
                sync(self.path.parent)
        except OSError as failure:
            raise UserError(
                f"{self.path}: the file cannot be written ({failure.strerror or failure})."
            ) from failure
        finally:
            self._temporary.unlink(missing_ok=True)

    def _write_table(self) -> None:
        """Write all rows: only now are all columns and their types known."""
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise UserError(
                f"{self.path}: writing parquet needs pyarrow; run pip install 'textrl-mdp[datasets]' or "
                "write .jsonl."
            ) from None
        columns = list(dict.fromkeys(column for row in self._rows for column in row))
        try:
            table = pyarrow.Table.from_pylist([{c: row.get(c) for c in columns} for row in self._rows])
            pyarrow.parquet.write_table(table, self._temporary, row_group_size=_BATCH)
        except (pyarrow.ArrowException, OverflowError, UnicodeEncodeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{self.path}: the records are no table, a column has values of several types "
                f"({reason:.200}); write .jsonl."
            ) from error
