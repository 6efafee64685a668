"""Results that appear whole or not at all, and a bar while a file is read."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from textrl.data.preferences.lines import Tick, sync
from textrl.errors import UserError


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write into that takes its name when the block ends well, and vanishes when not.

    Args:
        folder: Must not exist, or be empty.

    Raises:
        UserError: When it exists with something in it, or cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--out {folder}: it exists already and is not empty; name another folder.")
    made: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        made.chmod(0o777 & ~_umask())  # mkdtemp's 0700 would hide the result from a team
        yield made
        os.replace(made, folder)
        made = None
        sync(folder.parent)
    except OSError as error:
        raise UserError(f"--out {folder}: it cannot be written ({error.strerror or error}).") from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a file name to write to that becomes `path` when the block ends well, and vanishes when not.

    Args:
        path: Must not exist: what people judged is not written over.

    Raises:
        UserError: When it exists or cannot be written.
    """
    if path.exists():
        raise UserError(f"--out {path}: it exists already; name another file or remove it.")
    # The name ends as the result does, since the ending decides how it is written.
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        raise UserError(f"--out {path}: it cannot be written ({error.strerror or error}).") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def bar(title: str, total: int) -> Iterator[Tick]:
    """Show how much of a file is read, with the time left, on a terminal's stderr.

    Args:
        title: What is done.
        total: Bytes, or whatever the ticks count.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
