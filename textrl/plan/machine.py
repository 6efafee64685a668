"""How fast this machine is at the work that is planned; or, for a GPU by name, what its data sheet says.

Speeds are measured on one or a few blocks of the policy itself with random weights, with the batch sizes of
the plan, so what is not a matrix product (norms, activations, softmax, Python) is in them.
"""

from __future__ import annotations

import copy
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from textrl.errors import UserError, did_you_mean
from textrl.mdp.logprobs import token_logprobs
from textrl.models.decoding import open_decoder
from textrl.models.layers import blocks
from textrl.models.precision import Precision
from textrl.models.stack import run_blocks
from textrl.plan.estimate import Cost, Estimate
from textrl.plan.job import Workload
from textrl.plan.meter import flop_counter

#: Side of the square matrices of the plain product, and bytes read for the bandwidth.
_SIDE, _READ = 1536, 256 * 2**20
#: A measured pass is kept near this many operations, and its weights below this many parameters.
_OPERATIONS, _PARAMETERS = 1e10, 6e7
#: Timed repetitions of each, after one that does not count.
_REPEATS = 3
#: Bytes that an optimizer step moves per trained parameter: AdamW reads four numbers and writes three, the
#: norm and the clipping read two and write one, the average reads two and writes one.
_STEP_BYTES = 13 * 4
#: Share of the data sheet's speed that training reaches, and of its bandwidth; assumed, not measured.
_REACHED = 0.4
_REACHED_BANDWIDTH = 0.6


@dataclass(frozen=True)
class Machine:
    """Speeds of one process.

    Attributes:
        name: Of the processor, and how many threads.
        memory: Bytes that a process can have.
        speeds: Operations per second by kind of `Cost`, and at the vocabulary (``head``).
        matmul: Operations per second of a large matrix product.
        bandwidth: Bytes per second.
        measured: Here and now, or from a data sheet.
    """

    name: str
    memory: int
    speeds: Mapping[str, float]
    matmul: float
    bandwidth: float
    measured: bool


@dataclass(frozen=True)
class Sheet:
    """A GPU's data sheet.

    Attributes:
        bf16: Operations per second of dense products in bf16.
        fp32: The same in fp32, without TF32.
        bandwidth: Bytes per second.
        memory: Bytes.
    """

    bf16: float
    fp32: float
    bandwidth: float
    memory: int


#: NVIDIA's data sheets; bf16 without sparsity.
GPUS = {
    "l4": Sheet(121e12, 30.3e12, 0.30e12, 24 * 10**9),
    "rtx4090": Sheet(165e12, 82.6e12, 1.01e12, 24 * 10**9),
    "a100-40gb": Sheet(312e12, 19.5e12, 1.56e12, 40 * 10**9),
    "a100-80gb": Sheet(312e12, 19.5e12, 2.04e12, 80 * 10**9),
    "h100": Sheet(989e12, 67e12, 3.35e12, 80 * 10**9),
    "h200": Sheet(989e12, 67e12, 4.8e12, 141 * 10**9),
}


def gpu(name: str, found: Estimate, precision: Precision) -> Machine:
    """Return what a GPU of this name should reach.

    Args:
        name: One of `GPUS`.
        found: Whose policy is read once per generated token.
        precision: Of the forward passes.

    Raises:
        UserError: When there is no data sheet of that name.
    """
    sheet = sheet_of(name)
    peak = sheet.fp32 if precision.autocast_dtype is None else sheet.bf16
    reached, bandwidth = _REACHED * peak, _REACHED_BANDWIDTH * sheet.bandwidth
    tokens = found.flops["rollout"]["tokens"]
    # Generating a token reads all weights once, for however many sequences.
    reading = found.decode_steps * found.resident["policy"] / bandwidth
    decode = min(reached, tokens.total / reading) if reading else reached
    speeds = {"train": reached, "score": reached, "head": reached, "decode": decode}
    return Machine(name, sheet.memory, speeds, peak, sheet.bandwidth, measured=False)


def sheet_of(name: str) -> Sheet:
    """Return a GPU's data sheet.

    Raises:
        UserError: When there is none of that name.
    """
    if name not in GPUS:
        raise UserError(f"--gpu is '{name}', of which no data sheet is known.{did_you_mean(name, GPUS)}")
    return GPUS[name]


