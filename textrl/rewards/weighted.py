"""The weighted sum of reward sources, with every component kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from textrl.errors import PluginError, UserError
from textrl.protocols import Batch, Signal
from textrl.rewards.breakdown import RewardBreakdown, Source
from textrl.rewards.checks import token_values
from textrl.specs import Side


class RewardSum:
    """Score batches by several sources.

    The environment and the learner each take their `side` of one sum; the sides share the source
    objects and the weights with it, so saving or adapting any of them is seen by all.

    Args:
        sources: What to add up; names must be unique.

    Raises:
        UserError: When two sources have one name or a weight is not finite.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources: tuple[Source, ...] = tuple(sources)
        self._weights: dict[str, float] = {}
        for source in self.sources:
            if source.name in self._weights:
                raise UserError(f"Two reward sources are called '{source.name}'; rename one of them.")
            if not math.isfinite(source.weight):
                raise UserError(
                    f"The weight of the reward '{source.name}' is {source.weight}; use a finite number."
                )
            self._weights[source.name] = float(source.weight)

    @property
    def needs(self) -> frozenset[str]:
        """What batches must carry beyond ids and masks."""
        return frozenset().union(*(source.spec.needs for source in self.sources))

    @property
    def weights(self) -> dict[str, float]:
        """The weights in force, by source; a copy."""
        return {source.name: self._weights[source.name] for source in self.sources}

    def side(self, side: Side) -> RewardSum:
        """Return the sources that are paid by the environment, or those added by the learner."""
        part = RewardSum([source for source in self.sources if source.spec.side == side])
        part._weights = self._weights
        return part

    def __call__(self, batch: Batch) -> RewardBreakdown:
        """Score a batch.

        Raises:
            PluginError: When a source raises, or its answer breaks the contract.
            UserError: When the batch lacks what a source needs.
        """
        mask = batch.response_mask
        total = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
        raw, components = {}, {}
        for source in self.sources:
            raw[source.name] = token_values(source, batch)
            weighted = raw[source.name] * self._weights[source.name]
            if not bool(torch.isfinite(weighted).all()):
                weight = self._weights[source.name]
                raise UserError(f"{source.label} overflows float32 when multiplied by its weight {weight}.")
            components[source.name] = weighted
            total = total + weighted
        return RewardBreakdown(total=total, components=components, raw=raw)

    def adapt_weights(self, stats: Mapping[str, float]) -> None:
        """Let each source with a controller set its own weight, once per iteration.

        Args:
            stats: ``kl_per_sequence`` (nats, averaged over all processes) and ``episodes``.
        """
        for source in self.sources:
            adapt = _method(source, "adapt_weight")
            if adapt is None:
                continue
            weight = adapt(self._weights[source.name], stats)
            if not isinstance(weight, int | float) or not math.isfinite(weight):
                raise PluginError(f"{source.label} adapted its weight to {weight!r}; return a finite number.")
            self._weights[source.name] = float(weight)

    def metrics(self, batch: Batch) -> dict[str, float]:
        """Return the sources' own figures for a batch, and the weights that follow a controller.

        A source's key with a slash is a full metric name; others become ``source/<name>/<key>``.
        """
        logged: dict[str, float] = {}
        for source in self.sources:
            if _method(source, "adapt_weight") is not None:
                logged[f"source/{source.name}/weight"] = self._weights[source.name]
            figures = _method(source, "metrics")
            if figures is None:
                continue
            with torch.no_grad():
                for key, value in figures(batch).items():
                    logged[key if "/" in key else f"source/{source.name}/{key}"] = float(value)
        return logged

    def observe(self, signals: Sequence[Signal]) -> None:
        """Give signals to the sources that learn online."""
        for source in self.sources:
            observe = _method(source, "observe")
            if observe is not None:
                observe(signals)

    def state_dict(self) -> dict[str, Any]:
        """Return weights and the states of stateful sources: JSON values and tensors.

        `textrl.rewards.split_tensors` divides it for a checkpoint.
        """
        states = {}
        for source in self.sources:
            state = _method(source, "state_dict")
            if state is not None:
                states[source.name] = state()
        return {"weights": self.weights, "sources": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            UserError: When the state belongs to other sources.
        """
        stateful = {s.name for s in self.sources if _method(s, "load_state_dict") is not None}
        _same_names("weights", state["weights"], self.weights)
        _same_names("states", state["sources"], stateful)
        for source in self.sources:
            self._weights[source.name] = float(state["weights"][source.name])
            load = _method(source, "load_state_dict")
            if load is not None:
                load(state["sources"][source.name])


def _method(source: Source, name: str) -> Callable[..., Any] | None:
    """Return an optional method of the source's reward, or None."""
    found = getattr(source.reward, name, None)
    return found if callable(found) else None


def _same_names(what: str, saved: Mapping[str, Any], mine: Mapping[str, Any] | set[str]) -> None:
    different = sorted(set(saved) ^ set(mine))
    if different:
        raise UserError(
            f"The checkpoint has the {what} of the reward sources {', '.join(sorted(saved)) or 'none'}, "
            f"this run has {', '.join(sorted(mine)) or 'none'}; "
            "resume with the configuration that made the checkpoint."
        )
