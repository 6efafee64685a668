"""Checkpoints: folders of YAML, safetensors and JSON that are whole or absent.

A folder is written under a temporary name, each file is flushed to the disk, the manifest with sizes and
SHA-256 comes last, and a rename makes it visible. A reader therefore never sees half a checkpoint, and
a bit that flipped later is found before anything is used. Nothing is ever unpickled.

    <name>/config.yaml           the resolved settings
           <group>.safetensors   named tensors: weights, optimizer moments, random generators
           state.json            counters and everything else that is not a tensor
           manifest.json         format, serial number, size and SHA-256 of each file above
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from torch import Tensor

from textrl.errors import UserError
from textrl.files import read_tensors, sync, write_tensors
from textrl.training_state import JSON
from textrl.training_state import capture_rng as capture_rng
from textrl.training_state import pack_optimizer as pack_optimizer
from textrl.training_state import restore_rng as restore_rng
from textrl.training_state import unpack_optimizer as unpack_optimizer

FORMAT = 1
_MANIFEST = "manifest.json"
_PARTIAL, _OLD, _TRASH = ".partial-", ".old-", ".trash-"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """What `load` gives back: the arguments of `save`.

    Attributes:
        path: The folder.
        config: The resolved settings.
        tensors: Group name -> tensor name -> CPU tensor.
        state: Everything that is not a tensor.
    """

    path: Path
    config: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(
    path: str | Path,
    *,
    config: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
) -> Path:
    """Write the checkpoint folder `path`, replacing one of that name.

    Args:
        path: The folder to make; its parent is made too.
        config: Plain settings, for people and for rebuilding.
        tensors: Group name -> tensor name -> tensor. Tensors that are one (tied weights) stay one.
        state: JSON data with string keys.

    Raises:
        UserError: When the disk is full or not writable; earlier checkpoints are untouched.
        TypeError: When `state` is not JSON data.
    """
    path = Path(path)
    temporary = _hidden(_PARTIAL, path)
    texts = {
        "config.yaml": yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True),
        "state.json": _to_json(dict(state)),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path.parent)
        temporary.mkdir()
        try:
            for name, text in texts.items():
                (temporary / name).write_text(text, encoding="utf-8")
            for group, named in tensors.items():
                write_tensors(temporary / f"{group}.safetensors", named)
            files = {file.name: _fingerprint(file) for file in sorted(temporary.iterdir())}
            manifest = {"format": FORMAT, "serial": _next_serial(path.parent), "files": files}
            manifest["sha256"] = _manifest_sha256(manifest)
            (temporary / _MANIFEST).write_text(_to_json(manifest), encoding="utf-8")
            _publish(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"The checkpoint {path} could not be written ({_reason(error)}); earlier ones are intact: "
            "make room or fix the folder, then continue with --resume."
        ) from error
    return path


def load(
    path: str | Path,
    *,
    what: str = "checkpoint",
    mend: str = "delete it and resume from an earlier one",
) -> Checkpoint:
    """Verify and read a checkpoint, or anything else that `save` wrote.

    Args:
        path: The folder.
        what: What it is, for errors.
        mend: What to do where it is damaged, for errors.

    Raises:
        UserError: When the folder is missing, incomplete or damaged; names the file at fault.
    """
    path = Path(path)
    _recover(path.parent)
    if not path.is_dir():
        raise UserError(f"There is no {what} in '{path}'; give the folder of one.")
    fault = find_fault(path)
    if fault is not None:
        raise UserError(f"The {what} {path} is damaged: {fault}; {mend}.")
    return Checkpoint(
        path,
        config=yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8")),
        tensors={file.stem: read_tensors(file) for file in sorted(path.glob("*.safetensors"))},
        state=json.loads((path / "state.json").read_text(encoding="utf-8")),
    )


def latest(folder: str | Path) -> Path | None:
    """Return the checkpoint in `folder` that was saved last and verifies, or None.

    Damaged ones that are newer are skipped and named in the log.
    """
    for path in _newest_first(Path(folder)):
        fault = find_fault(path)
        if fault is None:
            return path
        _log.warning("The checkpoint %s is damaged (%s); an earlier one is used.", path, fault)
    return None


def prune(folder: str | Path, keep: int) -> None:
    """Delete all checkpoints in `folder` but the `keep` newest complete ones.

    Raises:
        ValueError: When `keep` is less than 1.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}; at least one checkpoint stays")
    kept = 0
    for path in _newest_first(Path(folder)):
        if kept < keep and find_fault(path, contents=False) is None:
            kept += 1
            continue
        # The rename comes first so that a kill in between leaves no half-deleted checkpoint.
        trash = _hidden(_TRASH, path)
        path.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def find_fault(path: Path, *, contents: bool = True) -> str | None:
    """Return what is wrong with a checkpoint folder, or None.

    Args:
        path: The folder.
        contents: Also compare the SHA-256 of every file; without it only names and sizes.
    """
    try:
        manifest = _manifest(path)
        for name, expected in manifest["files"].items():
            file = path / name
            size = file.stat().st_size
            if size != expected["size"]:
                return f"{name} has {size} bytes instead of {expected['size']}"
            if contents and _sha256(file) != expected["sha256"]:
                return f"the contents of {name} do not match its SHA-256"
        unlisted = {f.name for f in path.glob("*.safetensors")} - set(manifest["files"])
        if unlisted or not {"config.yaml", "state.json"} <= set(manifest["files"]):
            return f"{_MANIFEST} does not list all files"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return _reason(error)
    return None


