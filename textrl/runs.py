"""The run folder: settings, metrics, summary and stages, written so that a crash leaves them readable.

runs/<name>/config.yaml       the resolved settings
            metrics.jsonl     one row a dump: stage, step, time_s, and figures by name
            summary.json      the headline figures by name
            stages.json       what is finished, with what each stage left behind
            environment.json  versions, hardware, dates and commands
            tensorboard/<stage>/   the same metrics as TensorBoard events
            samples.jsonl  report.html  checkpoints/  models/   written by the pipelines
"""

from __future__ import annotations

import json
import math
import os
import platform
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from textrl.errors import UserError
from textrl.files import replace_file

if TYPE_CHECKING:
    from stable_baselines3.common.logger import Logger

METRICS, SUMMARY, STAGES = "metrics.jsonl", "summary.json", "stages.json"
CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
_LOCK = ".lock"
_PACKAGES = (
    "textrl-mdp", "torch", "transformers", "tokenizers", "safetensors", "accelerate", "gymnasium",
    "stable-baselines3", "sb3-contrib", "numpy", "scikit-learn",
)  # fmt: skip


class Run:
    """One run folder, written by one process.

    Attributes:
        path: The folder.
        config: The resolved settings.
        resumed: Whether the folder was there before.
    """

    def __init__(self, path: Path, config: Mapping[str, Any], *, resumed: bool) -> None:
        self.path = path
        self.config = dict(config)
        self.resumed = resumed
        _lock(path)
        self._restart_clock()

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        config: Mapping[str, Any],
        command: Sequence[str],
        resume: bool = False,
        precision: str | None = None,
    ) -> Run:
        """Start a run, or continue one where `resume` is set and the folder holds one.

        Args:
            path: The folder; made with its parents.
            config: The resolved settings, plain data.
            command: What the user typed, for the report.
            resume: Continue what is there.
            precision: The forward pass's type, ``fp32`` or ``bf16``; one process after another has the same.

        Raises:
            UserError: When the folder holds something and `resume` is not set, when it belongs to
                other settings or to a running process, or when it cannot be written.
        """
        path = Path(path)
        plain = yaml.safe_load(yaml.safe_dump(dict(config), allow_unicode=True))
        if path.exists() and not path.is_dir():
            raise UserError(f"The run folder {path} is a file; choose another --name.")
        used = path.is_dir() and any(file.name != _LOCK for file in path.iterdir())
        if used and not resume:
            raise UserError(
                f"The run folder {path} already exists; continue it with --resume or choose another --name."
            )
        if used and (path / CONFIG).is_file():
            _refuse_other_settings(path, plain)
            _refuse_other_precision(path, precision)
        try:
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path, plain, resumed=used)
            if (path / METRICS).exists():  # a kill may have torn its last row, which the next would join
                run.write_jsonl(METRICS, run.metrics())
            run._write(CONFIG, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))
            sessions = run._read(ENVIRONMENT).get("sessions", [])
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            sessions.append({"started": now, "command": list(command), "resume": resume})
            run.write_json(ENVIRONMENT, environment(precision) | {"sessions": sessions})
        except OSError as error:
            raise UserError(
                f"The run folder {path} cannot be written ({_why(error)}); free it or choose another."
            ) from error
        return run

    @property
    def time_s(self) -> float:
        """Seconds spent in this run, without the time between an interruption and its resume."""
        return self._offset_s + time.monotonic() - self._started_s

    def logger(self, stage: str) -> Logger:
        """Return an SB3 logger whose dumps become rows of ``metrics.jsonl`` and TensorBoard events."""
        from stable_baselines3.common.logger import Logger as SB3Logger

        from textrl.run_logging import JsonlRows, TensorBoardEvents

        steps = [row["step"] for row in self.metrics(stage)]
        board = TensorBoardEvents(
            self.path / "tensorboard" / stage, purge_step=max(steps) + 1 if steps else 0
        )
        return SB3Logger(str(self.path), [JsonlRows(self, stage), board])

    def metrics(self, stage: str | None = None) -> list[dict[str, Any]]:
        """Return the rows of ``metrics.jsonl``, of one stage if given; a torn last row is left out."""
        return [row for row in _rows(self.path / METRICS) if stage is None or row["stage"] == stage]

    def append_metrics(self, stage: str, step: int, figures: Mapping[str, Any]) -> None:
        """Add one row to ``metrics.jsonl``; figures that are not finite become null.

        Raises:
            UserError: When the disk is full.
        """
        row = {"stage": stage, "step": int(step), "time_s": round(self.time_s, 3)} | _plain(figures)
        try:
            with (self.path / METRICS).open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row, allow_nan=False) + "\n")
        except OSError as error:
            raise self._unwritable(METRICS, error) from error

    def rewind(self, stage: str, step: int) -> None:
        """Drop the rows of `stage` beyond `step`, which a resume from there will write again."""
        rows = self.metrics()
        kept = [row for row in rows if row["stage"] != stage or row["step"] <= step]
        if len(kept) < len(rows):
            self.write_jsonl(METRICS, kept)
            self._restart_clock()

    def summarise(self, figures: Mapping[str, Any]) -> None:
        """Merge headline figures into ``summary.json``."""
        self.write_json(SUMMARY, self._read(SUMMARY) | dict(figures))

    def done(self, stage: str) -> bool:
        """Whether `stage` is finished."""
        return stage in self._read(STAGES)

    def payload(self, stage: str) -> dict[str, Any]:
        """Return what `mark_done` was given for `stage`; empty when it is not finished."""
        found: dict[str, Any] = self._read(STAGES).get(stage, {})
        return found

    def discard(self) -> None:
        """Remove a folder that was new and in which no work stands yet: the same name is free again."""
        if not self.resumed and not any((self.path / name).exists() for name in ("checkpoints", "models")):
            shutil.rmtree(self.path, ignore_errors=True)

    def mark_done(self, stage: str, payload: Mapping[str, Any] | None = None) -> None:
        """Record that `stage` is finished, and JSON data that later stages need from it."""
        self.write_json(STAGES, self._read(STAGES) | {stage: dict(payload or {})})

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the run folder at once; figures that are not finite become null.

        Raises:
            UserError: When the disk is full.
        """
        self._write(name, json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def write_jsonl(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a file of JSON lines at once."""
        lines = (json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
        self._write(name, "".join(lines))

    def environment(self) -> dict[str, Any]:
        """Return what ``environment.json`` holds: versions, hardware, precision, sessions."""
        return self._read(ENVIRONMENT)

    def _restart_clock(self) -> None:
        self._offset_s = max((float(row.get("time_s") or 0) for row in self.metrics()), default=0.0)
        self._started_s = time.monotonic()

    def _read(self, name: str) -> dict[str, Any]:
        return _json(self.path / name)

    def _write(self, name: str, text: str) -> None:
        file = self.path / name
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            replace_file(file, text)
        except OSError as error:
            raise self._unwritable(name, error) from error

    def _unwritable(self, name: str, error: OSError) -> UserError:
        return UserError(
            f"The file {self.path / name} could not be written ({_why(error)}); "
            "make room, then continue with --resume."
        )


def environment(precision: str | None = None) -> dict[str, Any]:
    """Return versions, processor, threads, memory, GPU and date: what a figure depends on."""
    import torch

    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": versions,
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(memory, 1),
        "gpus": gpus,
        "precision": precision,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _lock(path: Path) -> None:
    """Keep a second process out of the folder; the lock falls with the process that holds it."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    # A lock of this kind belongs to the process, so it may open its own folder twice; it falls when any
    # handle on the file is closed, so this one stays open.
    file = path / _LOCK
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise UserError(
            f"The run folder {path} is in use by another process; wait for it or choose another --name."
        ) from error


def _refuse_other_settings(path: Path, config: Mapping[str, Any]) -> None:
    try:
        before = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"The file {path / CONFIG} is not YAML; start under another --name.") from error
    old, new = _flat(before), _flat(config)
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            raise UserError(
                f"The run {path} was started with {key} = {old.get(key)!r}, now it is {new.get(key)!r}; "
                "resume with the settings it was started with or choose another --name."
            )


def _refuse_other_precision(path: Path, precision: str | None) -> None:
    """``auto`` means another type on another machine, and a run would go on as none ever began."""
    before = _json(path / ENVIRONMENT).get("precision")
    if before and precision and before != precision:
        raise UserError(
            f"The run {path} was started in {before}, now it would go on in {precision}; set "
            f"TEXTRL_PRECISION={before} in the environment or choose another --name."
        )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{prefix}.{key}".lstrip("."))
    return flat


def _json(file: Path) -> dict[str, Any]:
    """Return what a JSON file of a run folder holds; nothing where there is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise UserError(f"The file {file} is not JSON; delete it or start under another --name.") from error
    if not isinstance(found, dict):
        raise UserError(f"The file {file} does not hold a JSON object; delete it or choose another --name.")
    return found


def _rows(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    rows = []
    lines = file.read_bytes().splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):  # a kill tore the last row
                break
            raise UserError(f"The file {file}, line {number}, is not JSON; delete the line.") from error
    return rows


def _plain(value: Any) -> Any:
    """Turn NumPy's and torch's scalars into numbers, tuples into lists, and NaN and infinity into None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
