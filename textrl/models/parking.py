"""Keep the weights of a frozen network small, or elsewhere, and fetch each layer's when it is used.

A reference or a reward model is only read. Its weight matrices can be stored in 16 bits, on the CPU beside
a GPU, or on the disk, while every forward pass still computes in the network's own precision on its own
device: a parked weight is a property that returns a fetched copy, which lives as long as the layer computes.
Norms and biases, which are small, stay as they are. So do embeddings and heads where the weights leave a
GPU: they are looked up, not multiplied, or as large as the copy would be. A network that computes on the CPU
reads what is on the disk as it is, without a copy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from textrl.data.cache import cache_dir
from textrl.errors import UserError
from textrl.models.layers import blocks
from textrl.models.mapped import MappedWeights

_STORED = {"bf16": torch.bfloat16, "fp16": torch.float16}
#: Attribute of a network whose weights are on the disk.
_FILE = "_textrl_parked_file"


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
        device: ``cpu`` moves the blocks' matrices to main memory, ``disk`` to a file (without a GPU all
            matrices), from which `let_go` takes their memory back; ``same`` leaves them.
        keep: Ids of parameters to leave alone, such as those that another network shares.

    Returns:
        Bytes that the computing device holds less than before, on the disk while nobody reads.

    Raises:
        UserError: When a weight is too large for fp16, or the disk has no room.
    """
    on_cpu = model.device.type == "cpu"
    inside = set() if device == "same" else {id(p) for p in blocks(model).parameters()}
    used_as: dict[int, tuple[torch.dtype, torch.device]] = {}
    to_disk: list[nn.Parameter] = []
    saved = 0
    for module, name, param in list(_matrices(model, keep)):
        move = id(param) in inside or (device == "disk" and on_cpu)
        if precision == "same" and not move:
            continue
        if id(param) not in used_as:
            used_as[id(param)] = (param.dtype, param.device)
            before = _bytes_on(param, param.device)
            stored = _stored(param, _STORED.get(precision, param.dtype), move=move)
            # Pinned memory lets the copy to the GPU run beside the computation; a file has none.
            pinned = device == "cpu" and move and param.device.type == "cuda"
            param.data = stored.pin_memory() if pinned else stored
            if device == "disk" and move:
                to_disk.append(param)
            gone = to_disk and to_disk[-1] is param
            saved += before - (0 if gone else _bytes_on(param, used_as[id(param)][1]))
        if device != "disk" or (param.dtype, param.device) != used_as[id(param)]:
            # unsafe: the stored tensor has another type than the property, which is the point.
            parametrize.register_parametrization(module, name, _Fetch(*used_as[id(param)]), unsafe=True)
    if to_disk:
        _map(model, to_disk)
    return saved


def _map(model: nn.Module, params: list[nn.Parameter]) -> None:
    """Put parameters into a file, which the model keeps."""
    mapped = MappedWeights([p.detach() for p in params], cache_dir() / "parked")
    for param, tensor in zip(params, mapped.tensors, strict=True):
        param.data = tensor
    setattr(model, _FILE, mapped)


def on_disk(model: nn.Module) -> bool:
    """Return whether weights of a network are read from the disk."""
    return hasattr(model, _FILE)


def let_go(model: nn.Module) -> None:
    """Let go of the memory of weights that lie on the disk, until they are read again."""
    mapped = getattr(model, _FILE, None)
    if mapped is not None:
        mapped.release()


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
    return stored


def _bytes_on(param: Tensor, device: torch.device) -> int:
    return param.numel() * param.element_size() if param.device == device else 0
