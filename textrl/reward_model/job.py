"""Gradient and evaluation of one reward model; see `textrl.training.Job`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.batching import Padded, ResidualDropout, Row, pad, plan
from textrl.distributed import share, sum_metrics
from textrl.mdp.order import visit
from textrl.mdp.ranking import pair_counts
from textrl.models.heads import score
from textrl.models.precision import resolve_precision
from textrl.models.stack import frozen_depth, run_blocks
from textrl.reward_model.data import Group
from textrl.reward_model.objective import Labels, Objective, TieWidth
from textrl.reward_model.settings import RewardModelSettings


def score_rows(model: PreTrainedModel, batch: Padded, hidden: Tensor | None = None, depth: int = 0) -> Tensor:
    """Return the (R,) score of each row: a decoder's at its last real token, an encoder's as it pools.

    Args:
        model: A sequence classifier with one label.
        batch: R rows, one to a sequence.
        hidden: (R, T, H) output of the first `depth` blocks, where it is known already; decoders only.
        depth: See `hidden`.
    """
    return score(model, batch.ids, batch.mask, hidden, depth)


class RankingJob:
    """All pairs of a group in one batch element: each completion goes through the network once."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        settings: RewardModelSettings,
        objective: Objective,
        groups: Sequence[Group],
        held_out: Sequence[Group],
        dropout: ResidualDropout,
        theta: TieWidth,
        accelerator: Accelerator,
    ) -> None:
        self.model, self.settings, self.groups, self.held_out = model, settings, groups, held_out
        self.objective, self.theta = objective, theta
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
            scores, labels = self.score_groups(groups, step)
            losses = self.objective(scores, labels, self.theta.log())
            loss = losses.sum() / len(batch)
            torch.autograd.backward(loss)
            counts = pair_counts(scores.detach(), labels.ranks, labels.mask)
            sums["loss"] += loss.item()
            sums["tokens"] += sum(len(row.ids) for group in groups for row in group.rows)
            sums["correct"] += counts.correct.item()
            sums["decided"] += counts.decided.item()
            sums["score"] += scores.detach()[labels.mask].sum().item()
            sums["rows"] += labels.mask.sum().item()
        return sums

    def report(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Name the figures of a step."""
        figures = {
            "train/loss": sums["loss"],
            # A batch of ties has no decided pair.
            "train/accuracy": sums["correct"] / sums["decided"] if sums["decided"] else math.nan,
            "train/score_mean": sums["score"] / sums["rows"],
            "train/tokens": sums["tokens"],
        }
        if self.theta.learned:
            log_theta = self.theta.log()
            assert log_theta is not None
            figures["train/theta"] = math.exp(float(log_theta.detach()))
        return figures

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Return held-out loss, pair accuracy, and how many pairs are decided and how many tie."""
        if not self.held_out:
            return {}
        sums = {"loss": 0.0, "correct": 0.0, "decided": 0.0, "ties": 0.0}
        for groups in self.micro_batches(self.held_out):
            scores, labels = self.score_groups(groups)
            counts = pair_counts(scores, labels.ranks, labels.mask)
            losses = self.objective(scores, labels, self.theta.log())
            known = torch.tensor([self.objective.usable(g) for g in groups], device=losses.device)
            sums["loss"] += torch.where(known, losses, torch.zeros_like(losses)).sum().item()
            for name, value in counts._asdict().items():
                sums[name] += value.item()
        return held_out_figures(
            sum_metrics(self.accelerator, sums), sum(self.objective.usable(group) for group in self.held_out)
        )

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

    def score_groups(self, groups: Sequence[Group], step: int | None = None) -> tuple[Tensor, Labels]:
        """Return (G, K) scores, from one forward row per completion, and what people said.

        Args:
            groups: G groups.
            step: Optimizer step whose dropout acts; None is evaluation.
        """
        scores = self._scores([row for group in groups for row in group.rows], step)
        labels = self.objective.labels(groups, self.device)
        shape = labels.mask.shape
        return torch.zeros(shape, device=self.device).masked_scatter(labels.mask, scores), labels

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


def held_out_figures(sums: Mapping[str, float], groups: int) -> dict[str, float]:
    """Name the held-out figures of sums over groups, of which `groups` have a loss."""
    return {
        "eval/loss": sums["loss"] / groups if groups else math.nan,
        "eval/accuracy": sums["correct"] / sums["decided"] if sums["decided"] else math.nan,
        "eval/pairs": sums["decided"],
        "eval/ties": sums["ties"],
    }
