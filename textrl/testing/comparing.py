"""Comparing answers and inputs."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from textrl.protocols import Batch, Signal
from textrl.testing.results import demand

#: How far two answers for the same episode may differ: models sum in another order in another batch.
ABSOLUTE, RELATIVE = 1e-5, 1e-4


def demand_same(first: Tensor, second: Tensor, what: str) -> None:
    """Raise `Violation` unless two answers agree within rounding."""
    same = first.shape == second.shape and torch.allclose(first, second, rtol=RELATIVE, atol=ABSOLUTE)
    demand(same, f"{what} differ: {_shown(first)} and {_shown(second)}.")


def contents(batch: Batch) -> dict[str, Any]:
    """Return the fields of a batch that are data."""
    fields = dataclasses.fields(batch)
    return {item.name: getattr(batch, item.name) for item in fields if item.name != "memo"}


def copied(value: Any) -> Any:
    """Return a copy that shares nothing."""
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def equal(first: Any, second: Any) -> bool:
    """Return whether two fields of a batch are equal."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and first.dtype == second.dtype and torch.equal(first, second)
    return bool(first == second)


def signals(number: int) -> Sequence[Signal]:
    """Return three signals about the first seconds of a display; `number` tells two sets apart."""
    return [
        Signal(value=value + number, time_s=0.3 * (index + 1) + 10.0 * number)
        for index, value in enumerate((1.0, -1.0, 1.0))
    ]


def _shown(value: Tensor) -> str:
    return str([round(number, 6) for number in value.flatten()[:8].tolist()])
