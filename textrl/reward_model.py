"""Step 2: a reward model from rankings (Ouyang et al. 2022, section 3.5 and appendix C.2).

All pairs of a prompt stand in one batch element, so each completion goes through the network once
(K forward rows for C(K, 2) pairs). The score is read at the last real token, found by the mask.

Shapes: ``G`` groups, ``K`` completions of a group, ``R`` rows (completions of all groups), ``T`` tokens,
``H`` width.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.batching import Padded, ResidualDropout, Row, hidden_states, pad, plan
from textrl.data.rankings import RankingGroup
from textrl.distributed import share, sum_metrics
from textrl.errors import UserError
from textrl.fit import fit
from textrl.mdp.order import visit
from textrl.mdp.ranking import PairDivisor, kwise_loss, pair_counts
from textrl.models.loading import blocks
from textrl.models.precision import resolve_precision
from textrl.models.stack import frozen_depth, run_blocks, score_positions
from textrl.sft import SFTExample, rows_of
from textrl.training import FitResult, Log, TrainSettings, prepare, require


@dataclass(frozen=True, kw_only=True)
class RewardModelSettings(TrainSettings):
    """Settings of reward-model training; see also `TrainSettings`. Pairwise training is K = 2.

    Attributes:
        lr: 9e-6 in the paper, for a model of 6B.
        batch_size: Groups (prompts) per optimizer step; 64 in the paper.
        divide: Divide a group's loss by all its pairs (Eq. 1 as written) or by the decided ones.
        cache_frozen: Compute the output of the frozen blocks once and keep it (R * T * H * 4 bytes);
            pays where a completion is seen more than once.
        patience: Stop after this many evaluations without a better held-out loss, and keep the best
            weights; 0 trains to the end.
    """

    lr: float = 9e-6
    batch_size: int = 64
    divide: PairDivisor = "all"
    cache_frozen: bool = False
    patience: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.patience >= 0, f"patience is {self.patience}; it must not be negative")
        require(not self.patience or self.eval_every > 0, "patience needs eval_every above 0")


@dataclass(frozen=True)
class RewardModelResult:
    """What came out; the weights are in the model, the offset in its config.

    Attributes:
        steps: Optimizer steps behind the weights.
        loss: Of the last step.
        val_loss: Held-out loss of the last evaluation; NaN without held-out groups.
        val_accuracy: Share of decided held-out pairs in the people's order; NaN without any.
        val_pairs: Decided held-out pairs.
        val_ties: Held-out pairs that people ranked equal; they count in no figure.
        offset: Mean score of the demonstrations, in ``model.config.textrl_reward_offset``.
        seconds: Wall time of this process, s.
        resumed_from: Step of the checkpoint this process began at.
        stopped_early: Training ended because the held-out loss stopped improving.
    """

    steps: int
    loss: float
    val_loss: float
    val_accuracy: float
    val_pairs: int
    val_ties: int
    offset: float
    seconds: float
    resumed_from: int
    stopped_early: bool


class Group(NamedTuple):
    """K tokenised completions of a prompt and their ranks (lower is better)."""

    rows: tuple[Row, ...]
    ranks: tuple[float, ...]

    @property
    def width(self) -> int:
        """Tokens of the longest row."""
        return max(len(row.ids) for row in self.rows)

    @property
    def decided(self) -> bool:
        """Whether any pair is not a tie."""
        return len(set(self.ranks)) > 1


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
        model: A decoder with a score head of one label, fp32 weights.
        tokenizer: Its tokenizer.
        groups: Ranked completions; groups in which all tie are skipped.
        demonstrations: Good completions; with none the offset is 0.
        settings: See `RewardModelSettings`.
        log: Called on the main process after each step with the number of steps done and figures.
        checkpoint_dir: Where checkpoints go; None writes none.
        resume: Continue from the newest intact checkpoint there, if any.
        held_out: Groups for accuracy, loss and early stopping.
        accelerator: The processes that share the work; all that were launched when None.

    Raises:
        UserError: On data or settings that cannot work.
        KeyboardInterrupt: On Ctrl-C, after a checkpoint.
    """
    _check_model(model)
    accelerator = prepare(model, settings, accelerator)
    train = [g for g in _tokenise(model, tokenizer, groups, settings, "Group") if g.decided]
    val = _tokenise(model, tokenizer, held_out, settings, "Held-out group")
    if not train:
        raise UserError(f"None of the {len(groups)} groups has two completions of different rank; give some.")
    if settings.patience and not any(g.decided for g in val):
        raise UserError("patience is set, but no held-out group has two completions of different rank.")
    demos = rows_of(model, tokenizer, demonstrations, settings, "Demonstration")
    dropout = ResidualDropout(model, settings.dropout, settings.seed)
    job = _RankingJob(model, tokenizer, settings, train, val, dropout, accelerator)
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
    model.config.textrl_reward_offset = job.mean_score(demos)
    return _result(done, model.config.textrl_reward_offset)


