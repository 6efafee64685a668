"""A linear head on frozen features: computed once, then a convex fit in float64.

Minutes on a CPU where training the network takes hours. Each penalty is fitted to its optimum with
L-BFGS, from the strongest to the weakest, and the loss on held-out groups chooses among them.

Shapes: ``N`` distinct rows, ``H`` width of the features, ``G`` groups, ``K`` completions of a group.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from textrl.batching import Row, pad, plan
from textrl.errors import UserError
from textrl.files import read_tensors, write_tensors
from textrl.mdp.ranking import pair_counts
from textrl.models.heads import pooled, score_layer
from textrl.models.precision import resolve_precision
from textrl.reward_model.data import Group
from textrl.reward_model.job import held_out_figures
from textrl.reward_model.objective import Labels, Objective
from textrl.reward_model.settings import RewardModelSettings
from textrl.training import Log, Stopper

#: Of L-BFGS; on 576 standardised features about 100 are needed.
_ITERATIONS = 1000
#: Times that progress is logged while features are computed.
_LOGS = 20


@dataclass
class LinearFit:
    """A fitted head on features as they come out of the network.

    Attributes:
        weight: (H,) float64.
        bias: Of ``regression``, else 0.
        log_theta: Of ``rao_kupper``, else None.
        l2: The penalty.
        loss: Mean loss of the training groups, without the penalty.
        figures: Held-out figures, as `RankingJob.evaluate` names them; empty without held-out groups.
    """

    weight: Tensor
    bias: float
    log_theta: float | None
    l2: float
    loss: float
    figures: dict[str, float]


def features_of(
    model: PreTrainedModel,
    rows: Sequence[Row],
    pad_id: int,
    settings: RewardModelSettings,
    *,
    log: Log,
    loss: float = math.nan,
    folder: Path | None = None,
) -> dict[tuple[int, ...], Tensor]:
    """Return what the head reads of each distinct row: ids -> (H,) float64.

    Args:
        model: Frozen; a sequence classifier with one label.
        rows: May repeat.
        pad_id: Any id; padding is masked.
        settings: Size of the micro-batches and precision.
        log: Called now and then, with the share of the rows that is done.
        loss: Of the head as it is, for the log.
        folder: Where features are kept for a resume and for other trainings of the same network; None
            keeps none.

    Raises:
        KeyboardInterrupt: On Ctrl-C, between two micro-batches, when what is computed has been kept.
    """
    file = None if folder is None else folder / f"features-{_digest(model, settings)}.safetensors"
    known = _read(file) if file is not None and file.is_file() else {}
    missing = sorted({row.ids: row for row in rows if row.ids not in known}.values())
    if not missing:
        return known
    device = next(model.parameters()).device
    precision = resolve_precision(settings.precision, device)
    total, done, told = sum(len(row.ids) for row in missing), 0, 0
    with Stopper() as stopper, torch.no_grad():
        for part in plan([len(row.ids) for row in missing], settings.micro_batch_tokens):
            batch = pad([[missing[i]] for i in part], pad_id, device)
            with precision.autocast(device):
                read = pooled(model, batch.ids, batch.mask).double().cpu()
            known |= {missing[i].ids: row.clone() for i, row in zip(part, read, strict=True)}
            done += sum(len(missing[i].ids) for i in part)
            if stopper.requested:
                break
            if done * _LOGS // total > told:
                told = done * _LOGS // total
                log(told, {"train/loss": loss, "train/tokens": done, "train/progress": 0.95 * done / total})
    if file is not None:
        _write(file, known)
    if stopper.requested:
        raise KeyboardInterrupt
    return known


def fit_linear(
    features: Mapping[tuple[int, ...], Tensor],
    groups: Sequence[Group],
    held_out: Sequence[Group],
    objective: Objective,
    settings: RewardModelSettings,
    *,
    log: Log,
) -> LinearFit:
    """Fit the head for every penalty and return the one with the lowest held-out loss.

    The features are standardised on the training rows, so that one penalty means the same for all;
    the weights that come back are for the features as they are.

    Args:
        features: Of all rows.
        groups: To learn from.
        held_out: To choose the penalty by; may be empty where there is one penalty.
        objective: The loss.
        settings: The penalties and theta.
        log: Called after each penalty.

    Raises:
        UserError: When there are several penalties and no held-out group to choose by.
    """
    if len(settings.l2) > 1 and not any(objective.usable(group) for group in held_out):
        raise UserError(
            "mode 'linear' chooses among the penalties of l2 by held-out groups, and there are none; give "
            "some, or one penalty."
        )
    train = _Table(features, groups, objective)
    test = _Table(features, held_out, objective) if held_out else None
    distinct = torch.stack([features[ids] for ids in sorted({r.ids for g in groups for r in g.rows})])
    mean, scale = distinct.mean(0), distinct.std(0, correction=0)
    # A feature that never varies says nothing; its weight stays 0.
    scale = torch.where(scale > 1e-12 * (1 + mean.abs()), scale, torch.full_like(scale, math.inf))
    head = _Head(objective, settings, distinct.shape[1])
    best: LinearFit | None = None
    penalties = sorted(settings.l2, reverse=True)
    for number, l2 in enumerate(penalties, start=1):
        loss = head.minimise((train.features - mean) / scale, train, l2)
        figures = {} if test is None else test.judge((test.features - mean) / scale, head)
        weight, bias = head.weight / scale, head.bias - float((head.weight / scale) @ mean)
        fitted = LinearFit(weight, bias, head.log_theta_value(), l2, loss, figures)
        if best is None or figures.get("eval/loss", math.inf) < best.figures.get("eval/loss", math.inf):
            best = fitted
        metrics = {
            "train/loss": loss,
            "train/l2": l2,
            "train/progress": 0.95 + 0.05 * number / len(penalties),
        }
        log(_LOGS + number, metrics | figures)
    assert best is not None
    return best


@torch.no_grad()
def install(model: PreTrainedModel, fitted: LinearFit) -> float:
    """Write the fitted weights into the model's score head; return the bias that found no place there."""
    layer = score_layer(model)
    assert layer is not None
    layer.weight.copy_(fitted.weight[None])
    if layer.bias is None:
        return fitted.bias
    layer.bias.fill_(fitted.bias)
    return 0.0


