"""Keep the weights of a frozen network small, or in main memory, and fetch each layer's when it is used.

A reference or a reward model is only read. Its weight matrices can be stored in 16 bits, or on the CPU
beside a GPU, while every forward pass still computes in the network's own precision on its own device:
a parked weight is a property that returns a fetched copy, which lives as long as the layer computes.
Norms and biases, which are small, stay as they are. So do embeddings and heads where the weights go to
main memory: they are looked up, not multiplied, or as large as the copy would be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from textrl.errors import UserError
from textrl.models.layers import blocks

_STORED = {"bf16": torch.bfloat16, "fp16": torch.float16}


class _Fetch(nn.Module):
    """Turns what is stored into what the layer computes with."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.dtype, self.device = dtype, device

    def forward(self, stored: Tensor) -> Tensor:
        return stored.to(device=self.device, dtype=self.dtype, non_blocking=True)


@torch.no_grad()
def park(model: PreTrainedModel, *, precision: str, device: str, keep: Collection[int] = ()) -> int:
    """Store the weight matrices of a frozen network in another way.

    Args:
        model: A network without trainable parameters, on the device that it computes on.
        precision: ``bf16``, ``fp16``, or ``same``.
        device: ``cpu`` moves the blocks' matrices to main memory, ``same`` leaves them.
        keep: Ids of parameters to leave alone, such as those that another network shares.

    Returns:
        Bytes that the computing device holds less than before.

    Raises:
        UserError: When a weight is too large for fp16.
    """
    inside = {id(p) for p in blocks(model).parameters()} if device == "cpu" else set()
    used_as: dict[int, tuple[torch.dtype, torch.device]] = {}
    saved = 0
    for module, name, param in list(_matrices(model, keep)):
        move = id(param) in inside
        if precision == "same" and not move:
            continue
        if id(param) not in used_as:
            used_as[id(param)] = (param.dtype, param.device)
            before = _bytes_on(param, param.device)
            param.data = _stored(param, _STORED.get(precision, param.dtype), move=move)
            saved += before - _bytes_on(param, used_as[id(param)][1])
        # unsafe: the stored tensor has another type than the property, which is the point.
        parametrize.register_parametrization(module, name, _Fetch(*used_as[id(param)]), unsafe=True)
    return saved


def _matrices(model: nn.Module, keep: Collection[int]) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    """Yield (module, name, parameter) of every weight matrix; a tied one once per place."""
    for module in model.modules():
        for name, param in module.named_parameters(recurse=False):
            if param.ndim >= 2 and param.is_floating_point() and id(param) not in keep:
                yield module, name, param


def _stored(param: nn.Parameter, dtype: torch.dtype, *, move: bool) -> Tensor:
    stored = param.detach().to(device="cpu" if move else param.device, dtype=dtype)
    if not bool(torch.isfinite(stored).all()) and bool(torch.isfinite(param).all()):
        largest = float(param.abs().max())
        raise UserError(f"A frozen weight of {largest:.3g} does not fit into fp16; store it as bf16.")
    # Pinned memory lets the copy to the GPU run beside the computation.
    return stored.pin_memory() if move and param.device.type == "cuda" else stored


def _bytes_on(param: Tensor, device: torch.device) -> int:
    return param.numel() * param.element_size() if param.device == device else 0