def measure_here(work: Workload, precision: Precision, *, rows: int) -> Machine:
    """Measure this machine with blocks of the policy; a few seconds.

    Args:
        work: What is planned.
        precision: Of the forward passes.
        rows: Sequences that are generated together.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    length = work.prompt_tokens[1] + work.response_tokens
    with torch.device(device):
        model = _few_blocks(work.policy)
        per_token = 2 * sum(p.numel() for p in blocks(model).parameters())
        batch = max(1, min(work.settings.micro_batch_size, int(_OPERATIONS / (3 * per_token * length))))
        passes = {
            "train": lambda: _blocks(model, batch, length, precision, grad=True),
            "score": lambda: _blocks(model, batch, length, precision, grad=False),
            "head": lambda: _head(work.policy, precision),
        }
        speeds = {name: _speed(run) for name, run in passes.items()}
        speeds["decode"] = _decoding_speed(model, rows, min(work.prompt_tokens[1], 32), precision)
        left, right = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
        if precision.autocast_dtype is not None:
            left, right = left.to(precision.autocast_dtype), right.to(precision.autocast_dtype)
        matmul = 2 * _SIDE**3 / _best_s(lambda: left @ right)
        stored = torch.ones(_READ // 4)
        bandwidth = _READ / _best_s(stored.sum)
    if device.type == "cuda":
        name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(device).total_memory
    else:
        name = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(name, memory, speeds, matmul, bandwidth, measured=True)


def seconds(cost: Cost, machine: Machine) -> float:
    """Return how long a part takes."""
    head = machine.speeds["head"] if cost.kind != "decode" else machine.speeds["decode"]
    return cost.blocks / machine.speeds[cost.kind] + cost.head / head


def stepping_s(work: Workload, found: Estimate, machine: Machine) -> float:
    """Return how long the optimizer steps of an iteration take."""
    steps = work.settings.minibatches * work.settings.epochs
    return steps * found.trained * _STEP_BYTES / machine.bandwidth


def _few_blocks(config: PreTrainedConfig) -> PreTrainedModel:
    """Return a model of as many of the policy's blocks as fit a quick measurement, and few words."""
    config = copy.deepcopy(config)
    config.vocab_size = min(config.vocab_size, 512)
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, name, 0)
    width = config.hidden_size
    count = max(1, min(config.num_hidden_layers, int(_PARAMETERS / (12 * width**2))))
    for name, value in list(vars(config).items()):
        if "layer" in name and isinstance(value, list) and len(value) == config.num_hidden_layers:
            setattr(config, name, value[:count])
    config.num_hidden_layers = count
    with torch.random.fork_rng(devices=[]):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation="sdpa"
        )
    return model.eval()


def _blocks(model: PreTrainedModel, rows: int, length: int, precision: Precision, *, grad: bool) -> None:
    ids = torch.zeros(rows, length, dtype=torch.int64)
    mask = torch.ones(rows, length, dtype=torch.bool)
    with torch.set_grad_enabled(grad), precision.autocast(ids.device):
        out = run_blocks(model, ids, mask, 0, len(blocks(model)), final=True)
    if grad:
        torch.autograd.backward(out.sum())


def _decoding_speed(model: PreTrainedModel, rows: int, prompt: int, precision: Precision) -> float:
    """Return operations per second of generating, a token of `rows` sequences at a time."""
    ids = torch.zeros(rows, prompt, dtype=torch.int64)
    steps = _REPEATS + 2
    with (
        torch.no_grad(),
        precision.autocast(ids.device),
        open_decoder(model, rows, prompt + steps, ()) as decoder,
    ):
        decoder.prefill(ids, torch.ones(rows, prompt, dtype=torch.bool))
        return _speed(lambda: decoder.step(ids[:, 0]))


def _head(config: PreTrainedConfig, precision: Precision) -> None:
    hidden = torch.zeros(64, config.hidden_size)
    weight = torch.zeros(min(config.vocab_size, 32768), config.hidden_size)
    with torch.no_grad(), precision.autocast(hidden.device):
        token_logprobs(hidden, weight, torch.zeros(64, dtype=torch.int64))


def _speed(run: Callable[[], object]) -> float:
    """Return operations per second of a pass."""
    with flop_counter() as counter:
        run()
    return float(counter.get_total_flops()) / _best_s(run)


def _best_s(run: Callable[[], object]) -> float:
    """Return the shortest of a few runs, after one that does not count, s."""
    times = []
    for _ in range(_REPEATS + 1):
        started = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])
