"""What every learner on text answers to `predict`: the next token of one observation or of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from textrl.mdp.logprobs import logits_of
from textrl.mdp.sampling import greedy, sample
from textrl.models.stack import final_hidden
from textrl.rollout import head_of


@torch.no_grad()
def next_tokens(
    policy: PreTrainedModel,
    observation: Mapping[str, Any],
    *,
    temperature: float,
    seed: int,
    deterministic: bool,
    episodes: Any = None,
    positions: Any = None,
    context: AbstractContextManager[object],
    advised: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None = None,
) -> Any:
    """Choose the next token for one observation or a batch of them.

    Args:
        policy: A causal LM in evaluation mode.
        observation: ``input_ids`` and ``attention_mask``, (L,) or (B, L).
        temperature: Divides the logits.
        seed: Of the sampling noise.
        deterministic: Take the most probable token.
        episodes: Episode numbers, which key the noise with the seed; 0 where not given.
        positions: Index of the token in its response; 0 where not given.
        context: What the forward pass runs in.
        advised: Changes the (B, V) logits, given also (B, L) ids and mask and the (B,) last columns.

    Returns:
        () or (B,) int64.
    """
    ids = torch.as_tensor(np.asarray(observation["input_ids"]), dtype=torch.int64)
    mask = torch.as_tensor(np.asarray(observation["attention_mask"])).bool()
    single, device = ids.ndim == 1, policy.device
    ids, mask = (x[None].to(device) if single else x.to(device) for x in (ids, mask))
    last = torch.where(mask, torch.arange(ids.shape[1], device=device), -1).amax(1)
    with context:
        hidden = final_hidden(policy, ids, mask)[torch.arange(len(ids), device=device), last]
        logits = logits_of(hidden, *head_of(policy), temperature)
        if advised is not None:
            logits = advised(logits, ids, mask, last)
    if deterministic:
        actions = greedy(logits)
    else:
        actions = sample(logits, seed, *(_keys(given, len(ids), device) for given in (episodes, positions)))
    out = actions.cpu().numpy()
    return out[0] if single else out


def _keys(given: Any, count: int, device: torch.device) -> Tensor:
    numbers = np.zeros((), np.int64) if given is None else np.asarray(given, np.int64)
    return torch.from_numpy(np.broadcast_to(numbers, (count,)).copy()).to(device)
