"""Smaller micro-batches where memory does not suffice."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

from textrl.errors import TrainingError
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.models.captured import release

Result = TypeVar("Result")

_log = logging.getLogger(__name__)
#: How torch's CPU allocator, CUDA's libraries, C++ and oneDNN put it where they raise a plain RuntimeError.
_SIGNS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Cannot allocate memory",
    "could not create a primitive",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, on the CPU or on a GPU, did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


class MicroBatches:
    """The number of rows that are worked on together: halved, for good, whenever memory does not suffice.

    The work is then done again from its beginning with the smaller number, so that the effective batch
    stays the same. Nothing inside the work may wait for other processes, whose memory may have sufficed.

    Attributes:
        size: Rows worked on together.
    """

    def __init__(self, size: int, setting: str) -> None:
        """Start from a setting's value; `setting` is its name, for messages."""
        self.size, self.setting = size, setting

    def run(
        self, work: Callable[[int], Result], *, rows: int, undo: Callable[[], None] | None = None
    ) -> Result:
        """Return ``work(size)``, with as large a size as memory allows.

        Args:
            work: Does everything for one batch, `size` rows at a time.
            rows: Rows in the batch.
            undo: Takes back what half-done work left behind, such as gradients.

        Raises:
            UserError: When memory does not suffice for a single row.
        """
        while True:
            try:
                return work(self.size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                # Only the text: the error holds the frames that hold the memory.
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            tried = max(1, min(self.size, rows))
            if tried == 1:
                raise TrainingError(
                    f"Memory does not suffice for one row at a time ({reason[:120]}); shorten the prompts or "
                    "max_new_tokens, set gradient_checkpointing to true, raise first_trainable or use "
                    "lora_rank."
                )
            self.size = tried // 2
            if undo is not None:
                undo()
            release()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            _log.warning(
                "Memory did not suffice: %s is now %d, the result stays the same.", self.setting, self.size
            )


@dataclass(frozen=True)
class BatchSizes:
    """How many rows are worked on together.

    Attributes:
        rollout: Rows generated together.
        micro: Rows of a scoring or training pass.
    """

    rollout: MicroBatches
    micro: MicroBatches

    @classmethod
    def of(cls, settings: PPOPTXSettings) -> BatchSizes:
        """Return the sizes that the settings ask for."""
        rollout = settings.rollout_batch_size or settings.episodes_per_iteration
        micro = MicroBatches(settings.micro_batch_size, "micro_batch_size")
        return cls(MicroBatches(rollout, "rollout_batch_size"), micro)

    def state_dict(self) -> dict[str, int]:
        """Return the sizes in force."""
        return {"rollout": self.rollout.size, "micro": self.micro.size}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on with the sizes that a checkpoint had come to: another size rounds differently."""
        self.rollout.size, self.micro.size = state["rollout"], state["micro"]
