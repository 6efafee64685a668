"""Writing files so that a crash leaves the old ones or the new ones, and tensors without pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


def sync(path: Path) -> None:
    """Flush a file or a folder's list of names to the disk.

    Raises:
        OSError: When the disk reports an error.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace_file(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, meets the old text or the new one.

    Raises:
        OSError: When the disk is full or the folder is not writable; the old text stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_tensors(file: Path, named: Mapping[str, Tensor]) -> None:
    """Write a safetensors file; names that share one tensor are stored once and listed as aliases.

    Raises:
        OSError, SafetensorError: When the disk is full or the folder is not writable.
    """
    first: dict[tuple[Any, ...], str] = {}
    aliases: dict[str, str] = {}
    storages: set[int] = set()
    kept: dict[str, Tensor] = {}
    for name, value in named.items():
        tensor = value.detach()
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and key in first:
            aliases[name] = first[key]
            continue
        first[key] = name
        tensor = tensor.cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        kept[name] = (
            tensor.clone() if storage in storages else tensor
        )  # safetensors refuses views of one storage
        storages.add(storage)
    save_file(kept, file, metadata={"aliases": json.dumps(aliases)})


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read what `write_tensors` wrote, to the CPU."""
    with safe_open(file, framework="pt") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (not a mapping)
        aliases = json.loads((stream.metadata() or {}).get("aliases", "{}"))
    return tensors | {name: tensors[first] for name, first in aliases.items()}
