"""What one scoring of a batch gives: the total that the learner sees, and where it came from.

Shapes: ``B`` sequences, ``T`` response tokens (right-padded).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from textrl.errors import UserError
from textrl.protocols import Reward
from textrl.specs import RewardSpec

#: Largest admitted |total - sum of components|, relative to the sum of |components|.
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Source:
    """One built reward and the weight it starts with.

    Attributes:
        name: The name under ``sources:`` in the config; unique in a sum.
        spec: The record it was built from.
        reward: The built reward.
        weight: Initial weight; `RewardSum.weights` holds the one in force.
        plugin: Who registered the record, as the registry's `owner` puts it; by default the package of
            the record's target.
    """

    name: str
    spec: RewardSpec
    reward: Reward
    weight: float = 1.0
    plugin: str = ""

    @property
    def label(self) -> str:
        """How errors name this source: its own name and its plugin's."""
        alias = "" if self.name == self.spec.name else f" ({self.spec.name})"
        return f"The reward '{self.name}'{alias} of {self.plugin or package(self.spec)}"


@dataclass(frozen=True, eq=False)
class RewardBreakdown:
    """Rewards of a batch by source; an episode's reward stands on its last real action.

    Attributes:
        total: (B, T) float32, the weighted sum, before any clipping or whitening.
        components: Source name -> (B, T) float32, weighted.
        raw: Source name -> (B, T) float32, as the source gave it.

    Raises:
        AssertionError: When the components do not add up to the total (relative 1e-6).
    """

    total: Tensor
    components: Mapping[str, Tensor]
    raw: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if self.components.keys() != self.raw.keys():
            raise AssertionError("the weighted and the raw components have different names")
        summed = torch.zeros_like(self.total)
        magnitude = torch.zeros_like(self.total)
        for name, component in self.components.items():
            if component.shape != self.total.shape:
                raise AssertionError(f"component '{name}' has shape {tuple(component.shape)}")
            summed = summed + component
            magnitude = magnitude + component.abs()
        if not bool(((summed - self.total).abs() <= TOLERANCE * magnitude).all()):
            worst = float((summed - self.total).abs().max())
            raise AssertionError(f"the weighted components miss the total reward by up to {worst:.3g}")

    def metrics(self) -> dict[str, float]:
        """Mean per episode of each weighted component (``reward/<source>``) and of ``reward/total``."""
        episodes = max(self.total.shape[0], 1)
        logged = {f"reward/{name}": float(c.sum()) / episodes for name, c in self.components.items()}
        logged["reward/total"] = float(self.total.sum()) / episodes
        return logged

    def episode(self) -> dict[str, list[float]]:
        """Sums per episode: each weighted component by name, and ``total``; B numbers each."""
        sums = {name: c.sum(-1).tolist() for name, c in self.components.items()}
        return {**sums, "total": self.total.sum(-1).tolist()}


def package(spec: RewardSpec) -> str:
    """Name the package that a record's target is in, where the registry was not asked."""
    return f"plugin '{spec.target.partition(':')[0].partition('.')[0]}'"


def add(first: RewardBreakdown, second: RewardBreakdown) -> RewardBreakdown:
    """Join what the environment paid and what the learner adds (KL), for the same batch.

    Raises:
        UserError: When both have a source of the same name.
        ValueError: When the shapes differ, that is, the batches were not the same.
    """
    twice = sorted(first.components.keys() & second.components.keys())
    if twice:
        raise UserError(f"The reward source '{twice[0]}' is paid twice; give one of the two another name.")
    if first.total.shape != second.total.shape:
        shapes = f"{tuple(first.total.shape)} and {tuple(second.total.shape)}"
        raise ValueError(f"the two breakdowns have the shapes {shapes}; they must come from the same batch")
    device = first.total.device
    return RewardBreakdown(
        total=first.total + second.total.to(device),
        components={**first.components, **{n: c.to(device) for n, c in second.components.items()}},
        raw={**first.raw, **{n: c.to(device) for n, c in second.raw.items()}},
    )


def spread(values: Tensor, mask: Tensor) -> Tensor:
    """Put one value per episode on its last real action.

    Args:
        values: (B,) rewards.
        mask: (B, T) bool; every row has at least one True.

    Returns:
        (B, T), zero elsewhere.
    """
    positions = torch.arange(mask.shape[1], device=mask.device)
    last = (positions * mask).amax(dim=1)
    out = torch.zeros(mask.shape, dtype=values.dtype, device=values.device)
    return out.scatter_(1, last[:, None], values[:, None])
