"""Sums over processes, on top of accelerate.

Every loss is a sum over tokens (or groups) divided by the *global* count of the optimizer step, so the
gradients of the processes are added, not averaged, and no wrapper around the model is needed: one flat
reduction before the optimizer step gives each process the gradient of one process with all the data.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Mapping

import torch
import torch.distributed
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor, nn

from textrl.errors import UserError

#: Elements per reduction; bounds the copy of the gradients to 64 MB in fp32.
BUCKET = 16 * 2**20


def make_accelerator(cpu: bool | None = None) -> Accelerator:
    """Return an Accelerator of all the processes that were launched; at its end the process leaves them.

    Args:
        cpu: True keeps the processes on the CPU (gloo); None uses the GPU where there is one.

    Raises:
        UserError: When the launcher started several processes and accelerate joined only one.
    """
    on_cpu = not torch.cuda.is_available() if cpu is None else cpu
    accelerator = Accelerator(cpu=on_cpu)
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != wanted:
        raise UserError(
            f"{wanted} processes were launched but accelerate joined {accelerator.num_processes}; "
            f"launch with 'torchrun --nproc_per_node {wanted}'."
        )
    if wanted > 1:
        atexit.unregister(leave_group)
        atexit.register(leave_group)
    return accelerator


def leave_group() -> None:
    """Leave the group of processes; does nothing where there is none.

    Gloo's threads hold tensors: those that outlive the interpreter abort the process at its end, now and
    then and after all work was done (https://github.com/pytorch/pytorch/pull/179291).
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def share(accelerator: Accelerator, count: int) -> slice:
    """Return the rows of a list of `count` that this process works on: every n-th, from its own index.

    On a list sorted by length all processes so get the same mix of lengths.
    """
    return slice(accelerator.process_index, count, accelerator.num_processes)


def sum_over_processes(accelerator: Accelerator, tensor: Tensor) -> Tensor:
    """Return the sum of a same-shaped tensor over all processes; the tensor itself where there is one."""
    if accelerator.num_processes == 1:
        return tensor
    total: Tensor = accelerator.reduce(tensor, reduction="sum")
    return total


def sum_metrics(accelerator: Accelerator, local: Mapping[str, float]) -> dict[str, float]:
    """Return each figure summed over processes (float64, one reduction); all must pass the same keys."""
    if accelerator.num_processes == 1:
        return dict(local)
    names = sorted(local)
    values = torch.tensor([local[name] for name in names], dtype=torch.float64, device=accelerator.device)
    return dict(zip(names, sum_over_processes(accelerator, values).tolist(), strict=True))


def global_count(accelerator: Accelerator, local: int) -> int:
    """Return the sum of a count (of tokens, groups, episodes) over all processes."""
    if accelerator.num_processes == 1:
        return local
    count = torch.tensor([local], dtype=torch.int64, device=accelerator.device)
    return int(sum_over_processes(accelerator, count).item())


@torch.no_grad()
def sync_gradients(accelerator: Accelerator, params: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over processes; a missing gradient counts as zero."""
    if accelerator.num_processes == 1:
        return
    for bucket in _buckets(params):
        for param in bucket:
            if param.grad is None:
                param.grad = torch.zeros_like(param)
        flat = torch.cat([param.grad.reshape(-1) for param in bucket if param.grad is not None])
        total = sum_over_processes(accelerator, flat)
        start = 0
        for param in bucket:
            assert param.grad is not None
            param.grad.copy_(total[start : start + param.numel()].view_as(param))
            start += param.numel()


@torch.no_grad()
def broadcast_parameters(accelerator: Accelerator, params: Iterable[nn.Parameter]) -> None:
    """Give every process the parameters of the first, so that all start from the same point."""
    if accelerator.num_processes == 1:
        return
    for param in params:
        param.copy_(broadcast(param.detach().clone(), from_process=0))


def _buckets(params: Iterable[nn.Parameter]) -> Iterable[list[nn.Parameter]]:
    """Group trainable parameters of one dtype and device, up to `BUCKET` elements (or one parameter)."""
    bucket: list[nn.Parameter] = []
    size = 0
    for param in params:
        if not param.requires_grad:
            continue
        alike = not bucket or (bucket[0].dtype == param.dtype and bucket[0].device == param.device)
        if bucket and (not alike or size + param.numel() > BUCKET):
            yield bucket
            bucket, size = [], 0
        bucket.append(param)
        size += param.numel()
    if bucket:
        yield bucket
