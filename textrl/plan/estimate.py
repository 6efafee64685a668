"""Memory and arithmetic of one iteration of PPO-ptx, part by part, on one of several equal processes.

The passes are the learner's own, run on tensors without memory; how often each runs is counted here. Every
response is taken to have its full length, so both are upper bounds where episodes end early.

Shapes: ``B`` sequences, ``P`` prompt tokens, ``T`` response tokens, ``L = P + T``, ``H`` width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from textrl.mdp.logprobs import token_logprobs
from textrl.mdp.sampling import sample_with_logprobs
from textrl.models import packed
from textrl.models.decoding import open_decoder
from textrl.models.layers import blocks
from textrl.models.precision import Precision
from textrl.models.products import head_logits
from textrl.models.stack import Trunk, final_hidden
from textrl.plan.job import Workload
from textrl.plan.meter import Reading, measure
from textrl.plan.shadow import Shadow, shadow_of, stored_bytes
from textrl.rollout import head_of


@dataclass(frozen=True)
class Cost:
    """Operations of one part, a multiplication and an addition being two.

    Attributes:
        blocks: In transformer blocks.
        head: At the vocabulary.
        kind: How they run: ``train`` (with a backward pass), ``score`` (without), ``decode`` (a token at
            a time).
    """

    blocks: float
    head: float
    kind: str

    @property
    def total(self) -> float:
        """Both together."""
        return self.blocks + self.head


@dataclass(frozen=True)
class Estimate:
    """What one process needs.

    Attributes:
        resident: Bytes that are held throughout, by part.
        transient: Bytes that a phase needs beside them, by part; of each phase's parts all live at once.
        offloaded: Bytes in main memory, or mapped from the disk, beside a GPU.
        flops: Of one iteration, by phase and part.
        decode_steps: Passes that generate one token for a batch of sequences, in an iteration.
        trained: Parameters that learn.
        parameters: Parameters of the policy.
    """

    resident: dict[str, int]
    transient: dict[str, dict[str, int]]
    offloaded: int
    flops: dict[str, dict[str, Cost]]
    decode_steps: int
    trained: int
    parameters: int

    @property
    def peak(self) -> int:
        """Bytes of tensors at the worst moment."""
        return sum(self.resident.values()) + max(sum(parts.values()) for parts in self.transient.values())

    @property
    def total_flops(self) -> float:
        """Operations of one iteration on one process."""
        return sum(cost.total for parts in self.flops.values() for cost in parts.values())


@dataclass
class _Book:
    """The estimate in the making, and what its parts have in common."""

    work: Workload
    shadow: Shadow
    precision: Precision
    processes: int
    gpu: bool
    gradients: dict[str, int] = field(default_factory=dict)
    on_disk: int = 0
    resident: dict[str, int] = field(default_factory=dict)
    transient: dict[str, dict[str, int]] = field(default_factory=dict)
    flops: dict[str, dict[str, Cost]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.work.settings
        self.policy: PreTrainedModel = self.shadow.networks.policy
        self.width = int(self.policy.get_input_embeddings().weight.shape[1])
        self.prompt, self.response = self.work.prompt_tokens[1], self.work.response_tokens
        self.length = self.prompt + self.response
        self.episodes = math.ceil(settings.episodes_per_iteration / self.processes)
        share = math.ceil(settings.episodes_per_iteration / settings.minibatches / self.processes)
        self.micro = min(settings.micro_batch_size, share)
        self.together = min(settings.rollout_batch_size or self.episodes, self.episodes)
        # Where the code lists real tokens, shorter prompts cost less; else all are as long as the longest.
        mean = self.work.prompt_tokens[0] + self.response
        self.real = mean / self.length if packed.packable(self.policy) and not self.gpu else 1.0

    def autocast(self) -> AbstractContextManager[object]:
        return self.precision.autocast("cpu")


def estimate(work: Workload, *, processes: int = 1, precision: Precision, gpu: bool = False) -> Estimate:
    """Work out what each of `processes` equal processes needs.

    Args:
        work: See `read_workload`.
        processes: Among which the episodes are divided; every process holds all networks.
        precision: Of the forward passes.
        gpu: Whether the processes have GPUs, beside which an offloaded reference is in main memory.
    """
    with shadow_of(work, gpu=gpu) as shadow:
        book = _Book(work, shadow, precision, processes, gpu)
        offloaded = _weights(book, gpu)
        _rollout(book)
        _scoring(book)
        _update(book)
        trained = shadow.networks.trained()
        count = sum(p.numel() for params in trained.values() for p in params.values())
        parameters = sum(p.numel() for p in book.policy.parameters())
        steps = math.ceil(book.episodes / book.together) * book.response
    return Estimate(book.resident, book.transient, offloaded, book.flops, steps, count, parameters)


def _weights(book: _Book, gpu: bool) -> int:
    """Enter what is held throughout; return the bytes that stand in main memory beside a GPU."""
    networks, settings = book.shadow.networks, book.work.settings
    known: set[int] = set()
    held = {"policy": networks.policy, "reference": networks.reference, "value network": networks.value}
    on_disk = {"reference"} if settings.reference_device == "disk" else set()
    for scorer, model in zip(book.work.reward_models, book.shadow.reward_models, strict=True):
        held[f"reward model ({scorer.name})"] = model
        on_disk |= {f"reward model ({scorer.name})"} if scorer.on_disk else set()
    offloaded = 0
    for name, model in held.items():
        away = name in on_disk or (name == "reference" and settings.reference_device == "cpu")
        if away and gpu:  # which holds a layer of it at a time, and its embeddings
            offloaded += stored_bytes([p for p in blocks(model).parameters() if p.ndim >= 2], known)
        elif name in on_disk:  # one network is read at a time
            size = stored_bytes([p for p in model.parameters() if p.ndim >= 2], known)
            book.on_disk = max(book.on_disk, size)
        book.resident[name] = stored_bytes(model.parameters(), known)
    trained = networks.trained()
    sizes = {
        name: sum(p.numel() * p.element_size() for p in params.values()) for name, params in trained.items()
    }
    book.resident["Adam's two moments"] = 2 * sum(sizes.values())
    book.resident["averaged weights (EMA)"] = sizes["policy"] if settings.ema_decay > 0 else 0
    kept = len(networks.depths) * book.width * 4
    # Ids, three masks, and seven figures per token: log-probabilities, values, rewards and what follows.
    book.resident["experience of an iteration"] = book.episodes * book.length * (kept + 11 + 7 * 4)
    # A value network has its gradients when the policy's are gone, a head together with them.
    book.gradients = {"policy": sum(sizes.values())} if networks.value_is_head else sizes
    return offloaded


def _rollout(book: _Book) -> None:
    """Enter generation: the prompts in one pass, then a token at a time."""
    config, rows = book.policy.config, book.together
    heads = config.num_attention_heads
    groups = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or book.width // heads
    number = 2 if book.precision.autocast_dtype is not None else 4
    cache = rows * book.length * len(blocks(book.policy)) * 2 * groups * size * number
    prompts, first, head = _generate(book, book.prompt)
    # A token that sees c others costs a + bc: a second length gives b.
    further = 16
    slope = (_generate(book, book.prompt + further)[1].flops - first.flops) / further
    # The last token is fed too where the outputs of frozen blocks are kept.
    steps = book.response if book.shadow.networks.depths else book.response - 1
    tokens = sum(first.flops + slope * step for step in range(steps))
    at_once = max(prompts.peak, cache + max(first.peak, head.peak))
    book.transient["rollout"] = {"key-value cache": cache, "the prompts, or a token of each": at_once - cache}
    share = book.episodes / rows
    book.flops["rollout"] = {
        "prompts": Cost(share * prompts.flops, share * head.flops, "score"),
        "tokens": Cost(share * tokens, share * head.flops * (book.response - 1), "decode"),
    }


def _generate(book: _Book, prompt: int) -> tuple[Reading, Reading, Reading]:
    """Measure feeding prompts, feeding one token of each row, and choosing a token."""
    rows, policy = book.together, book.policy
    ids = torch.zeros(rows, prompt, dtype=torch.int64)
    mask = torch.ones(rows, prompt, dtype=torch.bool)
    book.shadow.answers.declare(mask, rows * prompt)
    zeros, depths = torch.zeros(rows, dtype=torch.int64), book.shadow.networks.depths
    weight, bias = head_of(policy)
    with torch.no_grad(), open_decoder(policy, rows, prompt + book.response, depths) as decoder:
        with measure() as prompts, book.autocast():
            hidden = decoder.prefill(ids, mask)
        with measure() as head, book.autocast():
            logits = head_logits(hidden, weight, bias, book.work.settings.temperature)
            tokens, _ = sample_with_logprobs(logits, 0, zeros, zeros)
        with measure() as step, book.autocast():
            decoder.step(tokens)
    return prompts, step, head


def _scoring(book: _Book) -> None:
    """Enter the passes without gradient over whole sequences."""
    networks, settings = book.shadow.networks, book.work.settings
    costs, peaks = {}, {}
    parts: list[tuple[str, PreTrainedModel, str, int | None]] = [
        ("policy", networks.policy, "entropy", None),
        ("reference", networks.reference, "logprobs", None),
    ]
    if not networks.value_is_head:
        parts.append(("value network", networks.value, "values", None))
    for scorer, model in zip(book.work.reward_models, book.shadow.reward_models, strict=True):
        parts.append((f"reward model ({scorer.name})", model, "blocks", scorer.batch))
    for name, model, what, batch in parts:
        rows = min(batch or settings.micro_batch_size, book.episodes)
        reading = _pass(book, model, rows, book.length, what=what, grad=False)
        peaks[name] = reading.peak
        at_head = _head_flops(book, model, grad=False) if what in ("entropy", "logprobs") else 0.0
        costs[name] = _split(reading, rows, book.episodes, at_head * book.response, "score", book.real)
    book.flops["scoring"] = costs
    book.transient["scoring"] = {"activations of a micro-batch": max(peaks.values())}
    if book.on_disk:
        book.transient["scoring"]["weights read from the disk"] = book.on_disk


def _update(book: _Book) -> None:
    """Enter the passes with gradient: PPO's, and the pretraining term's."""
    networks, settings = book.shadow.networks, book.work.settings
    policy, sequences = networks.policy, book.episodes * settings.epochs
    what = "both" if networks.value_is_head else "logprobs"
    ours = _pass(book, policy, book.micro, book.length, what=what, grad=True)
    at_head = _head_flops(book, policy, grad=True)
    costs = {"policy": _split(ours, book.micro, sequences, at_head * book.response, "train", book.real)}
    peaks = {"policy": ours.peak}
    if not networks.value_is_head:
        theirs = _pass(book, networks.value, book.micro, book.length, what="values", grad=True)
        costs["value network"] = _split(theirs, book.micro, sequences, 0.0, "train", book.real)
        peaks["value"] = theirs.peak
    book.flops["update"] = costs
    if settings.ptx_coef > 0:
        per_step = settings.episodes_per_iteration // settings.minibatches
        share = math.ceil(max(1, round(per_step * settings.ptx_per_episode)) / book.processes)
        examples = share * settings.minibatches * settings.epochs
        rows, tokens = min(settings.micro_batch_size, share), settings.ptx_length
        text = _pass(book, policy, rows, tokens, what="logprobs", grad=True, response=tokens - 1, alone=True)
        if networks.packs and math.ceil(per_step / book.processes) + share <= settings.micro_batch_size:
            peaks["policy"] += text.peak  # in one pass
        peaks["policy"] = max(peaks["policy"], text.peak)
        book.flops["pretraining"] = {"policy": _split(text, rows, examples, at_head * (tokens - 1), "train")}
    largest = max(peaks, key=lambda name: book.gradients[name] + peaks[name])
    book.transient["update"] = {
        "gradients of one network": book.gradients[largest],
        "activations, and gradients in the making": peaks[largest],
    }


def _split(reading: Reading, rows: int, sequences: float, head: float, kind: str, real: float = 1.0) -> Cost:
    """Spread a measured pass over `rows` sequences to all.

    Args:
        reading: Of the pass.
        rows: Its sequences.
        sequences: How many there are.
        head: The part of one sequence at the vocabulary.
        kind: Of the cost.
        real: Share of the tokens in blocks that are computed.
    """
    return Cost(sequences * (reading.flops / rows - head) * real, sequences * head, kind)


def _pass(
    book: _Book,
    model: PreTrainedModel,
    rows: int,
    length: int,
    *,
    what: str,
    grad: bool,
    response: int | None = None,
    alone: bool = False,
) -> Reading:
    """Measure one pass of the learner's own code over (rows, length) tokens, to the head and back.

    Args:
        book: The estimate in the making.
        model: The network.
        rows: Sequences.
        length: Tokens of each.
        what: ``blocks``, ``logprobs``, ``entropy``, ``values``, or ``both`` (log-probabilities and values).
        grad: With a backward pass.
        response: Tokens at the end of each that are actions.
        alone: Without the outputs of the policy's frozen blocks, which else are at hand.
    """
    networks = book.shadow.networks
    response = book.response if response is None else response
    if grad:  # gradients of earlier micro-batches are there already
        for param in model.parameters():
            param.grad = torch.zeros_like(param) if param.requires_grad else None
    ids = torch.zeros(rows, length, dtype=torch.int64)
    mask = torch.ones(rows, length, dtype=torch.bool)
    actions = torch.ones(rows, length, dtype=torch.bool)
    book.shadow.answers.declare(mask, rows * response)
    runs: dict[str, Callable[[Trunk | None], Any]] = {
        "blocks": lambda trunk: final_hidden(model, ids, mask, trunk),
        "logprobs": lambda trunk: networks.logprobs(model, ids, mask, actions, trunk),
        "entropy": lambda trunk: networks.logprobs_and_entropy(model, ids, mask, actions, trunk),
        "values": lambda trunk: networks.values(ids, mask, actions, trunk),
        "both": lambda trunk: networks.logprobs_and_values(ids, mask, actions, trunk),
    }
    with measure() as reading, torch.set_grad_enabled(grad), book.autocast():
        trunk = None
        if not alone:
            # The rows of a micro-batch are copied out of the whole iteration's.
            hidden = {depth: torch.zeros(rows, length, book.width) for depth in networks.depths}
            trunk = Trunk(networks.policy, ids, mask, networks.depths, hidden)
        out = runs[what](trunk)
        if grad:
            parts = out if isinstance(out, tuple) else (out,)
            torch.autograd.backward([part.sum() for part in parts])
        del trunk, out
    return reading


def _head_flops(book: _Book, model: PreTrainedModel, *, grad: bool) -> float:
    """Return the operations at the vocabulary for one token."""
    rows = 8
    weight, bias = head_of(model)
    with measure() as reading, torch.set_grad_enabled(grad):
        hidden = torch.zeros(rows, book.width, requires_grad=grad)
        targets = torch.zeros(rows, dtype=torch.int64)
        out = token_logprobs(hidden, weight, targets, bias=bias)
        if grad:
            torch.autograd.backward(out.sum())
    return reading.flops / rows
