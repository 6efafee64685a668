"""What an installed plugin looks like on disk."""

from __future__ import annotations

from pathlib import Path

HEADER = """
from textrl.hookspecs import hookimpl
from textrl.specs import *
"""


def write_distribution(
    folder: Path, name: str, code: str, *, version: str = "1.0", entry: str | None = None
) -> None:
    """Write what pip leaves behind for a package of one module with one entry point."""
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(HEADER + code, encoding="utf-8")
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[textrl]\n{entry or module} = {module}\n")
