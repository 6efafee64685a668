"""Where a run's SB3 logger writes: JSON lines and TensorBoard events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.logger import KVWriter, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

if TYPE_CHECKING:
    from textrl.runs import Run


class JsonlRows(KVWriter):  # type: ignore[misc] # SB3 is not type-checked here
    """Write the numbers of each dump as one row of the run's ``metrics.jsonl``.

    Text, histograms and figures are left to TensorBoard.
    """

    def __init__(self, run: Run, stage: str) -> None:
        self._run, self._stage = run, stage

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        """Append one row; keys recorded with ``exclude="json"`` are left out."""
        figures = {
            key: value
            for key, value in key_values.items()
            if "json" not in (key_excluded.get(key) or ()) and _is_number(value)
        }
        self._run.append_metrics(self._stage, step, figures)

    def close(self) -> None:
        """Nothing stays open between rows."""


class TensorBoardEvents(TensorBoardOutputFormat):  # type: ignore[misc] # SB3 is not type-checked here
    """SB3's TensorBoard writer, opened on the first dump, hiding what a resume will write again."""

    def __init__(self, folder: Path, purge_step: int) -> None:
        self._folder, self._purge_step = folder, purge_step
        self.writer: SummaryWriter | None = None
        self._is_closed = False

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        """Write one dump as events."""
        if self.writer is None:
            # TensorBoard forgets events of earlier files from this step on.
            self.writer = SummaryWriter(log_dir=str(self._folder), purge_step=self._purge_step)
        # SB3 would draw a histogram of a tensor that holds one number.
        plain = {
            k: v.item() if isinstance(v, torch.Tensor) and v.ndim == 0 else v for k, v in key_values.items()
        }
        super().write(plain, key_excluded, step)


def _is_number(value: Any) -> bool:
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.ndim == 0
    return isinstance(value, bool | int | float | np.number)
