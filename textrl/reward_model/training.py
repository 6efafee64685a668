"""Train one reward model: check, tokenise, fit, and set the offset.

The order of operations is part of the contract: the quickstart's figures are bit-exact.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import math
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.batching import ResidualDropout, Row
from textrl.data.rankings import RankingGroup
from textrl.errors import UserError
from textrl.fit import fit
from textrl.models.heads import is_decoder, pads_with_eos, score_layer
from textrl.reward_model.data import Group, rows_for, tell_cut, tokenise
from textrl.reward_model.job import RankingJob
from textrl.reward_model.linear import features_of, fit_linear, install
from textrl.reward_model.lora import add_lora, merge_lora
from textrl.reward_model.objective import Objective, TieWidth
from textrl.reward_model.settings import RewardModelResult, RewardModelSettings
from textrl.sft import SFTExample
from textrl.training import FitResult, Log, prepare

_log = logging.getLogger(__name__)


def train_reward_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    groups: Sequence[RankingGroup],
    demonstrations: Sequence[SFTExample],
    settings: RewardModelSettings,
    *,
    log: Log,
    checkpoint_dir: Path | None = None,
    resume: bool = False,
    held_out: Sequence[RankingGroup] = (),
    accelerator: Accelerator | None = None,
) -> RewardModelResult:
    """Train `model` in place and set the offset that gives demonstrations a mean score of 0.

    Args:
        model: A sequence classifier of one label, decoder or encoder, fp32 weights.
        tokenizer: Its tokenizer.
        groups: Ranked (or rated) completions; groups that the loss cannot learn from are skipped.
        demonstrations: Good completions; with none the offset is 0 (but see `RewardModelResult`).
        settings: See `RewardModelSettings`.
        log: Called on the main process after each step with the number of steps done and figures.
        checkpoint_dir: Where checkpoints go; None writes none.
        resume: Continue from the newest intact checkpoint there, if any.
        held_out: Groups for accuracy, loss and early stopping; of other prompts than `groups`.
        accelerator: The processes that share the work; all that were launched when None.

    Raises:
        UserError: On data or settings that cannot work.
        KeyboardInterrupt: On Ctrl-C, after a checkpoint.
    """
    _check_model(model, tokenizer, settings)
    # Who scores texts with it later must end them as training did.
    model.config.textrl_append_eos = settings.append_eos and is_decoder(model)
    accelerator = prepare(model, settings, accelerator)
    train = tokenise(model, tokenizer, groups, settings, "Group")
    val = tokenise(model, tokenizer, held_out, settings, "Held-out group")
    tell_cut(model, tokenizer, [*groups, *held_out], [*train, *val], settings)
    objective = Objective(settings, train, _known_centre(model, settings))
    usable = [group for group in train if objective.usable(group)]
    if len(usable) < len(train):
        lacking = "have no ratings" if settings.loss == "regression" else "tie throughout"
        _log.warning(
            "%d of %d groups %s; '%s' learns nothing from them.",
            len(train) - len(usable), len(train), lacking, settings.loss,
        )  # fmt: skip
    train = usable
    if settings.patience and not any(objective.usable(group) for group in val):
        raise UserError(_nothing_held_out(settings))
    demos = rows_for(model, tokenizer, demonstrations, settings, "Demonstration")
    if settings.mode == "linear":
        return _fit_head(model, tokenizer, settings, objective, train, val, demos, log, checkpoint_dir)
    if settings.mode == "lora":
        add_lora(model, settings.lora_rank, settings.first_trainable or 0, settings.seed)
    theta = TieWidth(settings, model)
    dropout = ResidualDropout(model, settings.dropout, settings.seed)
    job = RankingJob(model, tokenizer, settings, objective, train, val, dropout, theta, accelerator)
    try:
        done = fit(
            job,
            model,
            settings,
            job.steps,
            accelerator=accelerator,
            data_digest=hashlib.sha256(repr((train, val)).encode()).hexdigest(),
            log=log,
            checkpoint_dir=checkpoint_dir,
            resume=resume,
            patience=settings.patience,
        )
    finally:
        dropout.remove()
        width = theta.remove()
    if settings.mode == "lora":
        merge_lora(model)
    model.config.textrl_reward_offset = job.mean_score(demos) if demos else 0.0 - objective.centre
    if width is not None:
        model.config.textrl_tie_theta = width
    return dataclasses.replace(_result(done, model.config.textrl_reward_offset), theta=width)


def _known_centre(model: PreTrainedModel, settings: RewardModelSettings) -> float | None:
    """Return by how much the scores of a reward model to go on with lie below ratings; None for a new one.

    Where training would begin with scores that are all off by a constant, its first steps would spend
    the features on that constant. A linear head is fitted anew, its level with it.
    """
    offset = float(getattr(model.config, "textrl_reward_offset", 0.0))
    return -offset if offset and settings.mode != "linear" else None


def _check_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: RewardModelSettings
) -> None:
    if score_layer(model) is None:
        raise UserError(
            f"A {type(model).__name__} with {model.config.num_labels} labels cannot be trained as a reward "
            "model; use a sequence classifier with a score head of one label."
        )
    if settings.cache_frozen and not is_decoder(model):
        raise UserError(
            f"cache_frozen is on, but a {type(model).__name__} is an encoder; set it to false or mode to "
            "'linear'."
        )
    if pads_with_eos(model, tokenizer):
        warnings.warn(
            f"the tokenizer pads with its EOS token '{tokenizer.eos_token}': textrl finds the last token by "
            "the mask, but transformers alone would read this reward model one token early; give the "
            "tokenizer a padding token of its own.",
            stacklevel=3,
        )


def _nothing_held_out(settings: RewardModelSettings) -> str:
    lacking = "ratings" if settings.loss == "regression" else "two completions of different rank"
    return f"patience is set, but no held-out group has {lacking}."


def _fit_head(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: RewardModelSettings,
    objective: Objective,
    train: Sequence[Group],
    val: Sequence[Group],
    demos: Sequence[Row],
    log: Log,
    folder: Path | None,
) -> RewardModelResult:
    """Fit the score head on frozen features; every process does the same."""
    began_s = time.perf_counter()
    rows = [row for group in (*train, *val) for row in group.rows] + list(demos)
    labels = objective.labels(train, torch.device("cpu"), torch.float64)
    zeros = torch.zeros(labels.mask.shape, dtype=torch.float64)
    untrained = float(objective(zeros, labels, torch.tensor(math.log(settings.theta))).mean())
    features = features_of(
        model, rows, tokenizer.pad_token_id or 0, settings, log=log, loss=untrained, folder=folder
    )
    fitted = fit_linear(features, train, val, objective, settings, log=log)
    left = install(model, fitted)
    offset = 0.0 - objective.centre - left
    if demos:
        offset = sum(float(features[row.ids] @ fitted.weight) for row in demos) / len(demos)
        offset += fitted.bias - left
    model.config.textrl_reward_offset = offset
    theta = None if fitted.log_theta is None else math.exp(fitted.log_theta)
    if theta is not None:
        model.config.textrl_tie_theta = theta
    steps = len(settings.l2)
    metrics = {"train/loss": fitted.loss, **fitted.figures}
    done = FitResult(steps, 0, False, metrics, time.perf_counter() - began_s)
    return dataclasses.replace(_result(done, offset), theta=theta, l2=fitted.l2)


def _result(done: FitResult, offset: float) -> RewardModelResult:
    return RewardModelResult(
        steps=done.steps,
        loss=done.metrics["train/loss"],
        val_loss=done.metrics.get("eval/loss", math.nan),
        val_accuracy=done.metrics.get("eval/accuracy", math.nan),
        val_pairs=int(done.metrics.get("eval/pairs", 0)),
        val_ties=int(done.metrics.get("eval/ties", 0)),
        offset=offset,
        seconds=done.seconds,
        resumed_from=done.resumed_from,
        stopped_early=done.stopped_early,
    )
