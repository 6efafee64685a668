"""One plan as plain data: what ``textrl plan --json`` prints."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from textrl.config import ConfigNode
from textrl.errors import UserError
from textrl.memory import peak_bytes
from textrl.models.precision import Precision, resolve_precision
from textrl.plan.estimate import Estimate, estimate
from textrl.plan.job import Workload, read_workload
from textrl.plan.machine import Machine, measure_here, seconds, sheet_of, stepping_s
from textrl.plan.machine import gpu as gpu_of
from textrl.registry import Registry

#: What CUDA itself takes of a GPU; typical, not measured.
_CUDA_BYTES = 600 * 2**20


def make_plan(
    node: ConfigNode,
    registry: Registry,
    *,
    gpus: int | None = None,
    gpu: str | None = None,
    prompt_tokens: int | None = None,
    response_tokens: int | None = None,
) -> dict[str, Any]:
    """Return memory (bytes), operations and times (s) of a config, by part.

    Args:
        node: The config.
        registry: Where models and rewards are looked up.
        gpus: Plan for so many GPUs; None plans for this machine, unless `gpu` is given.
        gpu: A name of `textrl.plan.machine.GPUS`.
        prompt_tokens: Length of a prompt; None looks at the prompts.
        response_tokens: Mean length of a response; None is the limit.

    Raises:
        UserError: When the config cannot be planned.
    """
    work = read_workload(node, registry, prompt_tokens=prompt_tokens)
    overhead = _own_bytes()
    if gpu is not None:
        sheet_of(gpu)
    if response_tokens is not None and response_tokens > work.response_tokens:
        raise UserError(
            f"--response-tokens is {response_tokens}, more than the {work.response_tokens} of the config."
        )
    settings, processes = work.settings, gpus or 1
    elsewhere = gpus is not None or gpu is not None
    on_gpu = elsewhere or torch.cuda.is_available()
    precision = resolve_precision(settings.precision)
    if elsewhere:
        precision = Precision(None if settings.precision == "fp32" else torch.bfloat16)
    found = estimate(work, processes=processes, precision=precision, gpu=on_gpu)
    timed = found
    if response_tokens is not None:
        shorter = replace(work, response_tokens=response_tokens)
        timed = estimate(shorter, processes=processes, precision=precision, gpu=on_gpu)
    machine: Machine | None = None
    if gpu is not None:
        machine = gpu_of(gpu, timed, precision)
    elif not elsewhere:
        episodes = settings.episodes_per_iteration
        machine = measure_here(work, precision, rows=min(settings.rollout_batch_size or episodes, episodes))
    data = _plain(work, found, _CUDA_BYTES if on_gpu else overhead)
    data |= {"precision": precision.name, "processes": processes}
    most = work.response_tokens
    data["response_tokens"] = {"counted": response_tokens or most, "most": most}
    return data | _work(work, timed, machine, data["memory_bytes"]["peak"])


def _plain(work: Workload, found: Estimate, overhead: int) -> dict[str, Any]:
    """Return what was planned, and its memory."""
    return {
        "config": work.config,
        "model": work.model,
        "parameters": found.parameters,
        "trained_parameters": found.trained,
        "episodes_per_iteration": work.settings.episodes_per_iteration,
        "prompt_tokens": {"mean": work.prompt_tokens[0], "most": work.prompt_tokens[1]},
        "iterations": work.iterations,
        "memory_bytes": {
            "resident": found.resident,
            "transient": found.transient,
            "tensors_peak": found.peak,
            "overhead": overhead,
            "peak": found.peak + overhead,
            "offloaded": found.offloaded,
        },
        "notes": list(work.notes),
    }


def _work(work: Workload, timed: Estimate, machine: Machine | None, peak: int) -> dict[str, Any]:
    """Return the operations of a process, and how long they take where the machine is known."""
    data: dict[str, Any] = {
        "flops_per_iteration": {
            phase: {name: cost.total for name, cost in parts.items()} for phase, parts in timed.flops.items()
        },
        "flops": timed.total_flops * work.iterations,
    }
    if machine is None:
        return data
    times = {
        phase: sum(seconds(cost, machine) for cost in parts.values()) for phase, parts in timed.flops.items()
    }
    times["optimizer"] = stepping_s(work, timed, machine)
    return data | {
        "machine": _machine(machine),
        "seconds_per_iteration": times,
        "seconds": sum(times.values()) * work.iterations,
        "fits": peak <= machine.memory,
    }


def _machine(machine: Machine) -> dict[str, Any]:
    return {
        "name": machine.name,
        "memory_bytes": machine.memory,
        "measured": machine.measured,
        "flops_per_second": {"matmul": machine.matmul, **machine.speeds},
        "bytes_per_second": machine.bandwidth,
    }


def _own_bytes() -> int:
    """Return what Python and its libraries take: the size of this process, which holds no model."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except OSError:  # no Linux: the largest size so far
        return peak_bytes()
