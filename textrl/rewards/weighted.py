"""The weighted sum of reward sources, with every component kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from textrl.errors import PluginError, UserError
from textrl.protocols import Batch, Signal
from textrl.rewards.breakdown import RewardBreakdown, Source
from textrl.rewards.checks import one_line, token_values
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
            if not _has(source, "adapt_weight"):
                continue
            weight = _call(source, "adapt_weight", self._weights[source.name], stats)
            if not isinstance(weight, int | float) or not math.isfinite(weight):
                raise PluginError(f"{source.label} adapted its weight to {weight!r}; return a finite number.")
            self._weights[source.name] = float(weight)

    def metrics(self, batch: Batch) -> dict[str, float]:
        """Return the sources' own figures for a batch, and the weights that follow a controller.

        A source's key with a slash is a full metric name; others become ``source/<name>/<key>``.
        """
        logged: dict[str, float] = {}
        for source in self.sources:
            if _has(source, "adapt_weight"):
                logged[f"source/{source.name}/weight"] = self._weights[source.name]
            if not _has(source, "metrics"):
                continue
            with torch.no_grad():
                figures = _call(source, "metrics", batch)
            for key, value in figures.items():
                logged[key if "/" in key else f"source/{source.name}/{key}"] = float(value)
        return logged

    def observe(self, signals: Sequence[Signal]) -> None:
        """Give signals to the sources that learn online."""
        for source in self.sources:
            if _has(source, "observe"):
                _call(source, "observe", signals)

    def state_dict(self) -> dict[str, Any]:
        """Return weights and the states of stateful sources: JSON values and tensors.

        `textrl.rewards.split_tensors` divides it for a checkpoint.
        """
        states = {s.name: _call(s, "state_dict") for s in self.sources if _has(s, "state_dict")}
        configured = {source.name: source.weight for source in self.sources}
        return {"configured": configured, "weights": self.weights, "sources": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            UserError: When the state belongs to other sources, or to other weights in the config.
        """
        stateful = {s.name for s in self.sources if _has(s, "load_state_dict")}
        _same_names("weights", state["weights"], self.weights)
        _same_names("states", state["sources"], stateful)
        for source in self.sources:
            before = state["configured"][source.name]
            if before != source.weight:
                raise UserError(
                    f"The weight of the reward '{source.name}' was {before} in the run of the checkpoint "
                    f"and is {source.weight} now; resume with the configuration that made the checkpoint."
                )
        for source in self.sources:
            self._weights[source.name] = float(state["weights"][source.name])
            if source.name in stateful:
                _call(source, "load_state_dict", state["sources"][source.name])


def _has(source: Source, name: str) -> bool:
    """Return whether the source's reward has an optional method."""
    return callable(getattr(source.reward, name, None))


def _call(source: Source, name: str, *arguments: Any) -> Any:
    """Call an optional method of the source's reward; its errors get the source's name."""
    try:
        return getattr(source.reward, name)(*arguments)
    except UserError as error:
        raise type(error)(f"{source.label}, {name}(): {error}") from error
    except Exception as error:
        raise PluginError(f"{source.label}, {name}(): {type(error).__name__}: {one_line(error)}.") from error


def _same_names(what: str, saved: Mapping[str, Any], mine: Mapping[str, Any] | set[str]) -> None:
    different = sorted(set(saved) ^ set(mine))
    if different:
        raise UserError(
            f"The checkpoint has the {what} of the reward sources {', '.join(sorted(saved)) or 'none'}, "
            f"this run has {', '.join(sorted(mine)) or 'none'}; "
            "resume with the configuration that made the checkpoint."
        )
