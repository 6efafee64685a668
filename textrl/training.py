"""What the supervised trainers share: settings, schedule, optimizer, the loop, checkpoints, interrupts.

A job accumulates the gradients of one optimizer step; `fit` does the rest. Everything random is a
function of (seed, epoch) or (seed, step), so a checkpoint needs weights, optimizer and step number only,
and a resumed run repeats an uninterrupted one bit for bit on the same hardware and thread count.
"""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn
from torch import nn
from transformers import PreTrainedModel

from textrl.distributed import make_accelerator
from textrl.models.loading import freeze_below
from textrl.models.precision import PrecisionName

#: Called on the main process after each step: number of steps done so far, and figures by name.
Log = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of both supervised trainers; the defaults are InstructGPT's where it gives a value.

    Attributes:
        lr: Peak learning rate. InstructGPT's 9e-6 are for models of 1.3B and more.
        batch_size: Rows (SFT) or prompts (reward model) per optimizer step, over all processes.
        epochs: Passes over the data.
        max_steps: Stop after this many optimizer steps; the schedule ends there too.
        warmup_steps: Linear warm-up; the paper has none.
        final_lr_fraction: The cosine ends at this share of the peak.
        betas: Of AdamW.
        weight_decay: On matrices only; not in the paper.
        clip_norm: Gradients are scaled down to this norm; 0 turns it off. Not in the paper.
        dropout: Residual dropout in the trainable blocks.
        first_trainable: Freeze embeddings, head and the blocks before this one; None trains whatever
            requires a gradient already.
        max_tokens: Longer rows are cut; None means the model's context, at most 1,024.
        append_eos: End each completion with the EOS token.
        micro_batch_tokens: Padded tokens of one forward pass; bounds memory, never changes the result.
        precision: Of forward passes.
        eval_every: Steps between evaluations; 0 evaluates at the end only.
        checkpoint_every: Steps between checkpoints; 0 writes them at the end and on Ctrl-C only.
        keep_checkpoints: Older ones are deleted.
        seed: Of data order and dropout.
    """

    lr: float = 2e-5
    batch_size: int = 32
    epochs: int = 1
    max_steps: int | None = None
    warmup_steps: int = 0
    final_lr_fraction: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    dropout: float = 0.0
    first_trainable: int | None = None
    max_tokens: int | None = None
    append_eos: bool = True
    micro_batch_tokens: int = 2048
    precision: PrecisionName = "auto"
    eval_every: int = 0
    checkpoint_every: int = 50
    keep_checkpoints: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "micro_batch_tokens", "keep_checkpoints"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("warmup_steps", "eval_every", "checkpoint_every", "weight_decay", "clip_norm"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; it must not be negative")
        require(self.max_steps is None or self.max_steps >= 1, "max_steps must be at least 1")
        require(self.max_tokens is None or self.max_tokens >= 2, "max_tokens must be at least 2")
        require(self.lr > 0 and math.isfinite(self.lr), f"lr is {self.lr}; it must be above 0")
        require(0 <= self.dropout < 1, f"dropout is {self.dropout}; it must be in [0, 1)")
        require(all(0 <= beta < 1 for beta in self.betas), f"betas is {self.betas}; both must be in [0, 1)")
        require(0 <= self.final_lr_fraction <= 1, "final_lr_fraction must be in [0, 1]")


def require(condition: bool, message: str) -> None:
    """Raise ValueError; `textrl.config.build` adds the file, the line and the key."""
    if not condition:
        raise ValueError(message)


def learning_rate(step: int, total: int, settings: TrainSettings) -> float:
    """Return the rate of optimizer step `step` (from 0): warm-up, then cosine to the final fraction.

    The last step runs at exactly ``final_lr_fraction * lr``.
    """
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / (settings.warmup_steps + 1)
    span = max(total - settings.warmup_steps - 1, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min((step - settings.warmup_steps) / span, 1.0)))
    return settings.lr * (settings.final_lr_fraction + (1 - settings.final_lr_fraction) * cosine)


def prepare(model: PreTrainedModel, settings: TrainSettings, accelerator: Accelerator | None) -> Accelerator:
    """Put the model where it will be trained, freeze what stays, and return the processes at work.

    Evaluation mode throughout: the only dropout is the residual one, by `textrl.batching`.
    """
    accelerator = accelerator or make_accelerator()
    model.to(accelerator.device).eval()
    if settings.first_trainable is not None:
        freeze_below(model, settings.first_trainable)
    return accelerator


def make_optimizer(params: Iterable[nn.Parameter], settings: TrainSettings) -> torch.optim.AdamW:
    """Return AdamW over the given parameters; norms and biases are not decayed."""
    params = list(params)
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=settings.lr, betas=settings.betas)


class Job(Protocol):
    """What a trainer supplies."""

    def step(self, step: int) -> Mapping[str, float]:
        """Accumulate this process's share of the gradient of step `step`.

        Returns:
            Figures that give the global figure when summed over processes; the same keys every time.
        """
        ...

    def report(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Turn the global sums into figures for the log."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Return held-out figures (the same on all processes), ``eval/loss`` among them; or nothing."""
        ...


@dataclass
class FitResult:
    """Where a training ended.

    Attributes:
        steps: Optimizer steps behind the weights that the model has now.
        resumed_from: Step at which this process began.
        stopped_early: Held-out loss had stopped improving.
        metrics: The last figures of each name.
        seconds: Wall time in this process, s.
    """

    steps: int = 0
    resumed_from: int = 0
    stopped_early: bool = False
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@contextmanager
def progress(title: str) -> Iterator[Log]:
    """Show a bar with the loss and an estimate of the time left; yields the `log` that moves it."""
    columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(title, total=1.0)

        def log(step: int, metrics: Mapping[str, float]) -> None:
            text = f"{title} step {step} loss {metrics['train/loss']:.3f}"
            bar.update(task, completed=metrics["train/progress"], description=text)

        yield log


class Stopper:
    """Ctrl-C becomes a request that is honoured between two steps; a second Ctrl-C stops at once.

    Off the main thread, where Python allows no handlers, it does nothing.
    """

    requested = False

    def __enter__(self) -> Stopper:
        self._before: Any = None
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
