"""Records of a JSONL or parquet file or of a dataset, one by one, each with the place it stands.

Files are read as bytes and decoded line by line, so that an error names its line and a file of any
size takes little memory.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from textrl.errors import UserError, did_you_mean

#: ``"prompts.jsonl, line 3"``: where a record stands.
Place = str
Records = Iterator[tuple[Place, Mapping[str, Any]]]
#: Told of a line that is no record, where reading goes on behind it.
Bad = Callable[[UserError], None]

_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_TABLES = (".parquet",)
#: What the hub admits as an id: anything else is a file that is not there, and need not be asked for.
_HUB_ID = re.compile(r"[\w]([\w.-]*[\w])?(/[\w]([\w.-]*[\w])?)?", re.ASCII)
_OTHER = (".json", ".json.gz", ".csv", ".tsv", ".txt", ".yaml", ".yml", ".gz", ".zip", ".arrow", ".xlsx")


def read_records(source: str | Path, *, split: str = "train", bad: Bad | None = None) -> Records:
    """Yield (place, record) from a file, a folder or a hub id.

    Args:
        source: A ``.jsonl(.gz)`` or ``.parquet`` file, or what `datasets` loads.
        split: Which part of a dataset.
        bad: Called with what is wrong with a line, which is then passed over; without it the first such
            line ends the reading.

    Raises:
        UserError: On anything that cannot be read; names the file and the line.
    """
    path = Path(source).expanduser()
    if "\x00" in str(source) or not str(source).strip():
        raise UserError(f"{str(source)!r} is not the name of a file or dataset.")
    if path.is_dir():
        return _dataset(str(path), split)
    if not is_file_name(path) and not path.exists():
        return _dataset(str(source), split)
    if not path.exists():
        raise UserError(f"{source}: there is no such file.{_nearby(path)}")
    if path.name.lower().endswith(_LINES):
        return _json_lines(path, bad)
    if path.name.lower().endswith(_TABLES):
        return _parquet(path)
    raise UserError(
        f"{source}: the format is not known by its name; give a .jsonl, .jsonl.gz or .parquet file."
    )


def is_file_name(path: Path) -> bool:
    """Tell a file's name from a dataset's id (``owner/name``)."""
    if path.is_absolute() or path.name.lower().endswith((*_LINES, *_TABLES, *_OTHER)):
        return True
    return _HUB_ID.fullmatch(path.as_posix()) is None


def _nearby(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f" Nor can the folder {path.parent} be read."
    hint = did_you_mean(path.name, names)
    return hint if "mean" in hint else ""


def _json_lines(path: Path, bad: Bad | None) -> Records:
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    empty = True
    try:
        with opened(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                content = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                if content.strip():
                    empty = False
                    place = f"{path}, line {number}"
                    try:
                        record = _json_object(place, content)
                    except UserError as error:
                        if bad is None:
                            raise
                        bad(error)
                        continue
                    yield place, record
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path}: the file is damaged or not gzip ({error}); write it again.") from error
    except OSError as error:
        raise UserError(f"{path}: the file cannot be read ({error.strerror or error}).") from error
    if empty:
        raise UserError(
            f'{path}: the file is empty; write one JSON object a line, such as {{"prompt": "Hello"}}.'
        )


def _json_object(place: Place, line: bytes) -> Mapping[str, Any]:
    if b"\x00" in line:
        raise UserError(
            f"{place}: byte {line.index(0) + 1} is NUL; "
            "the file is binary, damaged or UTF-16: save it as UTF-8."
        )
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{place}: byte {error.start + 1} (0x{line[error.start]:02x}) is not valid UTF-8; "
            "save the file as UTF-8."
        ) from None
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{place}: the line is not JSON ({error.msg} at column {error.colno}); "
            "write one JSON object a line."
        ) from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a nesting of 10,000 levels
        raise UserError(f"{place}: the line is JSON that cannot be read ({error}).") from None
    if not isinstance(record, dict):
        raise UserError(f'{place}: the line is not a JSON object; write {{"prompt": "..."}}.')
    return record


def _parquet(path: Path) -> Records:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            f"{path}: reading parquet needs pyarrow; run pip install 'textrl-mdp[datasets]' "
            "or convert it to JSONL."
        ) from None
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for part in file.iter_batches(batch_size=1024):
                for record in part.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", record
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: the parquet file cannot be read after row {number} ({reason:.200}); write it again."
        ) from error
    if number == 0:
        raise UserError(f"{path}: the file has no rows; give at least one.")


def _dataset(name: str, split: str) -> Records:
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"{name}: loading a dataset needs the package datasets; run pip install 'textrl-mdp[datasets]' "
            "or give a .jsonl file."
        ) from None
    try:
        loaded = _load_dataset(datasets, name, split)
    except UserError:
        raise
    except Exception as error:  # datasets raises its own, the hub's, pyarrow's and plain ones
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{name}: there is no such file, and no such dataset can be loaded ({reason:.200}); "
            "check the name, the split and the network."
        ) from error
    for number, record in enumerate(loaded, start=1):
        yield f"{name}, split {split}, row {number}", dict(record)


def _load_dataset(datasets: Any, name: str, split: str) -> Any:
    """Load one split from a folder that `save_to_disk` wrote, a folder of data files, or the hub."""
    folder = Path(name)
    saved = [entry for entry in ("dataset_dict.json", "state.json") if (folder / entry).is_file()]
    if not saved:
        return datasets.load_dataset(name, split=split)
    loaded = datasets.load_from_disk(name)
    if not hasattr(loaded, "keys"):
        return loaded
    if split not in loaded:
        raise UserError(f"{name}: the dataset has no split '{split}'.{did_you_mean(split, loaded)}")
    return loaded[split]
