"""Small runs of `pipeline: reward_model` for its tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
import yaml

from textrl.cli import main

CONFIG: dict[str, Any] = {
    "pipeline": "reward_model",
    "model": "tiny-gpt2",
    "data": {"source": "made", "k": 3, "sizes": {"train": 60, "validation": 24, "test": 30}},
    "training": {"layers": 1, "batch_size": 8, "lr": 1e-3, "max_tokens": 32},
}


class Start(Protocol):
    """Runs a config of a name, with further arguments and sections; returns the code and the folder."""

    def __call__(self, name: str, *extra: str, **changes: Any) -> tuple[int, Path]: ...


def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Return what runs configs in a folder of the test."""
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)

    def start(name: str, *extra: str, **changes: Any) -> tuple[int, Path]:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(CONFIG | changes, sort_keys=False))
        folder = tmp_path / "runs" / name
        return main(["run", str(path), "--name", name, "--runs-dir", str(folder.parent), *extra]), folder

    return start


def summary(folder: Path) -> dict[str, Any]:
    """Return what a run left behind."""
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def write(path: Path, records: list[dict[str, Any]]) -> str:
    """Write JSON lines and return the file's name."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)