class _Table:
    """The rows of some groups, side by side: (G, K, H) features by an index into distinct rows."""

    def __init__(
        self, features: Mapping[tuple[int, ...], Tensor], groups: Sequence[Group], objective: Objective
    ) -> None:
        cpu = torch.device("cpu")
        self.groups, self.objective = groups, objective
        self.labels: Labels = objective.labels(groups, cpu, torch.float64)
        order = {ids: i for i, ids in enumerate(sorted({row.ids for g in groups for row in g.rows}))}
        self.features = torch.stack([features[ids] for ids in order])
        self.index = torch.zeros(self.labels.mask.shape, dtype=torch.int64)
        for g, group in enumerate(groups):
            self.index[g, : len(group.rows)] = torch.tensor([order[row.ids] for row in group.rows])
        self.known = torch.tensor([objective.usable(group) for group in groups])

    def losses(self, scores: Tensor, log_theta: Tensor | None) -> Tensor:
        """Return the losses of the groups that have one, from (N,) scores of the distinct rows."""
        return self.objective(scores[self.index], self.labels, log_theta)[self.known]

    @torch.no_grad()
    def judge(self, features: Tensor, head: _Head) -> dict[str, float]:
        """Return held-out figures, as `RankingJob.evaluate` names them."""
        scores = features @ head.weight + head.bias
        counts = pair_counts(scores[self.index], self.labels.ranks, self.labels.mask)
        sums = {name: value.item() for name, value in counts._asdict().items()}
        loss = self.losses(scores, head.log_theta()).sum().item()
        return held_out_figures({**sums, "loss": loss}, int(self.known.sum()))


class _Head:
    """Weights on standardised features, and what is fitted beside them."""

    def __init__(self, objective: Objective, settings: RewardModelSettings, width: int) -> None:
        self.objective = objective
        self.weight = torch.zeros(width, dtype=torch.float64)
        #: Bias of ``regression``, and softplus^-1 of log theta.
        self.extra = torch.zeros(2, dtype=torch.float64)
        self.ties = objective.name == "rao_kupper"
        self.learns_theta = self.ties and settings.learn_theta
        self.start = math.log(settings.theta)
        if self.learns_theta:
            self.extra[1] = math.log(math.expm1(self.start))

    @property
    def bias(self) -> float:
        """The intercept on standardised features."""
        return float(self.extra[0].detach())

    def log_theta(self) -> Tensor | None:
        """Return log theta as a tensor with a gradient where it is fitted; None for the other losses."""
        if self.learns_theta:
            return torch.nn.functional.softplus(self.extra[1])
        return torch.tensor(self.start, dtype=torch.float64) if self.ties else None

    def log_theta_value(self) -> float | None:
        """Return log theta as a number."""
        found = self.log_theta()
        return None if found is None else float(found.detach())

    def minimise(self, features: Tensor, table: _Table, l2: float) -> float:
        """Minimise mean loss + l2 / 2 * |w|^2 from where the weights are; return the mean loss.

        The intercept and theta are not penalised.
        """
        weight, extra = self.weight.clone().requires_grad_(), self.extra.clone().requires_grad_()
        self.extra = extra
        optimizer = torch.optim.LBFGS(
            [weight, extra],
            max_iter=_ITERATIONS,
            max_eval=2 * _ITERATIONS,
            history_size=50,
            tolerance_grad=1e-9,
            tolerance_change=1e-14,
            line_search_fn="strong_wolfe",
        )

        def loss_of() -> Tensor:
            scores = features @ weight
            if self.objective.name == "regression":
                scores = scores + extra[0]
            return table.losses(scores, self.log_theta()).mean()

        def closure() -> Tensor:
            optimizer.zero_grad()
            total = loss_of() + l2 / 2 * weight.square().sum()
            torch.autograd.backward(total)
            return total

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            loss = float(loss_of())
        self.weight, self.extra = weight.detach(), extra.detach()
        return loss


def _write(file: Path, features: Mapping[tuple[int, ...], Tensor]) -> None:
    """Keep features in fp32, which is what the network computes, with the ids that they belong to."""
    file.parent.mkdir(parents=True, exist_ok=True)
    named = {
        "features": torch.stack(list(features.values())).float(),
        "lengths": torch.tensor([len(ids) for ids in features]),
        "ids": torch.tensor([one for ids in features for one in ids]),
    }
    temporary = file.with_suffix(".part")
    write_tensors(temporary, named)
    temporary.replace(file)


def _read(file: Path) -> dict[tuple[int, ...], Tensor]:
    named = read_tensors(file)
    rows = torch.split(named["ids"], named["lengths"].tolist())
    return {tuple(ids.tolist()): one for ids, one in zip(rows, named["features"].double(), strict=True)}


def _digest(model: PreTrainedModel, settings: RewardModelSettings) -> str:
    """Return a name for the features that come from these weights in this precision."""
    digest = hashlib.sha256(f"{type(model).__name__} {settings.precision}".encode())
    head = score_layer(model)
    own = set() if head is None else {id(p) for p in head.parameters()}
    for name, parameter in model.named_parameters():
        if id(parameter) not in own:
            digest.update(f"{name} {parameter.detach().double().sum().item()!r}".encode())
    return digest.hexdigest()[:16]
