"""The loop of the supervised trainers: gradient, step, log, evaluation, checkpoint, in this order."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from textrl import checkpoint
from textrl.distributed import broadcast_parameters, sum_metrics, sync_gradients
from textrl.errors import UserError
from textrl.training import FitResult, Job, Log, Stopper, TrainSettings, learning_rate, make_optimizer

#: Settings that may differ between a checkpoint and the run that resumes from it.
_FREE = frozenset({"checkpoint_every", "keep_checkpoints"})


def fit(
    job: Job,
    model: PreTrainedModel,
    settings: TrainSettings,
    total: int,
    *,
    accelerator: Accelerator,
    data_digest: str,
    log: Log,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    patience: int = 0,
) -> FitResult:
    """Run optimizer steps up to `total` and leave the trained weights in `model`.

    Args:
        job: Accumulates gradients and evaluates.
        model: Its parameters that require a gradient are trained.
        settings: Schedule, optimizer, cadences.
        total: Optimizer steps of the whole training.
        accelerator: The processes that share the work.
        data_digest: Of the training data; a checkpoint made from other data is refused.
        log: Called after each step, on the main process.
        checkpoint_dir: Where checkpoints go; None writes none.
        resume: Continue from the newest intact checkpoint, if there is one.
        patience: Stop after this many evaluations without a better held-out loss and keep the weights
            of the best one; 0 trains to the end and keeps the last.

    Raises:
        UserError: When the loss is not finite, or the checkpoint does not fit.
        KeyboardInterrupt: On Ctrl-C, after the step in progress and a checkpoint.
    """
    began_s = time.perf_counter()
    state = _State(model, settings, checkpoint_dir, accelerator, data_digest)
    broadcast_parameters(accelerator, state.params.values())
    state.restore(resume)
    result = state.result
    with Stopper() as stopper:
        while result.steps < total and not result.stopped_early:
            metrics, stop = _step(job, state, total, stopper)
            result.steps += 1
            if state.due(settings.eval_every, total):
                judged = job.evaluate()
                metrics |= judged
                if patience:
                    state.judge(judged, patience)
            metrics["train/progress"] = result.steps / total
            result.metrics |= metrics
            state.report(log, metrics)
            if stop or result.stopped_early or state.due(settings.checkpoint_every, total):
                state.save()
            if stop or (stopper.requested and result.steps == total):
                raise KeyboardInterrupt
    if patience and state.best:
        state.load_weights(state.best)
        result.steps = state.best_step
        result.metrics |= state.best_metrics
    for param in state.params.values():
        param.grad = None
    result.seconds = time.perf_counter() - began_s
    return result


def checkpoint_step(folder: Path) -> int:
    """Return the step from which a resumed training will go on: of the newest intact checkpoint, or 0."""
    found = checkpoint.latest(folder)
    return 0 if found is None else int(found.name.removeprefix("step-"))


def _step(job: Job, state: _State, total: int, stopper: Stopper) -> tuple[dict[str, float], bool]:
    """Make one optimizer step; return its figures and whether any process was asked to stop."""
    began_s = time.perf_counter()
    settings, step, params = state.settings, state.result.steps, state.params.values()
    rate = learning_rate(step, total, settings)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    local = dict(job.step(step))
    sync_gradients(state.accelerator, params)
    norm = torch.nn.utils.clip_grad_norm_(params, settings.clip_norm or math.inf).item()
    if not math.isfinite(norm):
        raise UserError(
            f"The gradient of step {step + 1} is {norm}; lower lr (now {settings.lr}) or set precision "
            "to fp32."
        )
    state.optimizer.step()
    # Processes agree on stopping, or the others would wait for ever in the next reduction.
    sums = sum_metrics(state.accelerator, {**local, "stop": float(stopper.requested)})
    metrics = job.report(sums)
    metrics |= {"train/grad_norm": norm, "train/learning_rate": rate}
    metrics["time/fps"] = sums["tokens"] / (time.perf_counter() - began_s)
    return metrics, sums["stop"] > 0


class _State:
    """What a checkpoint holds, and its way to and from disk."""

    def __init__(
        self,
        model: PreTrainedModel,
        settings: TrainSettings,
        folder: Path | None,
        accelerator: Accelerator,
        data_digest: str,
    ) -> None:
        self.params = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self.params:
            raise UserError("The model has no trainable parameter; lower first_trainable.")
        for name, param in self.params.items():
            if param.dtype != torch.float32:
                raise UserError(
                    f"The weight '{name}' is {param.dtype}; load the model in float32 (precision chooses the "
                    "type of the computation alone)."
                )
        self.settings, self.folder, self.accelerator = settings, folder, accelerator
        identity = {**dataclasses.asdict(settings), "data_sha256": data_digest}
        self.identity = {k: list(v) if isinstance(v, tuple) else v for k, v in identity.items()}
        self.optimizer = make_optimizer(self.params.values(), settings)
        self.result = FitResult()
        self.best: dict[str, Tensor] = {}
        self.best_metrics: dict[str, float] = {}
        self.best_step, self.waited, self.saved = 0, 0, 0

    def due(self, every: int, total: int) -> bool:
        """Return whether something happens after this step: at the end, and every so many steps."""
        steps = self.result.steps
        return steps == total or (every > 0 and steps % every == 0)

    def report(self, log: Log, metrics: Mapping[str, float]) -> None:
        """Call the log on the main process; where it is interrupted, the finished step is saved."""
        if not self.accelerator.is_main_process:
            return
        try:
            log(self.result.steps, metrics)
        except KeyboardInterrupt:
            self.save()
            raise

    def save(self) -> None:
        """Write a checkpoint of the state between two steps, on the main process."""
        steps = self.result.steps
        if self.folder is None or not self.accelerator.is_main_process or self.saved == steps:
            return
        optimizer, optimizer_state = checkpoint.pack_optimizer(self.optimizer)
        tensors = {"model": {n: p.detach() for n, p in self.params.items()}, "optimizer": optimizer}
        if self.best:
            tensors["best"] = self.best
        state = {
            "step": steps,
            "stopped_early": self.result.stopped_early,
            "metrics": self.result.metrics,
            "best_metrics": self.best_metrics,
            "best_step": self.best_step,
            "waited": self.waited,
            "optimizer": optimizer_state,
        }
        path = self.folder / f"step-{steps:08d}"
        checkpoint.save(path, config=self.identity, tensors=tensors, state=state)
        checkpoint.prune(self.folder, self.settings.keep_checkpoints)
        self.saved = steps

    def restore(self, resume: bool) -> None:
        """Continue from the newest intact checkpoint, if there is one."""
        found = checkpoint.latest(self.folder) if self.folder is not None and self.folder.is_dir() else None
        if found is None:
            return
        if not resume:
            raise UserError(
                f"{self.folder} holds checkpoints of an earlier run; continue it with --resume or give the "
                "run another name."
            )
        loaded = checkpoint.load(found)
        self._compare(found, loaded.config)
        self.load_weights(loaded.tensors["model"])
        state: Mapping[str, Any] = loaded.state
        checkpoint.unpack_optimizer(self.optimizer, loaded.tensors["optimizer"], state["optimizer"])
        device = self.accelerator.device
        self.best = {name: saved.to(device) for name, saved in loaded.tensors.get("best", {}).items()}
        self.best_metrics = dict(state["best_metrics"])
        self.best_step, self.waited = int(state["best_step"]), int(state["waited"])
        step = self.saved = int(state["step"])
        self.result = FitResult(step, step, bool(state["stopped_early"]), dict(state["metrics"]))

    def _compare(self, path: Path, config: Mapping[str, Any]) -> None:
        for key, value in self.identity.items():
            if key not in _FREE and config.get(key) != value:
                raise UserError(
                    f"{path} was made with {key} = {config.get(key)}, now it is {value}; use the former "
                    "or start a new run."
                )

    @torch.no_grad()
    def load_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy saved trainable weights into the model."""
        if set(tensors) != set(self.params):
            odd = min(set(tensors) ^ set(self.params))
            raise UserError(
                f"A checkpoint in {self.folder} does not fit the model ('{odd}' is trained in only one of "
                "the two); use the same model and first_trainable or start a new run."
            )
        for name, param in self.params.items():
            param.copy_(tensors[name])

    def judge(self, metrics: Mapping[str, float], patience: int) -> None:
        """Remember the best held-out loss; stop after `patience` evaluations without a better one."""
        if metrics["eval/loss"] < self.best_metrics.get("eval/loss", math.inf):
            self.best_metrics, self.best_step, self.waited = dict(metrics), self.result.steps, 0
            self.best = {name: p.detach().clone() for name, p in self.params.items()}
        else:
            self.waited += 1
            self.result.stopped_early = self.waited >= patience