def _check_model(model: PreTrainedModel) -> None:
    if getattr(model, "score", None) is None or model.config.num_labels != 1:
        raise UserError(
            f"A {type(model).__name__} with {model.config.num_labels} labels cannot be trained as a reward "
            "model; use a decoder with a score head of one label."
        )


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


def score_rows(model: PreTrainedModel, batch: Padded, hidden: Tensor | None = None, depth: int = 0) -> Tensor:
    """Return the (R,) score of each row at its last real token.

    Args:
        model: A decoder with a score head.
        batch: R rows, one to a sequence.
        hidden: (R, T, H) output of the first `depth` blocks, where it is known already.
        depth: See `hidden`.
    """
    if hidden is None:
        final = hidden_states(model, batch)
    else:
        final = run_blocks(model, hidden, batch.mask, depth, len(blocks(model)), final=True)
    last = batch.mask.sum(1) - 1  # rows are padded on the right
    chosen = final[torch.arange(len(last), device=last.device), last]
    return score_positions(model, chosen[:, None]).squeeze(1)


def _tokenise(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    groups: Sequence[RankingGroup],
    settings: RewardModelSettings,
    what: str,
) -> list[Group]:
    found = []
    for number, group in enumerate(groups, start=1):
        examples = [SFTExample(group.prompt, completion) for completion in group.completions]
        rows = rows_of(model, tokenizer, examples, settings, f"{what} {number}, completion")
        found.append(Group(tuple(rows), group.ranks))
    return found


