"""Causal attention over rows that start at the left, where padding needs no mask.

Shapes: ``B`` sequences, ``L`` tokens, ``G`` key-value heads, ``R`` query heads of each, ``D`` their width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def causal_attention(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Return what every token reads from itself and the tokens before it.

    Padding at the right end of a row is looked at by no earlier token, so the fused kernel may take its
    causal path, which skips half of the scores; with a mask it computes all of them.

    Args:
        query: (B, L, G * R, D).
        key: (B, L, G, D).
        value: (B, L, G, D).
        scale: Multiplies the scores.

    Returns:
        (B, L, G * R, D).
    """
    if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        # The fused kernel's backward pass is three times slower in bf16 than in fp32 on a CPU with bf16
        # instructions. Without a gradient too, or the ratio of the first minibatch would not be 1.
        with torch.autocast("cpu", enabled=False):
            return _fused(query.float(), key.float(), value.float(), scale)
    return _fused(query, key, value, scale)


def _fused(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    out = torch.nn.functional.scaled_dot_product_attention(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        is_causal=True,
        scale=scale,
        enable_gqa=query.shape[2] != key.shape[2],
    )
    return out.transpose(1, 2)
