"""Where downloads and conversions are kept, and how a folder appears there all at once."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from textrl.errors import UserError


def cache_dir() -> Path:
    """Return the cache folder, created if missing.

    It is ``$TEXTRL_CACHE``, else ``$XDG_CACHE_HOME/textrl``, else ``~/.cache/textrl``.

    Raises:
        UserError: When the folder cannot be made or written to.
    """
    own, shared = os.environ.get("TEXTRL_CACHE"), os.environ.get("XDG_CACHE_HOME")
    if own:
        path = Path(own).expanduser()
    else:
        path = (Path(shared).expanduser() if shared else Path.home() / ".cache") / "textrl"
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The cache folder '{path}' cannot be made ({error.strerror}); set TEXTRL_CACHE to a folder "
            "you can write to."
        ) from error
    if not os.access(path, os.W_OK):
        raise UserError(f"The cache folder '{path}' is not writable; set TEXTRL_CACHE to one that is.")
    return path


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target` that becomes `target` if the block succeeds.

    A reader therefore sees the whole folder or none of it. Where another process was faster, its
    folder stays and ours is dropped, since both were made from the same pinned input.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield folder
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