class _RankingJob:
    """Gradient and evaluation of one reward model; see `textrl.training.Job`."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: RewardModelSettings,
        groups: Sequence[Group],
        held_out: Sequence[Group],
        dropout: ResidualDropout,
        accelerator: Accelerator,
    ) -> None:
        self.model, self.settings, self.groups, self.held_out = model, settings, groups, held_out
        self.dropout, self.accelerator, self.device = dropout, accelerator, accelerator.device
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self.precision = resolve_precision(settings.precision, self.device)
        wanted = math.ceil(len(groups) * settings.epochs / settings.batch_size)
        self.steps = min(wanted, settings.max_steps or wanted)
        self.depth = frozen_depth(model) if settings.cache_frozen else 0
        self.cache: dict[tuple[int, ...], Tensor] = {}
        if self.depth:
            self._fill([row for group in (*groups, *held_out) for row in group.rows])

    def step(self, step: int) -> Mapping[str, float]:
        """Accumulate the gradient of one step: the mean of the groups' losses."""
        size, count = self.settings.batch_size, len(self.groups)
        numbers = range(step * size, min((step + 1) * size, count * self.settings.epochs))
        batch = [self.groups[visit((self.settings.seed,), i, count)] for i in numbers]
        sums = {"loss": 0.0, "tokens": 0.0, "correct": 0.0, "decided": 0.0, "score": 0.0, "rows": 0.0}
        for groups in self.micro_batches(batch):
            scores, ranks, mask = self.score_groups(groups, step)
            losses = kwise_loss(scores, ranks, mask, self.settings.divide)
            loss = losses.sum() / len(batch)
            torch.autograd.backward(loss)
            counts = pair_counts(scores.detach(), ranks, mask)
            sums["loss"] += loss.item()
            sums["tokens"] += sum(len(row.ids) for group in groups for row in group.rows)
            sums["correct"] += counts.correct.item()
            sums["decided"] += counts.decided.item()
            sums["score"] += scores.detach()[mask].sum().item()
            sums["rows"] += mask.sum().item()
        return sums

    def report(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Name the figures of a step."""
        return {
            "train/loss": sums["loss"],
            "train/accuracy": sums["correct"] / sums["decided"],
            "train/score_mean": sums["score"] / sums["rows"],
            "train/tokens": sums["tokens"],
        }

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return held-out loss, pair accuracy, and how many pairs are decided and how many tie."""
        if not self.held_out:
            return {}
        sums = {"loss": 0.0, "correct": 0.0, "decided": 0.0, "ties": 0.0}
        for groups in self.micro_batches(self.held_out):
            scores, ranks, mask = self.score_groups(groups)
            counts = pair_counts(scores, ranks, mask)
            sums["loss"] += kwise_loss(scores, ranks, mask, self.settings.divide).sum().item()
            for name, value in counts._asdict().items():
                sums[name] += value.item()
        sums = sum_metrics(self.accelerator, sums)
        decided_groups = sum(group.decided for group in self.held_out)
        return {
            "eval/loss": sums["loss"] / decided_groups if decided_groups else math.nan,
            "eval/accuracy": sums["correct"] / sums["decided"] if sums["decided"] else math.nan,
            "eval/pairs": sums["decided"],
            "eval/ties": sums["ties"],
        }

    @torch.no_grad()
    def mean_score(self, rows: Sequence[Row]) -> float:
        """Return the mean score of rows; 0 without any."""
        mine = rows[share(self.accelerator, len(rows))]
        parts = plan([len(row.ids) for row in mine], self.settings.micro_batch_tokens)
        total = sum(self._scores([mine[i] for i in part]).double().sum().item() for part in parts)
        return sum_metrics(self.accelerator, {"score": total})["score"] / max(len(rows), 1)

    def micro_batches(self, groups: Sequence[Group]) -> list[list[Group]]:
        """Return this process's share of the groups; a group is never split."""
        ordered = sorted(groups, key=lambda group: (-group.width, group.rows))
        mine = ordered[share(self.accelerator, len(ordered))]
        budget = self.settings.micro_batch_tokens
        parts = plan([g.width for g in mine], budget, [len(g.rows) for g in mine])
        return [[mine[i] for i in part] for part in parts]

    def score_groups(self, groups: Sequence[Group], step: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, ranks and mask, (G, K) each, from one forward row per completion.

        Args:
            groups: G groups.
            step: Optimizer step whose dropout acts; None is evaluation.
        """
        scores = self._scores([row for group in groups for row in group.rows], step)
        shape = (len(groups), max(len(group.rows) for group in groups))
        mask = torch.zeros(shape, dtype=torch.bool, device=self.device)
        ranks = torch.zeros(shape, device=self.device)
        for g, group in enumerate(groups):
            mask[g, : len(group.rows)] = True
            ranks[g, : len(group.rows)] = torch.tensor(group.ranks)
        return torch.zeros(shape, device=self.device).masked_scatter(mask, scores), ranks, mask

    def _scores(self, rows: Sequence[Row], step: int | None = None) -> Tensor:
        batch = pad([[row] for row in rows], self.pad_id, self.device)
        hidden = None
        if self.depth and all(row.ids in self.cache for row in rows):
            width = batch.ids.shape[1]
            found = [self.cache[row.ids] for row in rows]
            hidden = torch.stack([torch.nn.functional.pad(x, (0, 0, 0, width - len(x))) for x in found])
            hidden = hidden.to(self.device)
        noise = nullcontext() if step is None else self.dropout.active(batch, step)
        with noise, self.precision.autocast(self.device):
            return score_rows(self.model, batch, hidden, self.depth)

    @torch.no_grad()
    def _fill(self, rows: Sequence[Row]) -> None:
        """Compute the output of the frozen blocks for each distinct row, once, in a fixed order.

        Filling as rows come would make the batches of this pass, and so its rounding, depend on
        where a resumed run begins.
        """
        distinct = sorted({row.ids: row for row in rows}.values())
        for part in plan([len(row.ids) for row in distinct], self.settings.micro_batch_tokens):
            batch = pad([[distinct[i]] for i in part], self.pad_id, self.device)
            with self.precision.autocast(self.device):
                out = run_blocks(self.model, batch.ids, batch.mask, 0, self.depth)
            for i, hidden in zip(part, out.cpu(), strict=True):
                self.cache[distinct[i].ids] = hidden[: len(distinct[i].ids)].clone()
