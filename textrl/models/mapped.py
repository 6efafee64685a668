"""Frozen weights in a file that the system maps: they take memory only while they are read.

Between two scorings nobody reads a reference or a reward model, and on a machine without a GPU they are half
of four separate networks. What lies in a file can be let go of at once and is read again from the system's
own store of files, which it may use for something else meanwhile.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from textrl.errors import UserError

#: Every tensor begins at a multiple of this, so that kernels find it aligned.
_ALIGNED = 64


class MappedWeights:
    """Tensors in a file without a name, which is gone when the process ends, however it ends.

    Attributes:
        tensors: As given to `__init__`, with the file behind them.
    """

    def __init__(self, tensors: Sequence[Tensor], folder: Path) -> None:
        """Write them, and map the file.

        Args:
            tensors: On the CPU; not changed.
            folder: On a disk with room for them. A file system in main memory would save nothing.

        Raises:
            UserError: When the folder cannot be written, or has no room.
        """
        sizes = [-(-t.numel() * t.element_size() // _ALIGNED) * _ALIGNED for t in tensors]
        starts = [sum(sizes[:place]) for place in range(len(sizes))]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                for tensor, start in zip(tensors, starts, strict=True):
                    file.seek(start)
                    file.write(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().data)
                file.truncate(max(sum(sizes), 1))
                file.flush()
                # Private: whatever wrote to it would change this process's copy and no file.
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError as error:
            raise UserError(
                f"Frozen weights cannot be kept in {folder} ({error.strerror}); they need "
                f"{sum(sizes) / 1e9:.1f} GB of disk: point TEXTRL_CACHE to a disk with room."
            ) from error
        self.tensors = [
            torch.frombuffer(self._map, dtype=t.dtype, count=t.numel(), offset=start).view(t.shape)
            if t.numel()
            else t
            for t, start in zip(tensors, starts, strict=True)
        ]

    def __deepcopy__(self, memo: dict[int, Any]) -> MappedWeights:
        """A copy of a network has its weights in memory, and nothing in this file."""
        return self

    def release(self) -> None:
        """Let go of the memory; the next who reads gets the same weights from the file."""
        if hasattr(mmap, "MADV_DONTNEED"):  # elsewhere the system decides by itself
            self._map.madvise(mmap.MADV_DONTNEED)
