"""Gradient checkpointing: keep a block's input, and compute the block again in the backward pass.

transformers' own switch needs training mode, in which it also turns the key-value cache off; PPO's
networks stay in evaluation mode (no dropout) and generate with a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from textrl.models.layers import blocks
from textrl.models.stack import frozen_depth


def recompute_blocks(model: PreTrainedModel) -> None:
    """Let the trainable blocks of a model be computed again in the backward pass; gradients stay the same.

    Passes without gradient, such as generation, are not touched. Calling it twice changes nothing.
    """
    for block in list(blocks(model))[frozen_depth(model) :]:
        if not (isinstance(block.forward, partial) and block.forward.func is _recomputed):
            # A partial of a bound method: a deep copy of the model then runs its own block.
            block.forward = partial(_recomputed, block.forward)


def _recomputed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    # Without dropout there is no random state to keep.
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
