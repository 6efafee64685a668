"""Episodes with any texts, for judges: the ids behind them are one token each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from textrl.protocols import Batch
from textrl.registry import get_registry
from textrl.rewards import build_reward


def episodes(
    responses: Sequence[str],
    prompts: Sequence[str] | None = None,
    records: Sequence[Mapping[str, Any]] | None = None,
) -> Batch:
    """Return a batch of responses, with empty prompts and records where none are given."""
    ids = torch.ones((len(responses), 1), dtype=torch.int64)
    mask = torch.ones_like(ids, dtype=torch.bool)
    return Batch(
        prompt_ids=ids,
        prompt_mask=mask,
        response_ids=ids,
        response_mask=mask,
        prompt_text=list(prompts) if prompts is not None else [""] * len(responses),
        text=list(responses),
        records=list(records) if records is not None else [{} for _ in responses],
    )


def judge(name: str, **settings: Any) -> Any:
    """Build a registered reward from plain settings."""
    spec = get_registry().find("reward", name)
    return build_reward(spec, settings)  # type: ignore[arg-type]


def rate(name: str, responses: Sequence[str], **settings: Any) -> list[float]:
    """Return what a judge gives to responses without prompts."""
    found: list[float] = judge(name, **settings)(episodes(responses)).tolist()
    return found