def _publish(temporary: Path, path: Path) -> None:
    for file in temporary.iterdir():
        sync(file)
    sync(temporary)
    old = _hidden(_OLD, path)
    if path.exists():
        path.rename(old)  # a folder cannot be replaced in one step; `_recover` undoes this after a crash
    temporary.rename(path)
    sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _hidden(prefix: str, path: Path) -> Path:
    return path.parent / f"{prefix}{os.getpid()}-{path.name}"


def _orphans(folder: Path, prefix: str) -> Iterator[tuple[Path, Path]]:
    """Yield what a process that is gone left under a hidden name, with the name it was meant for."""
    for left in folder.glob(f"{prefix}*"):
        owner, _, name = left.name.removeprefix(prefix).partition("-")
        if name and owner.isdigit() and (int(owner) == os.getpid() or not _is_running(int(owner))):
            yield left, folder / name


def _recover(folder: Path) -> None:
    """Put back a checkpoint whose replacement was cut short between two renames."""
    for old, path in _orphans(folder, _OLD):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # a folder that can only be read
                old.rename(path)


def _sweep(folder: Path) -> None:
    """Remove what killed processes left behind."""
    _recover(folder)
    for prefix in (_PARTIAL, _TRASH):
        for left, _ in _orphans(folder, prefix):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _newest_first(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        return
    _recover(folder)
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    yield from sorted(found, key=lambda path: (_serial(path), path.name), reverse=True)


def _next_serial(folder: Path) -> int:
    # Counted rather than timed: a clock may run backwards.
    return 1 + max((_serial(path) for path in _newest_first(folder)), default=0)


def _serial(path: Path) -> int:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return int(_manifest(path)["serial"])
    return -1


def _manifest(path: Path) -> dict[str, Any]:
    file = path / _MANIFEST
    if not file.is_file():
        raise ValueError(f"{_MANIFEST} is missing")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{_MANIFEST} is not JSON") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{_MANIFEST} is not of format {FORMAT}")
    if manifest.pop("sha256", None) != _manifest_sha256(manifest):
        raise ValueError(f"the contents of {_MANIFEST} do not match its SHA-256")
    if any(Path(name).name != name for name in manifest["files"]):
        raise ValueError(f"{_MANIFEST} names a file outside the folder")
    return manifest


def _manifest_sha256(manifest: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _fingerprint(file: Path) -> dict[str, Any]:
    return {"size": file.stat().st_size, "sha256": _sha256(file)}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _to_json(value: JSON) -> str:
    if not _is_json(value):
        raise TypeError("the state of a checkpoint must be JSON data: no tuples, and string keys only")
    return json.dumps(value, indent=1)


def _is_json(value: JSON) -> bool:
    """Whether `value` reads back as it was; json would turn tuples into lists and keys into strings."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(_is_json, value))
    return value is None or isinstance(value, str | int | float)


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename)).name} is missing"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    text = str(error)
    return "no space left on device" if "os error 28" in text else text or type(error).__name__
