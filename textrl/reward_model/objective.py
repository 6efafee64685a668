"""What a reward model minimises: one of the losses by name, with the labels that it reads.

Shapes: ``G`` groups, ``K`` completions of a group (padded to the largest), ``R`` rows of all groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from textrl.errors import UserError
from textrl.mdp.ranking import (
    best_of_k_loss,
    bradley_terry_loss,
    kwise_loss,
    rao_kupper_loss,
    regression_loss,
)
from textrl.reward_model.data import Group
from textrl.reward_model.settings import RewardModelSettings


class Labels(NamedTuple):
    """What people said about G groups; ``margins`` and ``ratings`` where the loss reads them.

    ``ranks``, ``mask`` and ``ratings`` are (G, K), ``margins`` (G, K, K); padding holds zeros.
    """

    ranks: Tensor
    mask: Tensor
    margins: Tensor | None = None
    ratings: Tensor | None = None


class Objective:
    """A loss and the groups it can learn from.

    Attributes:
        name: Of the loss.
        centre: What ``regression`` subtracts from ratings, since most score heads have no bias: their
            mean over the training completions, unless a value is given; else 0.
    """

    def __init__(
        self, settings: RewardModelSettings, groups: Sequence[Group], centre: float | None = None
    ) -> None:
        """Measure the centre.

        Args:
            settings: Of the training.
            groups: The training groups.
            centre: Of a model that was trained on ratings before, and whose scores have found their level.

        Raises:
            UserError: When no group has what the loss reads.
        """
        self.name, self.settings = settings.loss, settings
        usable = [group for group in groups if self.usable(group)]
        if not usable:
            raise UserError(self._nothing(len(groups)))
        self.centre = 0.0
        if self.name == "regression":
            ratings = [rating for group in usable for rating in group.ratings or ()]
            self.centre = math.fsum(ratings) / len(ratings) if centre is None else centre
        elif self.name == "bradley_terry" and not any(g.margin or g.ratings for g in usable):
            raise UserError(
                "loss is 'bradley_terry', but no group has a margin or ratings; give some or set loss to "
                "'kwise'."
            )

    def usable(self, group: Group) -> bool:
        """Return whether the loss can learn from a group."""
        if self.name == "regression":
            return group.ratings is not None
        return group.decided or (self.name == "rao_kupper" and self.settings.theta > 1)

    def __call__(self, scores: Tensor, labels: Labels, log_theta: Tensor | None) -> Tensor:
        """Return the (G,) losses of (G, K) scores; `log_theta` is of ``rao_kupper``."""
        ranks, mask = labels.ranks, labels.mask
        if self.name == "kwise":
            return kwise_loss(scores, ranks, mask, self.settings.divide)
        if self.name == "bradley_terry":
            assert labels.margins is not None
            return bradley_terry_loss(scores, ranks, mask, labels.margins, self.settings.divide)
        if self.name == "rao_kupper":
            assert log_theta is not None
            return rao_kupper_loss(scores, ranks, mask, log_theta)
        if self.name == "best_of_k":
            return best_of_k_loss(scores, ranks, mask)
        assert labels.ratings is not None
        return regression_loss(scores, labels.ratings - self.centre, mask)

    def labels(
        self, groups: Sequence[Group], device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Labels:
        """Lay out what people said about G groups."""
        shape = (len(groups), max(len(group.rows) for group in groups))
        mask = torch.zeros(shape, dtype=torch.bool, device=device)
        ranks = torch.zeros(shape, device=device)
        for g, group in enumerate(groups):
            mask[g, : len(group.rows)] = True
            ranks[g, : len(group.rows)] = torch.tensor(group.ranks)
        if self.name not in ("regression", "bradley_terry"):
            return Labels(ranks, mask)
        ratings = torch.zeros(shape, dtype=dtype, device=device)
        margins = torch.zeros((*shape, shape[1]), dtype=dtype, device=device)
        for g, group in enumerate(groups):
            if group.ratings is None:
                margins[g] = group.margin
                continue
            ratings[g, : len(group.rows)] = torch.tensor(group.ratings, dtype=dtype)
            margins[g] = ratings[g][:, None] - ratings[g][None, :]
        return Labels(ranks, mask, margins * self.settings.margin_scale, ratings)

    def _nothing(self, count: int) -> str:
        if self.name == "regression":
            return f"loss is 'regression', but none of the {count} groups has ratings; give some."
        return f"None of the {count} groups has two completions of different rank; give some."


class TieWidth:
    """Theta of ``rao_kupper``: a number, or a parameter that hangs on the model while it is trained.

    On the model it is clipped, stepped, saved and restored with the weights. Adam steps by about the
    learning rate whatever the gradient's size, and that of a network's weights would hardly move a
    logarithm; so a step of the parameter counts theta_lr / lr times, while its gradient stays as it is
    and takes no more than its part in the norm that is clipped.
    """

    _NAME = "textrl_log_theta"

    def __init__(self, settings: RewardModelSettings, model: PreTrainedModel) -> None:
        """Hang the parameter on the model where theta is learned."""
        self.model, self.used = model, settings.loss == "rao_kupper"
        self.start, self.rate = math.log(settings.theta), settings.theta_lr / settings.lr
        self.learned = self.used and settings.learn_theta and settings.mode != "linear"
        if self.learned:
            device = next(model.parameters()).device
            model.register_parameter(self._NAME, nn.Parameter(torch.zeros((), device=device)))

    def log(self) -> Tensor | None:
        """Return log theta, a scalar above 0 where it is learned; None for the other losses."""
        if not self.used:
            return None
        if not self.learned:
            return torch.tensor(self.start)
        moved: Tensor = getattr(self.model, self._NAME)
        moved = moved + (self.rate - 1) * moved.detach()
        # softplus(x) > 0, and x is such that a parameter of 0 gives the start.
        return nn.functional.softplus(moved + math.log(math.expm1(self.start)))

    def remove(self) -> float | None:
        """Take the parameter off the model and return theta; None for the other losses."""
        found = self.log()
        if self.learned:
            delattr(self.model, self._NAME)
            self.learned = False
        if found is None:
            return None
        self.start = float(found.detach())
        return math.exp(self.start)
