"""Products whose input is computed again in the backward pass rather than kept for it.

A norm or an activation costs a walk through memory, and the product after it a hundred times that. Kept for
the gradient of the product's weight, outputs of norms and activations are nearly half of what a GPT-2 block
leaves behind; computed again from what those keep for themselves they are nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from textrl.models.products import as_autocast, project

#: Numbers in an input from which it is worth the while.
LARGE = 1 << 18


def project_again(module: nn.Module, compute: Callable[[], Tensor]) -> Tensor:
    """Apply a projection to what `compute` returns, (n, K) -> (n, N), without keeping that.

    Args:
        module: Of a block; see `project`.
        compute: Gives the same tensor whenever it is called; called once more in the backward pass.
    """
    x = as_autocast(compute())
    if x.numel() < LARGE or not torch.is_grad_enabled():
        return project(module, x)
    # Not its address: tensors without memory, by which `textrl plan` counts, have none.
    storage, shape, dtype = x.untyped_storage()._cdata, x.shape, x.dtype

    def pack(kept: Tensor) -> Any:
        # What is handed over is another object on the same memory.
        same = kept.untyped_storage()._cdata == storage and kept.shape == shape and kept.dtype == dtype
        return compute if same else kept

    def unpack(packed: Any) -> Tensor:
        return packed if isinstance(packed, Tensor) else compute().detach().to(dtype)

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        return project(module, x)
