"""A real learner on a small GPT-2, the config that describes it, and what it really allocates."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gymnasium
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from textrl.config import ConfigNode, build
from textrl.learners.ppo_ptx import PPOPTX, PPOPTXSettings
from textrl.models.tiny import tiny_gpt2
from textrl.pipelines.single import SingleSettings, make_env
from textrl.registry import get_registry

EPISODES, RESPONSE = 32, 12
#: Eight tokens each: one per byte, as the tokenizer below learns no merges from nothing.
PROMPTS = ["abcdefgh", "ijklmnop", "qrstuvwx"]


def small_model(folder: Path, **changes: Any) -> str:
    """Make a GPT-2 of four blocks; returns its folder."""
    shape = {"vocab_size": 512, "width": 96, "layers": 3, "heads": 4, "context": 128} | changes
    return str(tiny_gpt2(["x"], folder=folder, **shape))


def config(model: str, **settings: Any) -> ConfigNode:
    """Return the config of one learner on one environment."""
    return ConfigNode(
        {
            "learner": "ppo_ptx",
            "env": {
                "id": "TextRL/Tokens-v0",
                "prompts": PROMPTS,
                "tokenizer": model,
                "max_new_tokens": RESPONSE,
            },
            "total_timesteps": 3 * EPISODES * RESPONSE,
            "sources": {"word": {"use": "keyword", "words": ["the"]}, "kl": {"use": "kl"}},
            "rewards": {"word": 1.0, "kl": 0.02},
            "settings": {
                "policy": model,
                "episodes_per_iteration": EPISODES,
                "minibatches": 2,
                "micro_batch_size": 8,
                "precision": "fp32",
                **settings,
            },
        },
        "small.yaml",
    )


def learner(node: ConfigNode) -> PPOPTX:
    """Build the learner that `textrl run` would build."""
    single = build(SingleSettings, node.data, where=node.where)
    env, rewards = make_env(single, get_registry(), node)
    assert isinstance(env, gymnasium.Env)
    settings = build(PPOPTXSettings, single.settings, where=node.where)
    return PPOPTX(env, settings, rewards=rewards.side("learner"))


def held(tensors: Iterable[Tensor], known: set[int] | None = None) -> int:
    """Return the bytes of tensors, memory that they share counted once."""
    known = set() if known is None else known
    total = 0
    for tensor in tensors:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            known.add(storage.data_ptr())
            total += storage.nbytes()
    return total


def in_memory(network: torch.nn.Module) -> list[Tensor]:
    """Return the parameters that are not in a file."""
    file = getattr(network, "_textrl_parked_file", None)
    mapped = {tensor.data_ptr() for tensor in file.tensors} if file is not None else set()
    return [p for p in network.parameters() if p.data_ptr() not in mapped]


def resident(made: PPOPTX) -> int:
    """Return the bytes that a learner holds between two iterations."""
    networks, updater = made.networks, made.updater
    params = [p for model in (networks.policy, networks.reference, networks.value) for p in in_memory(model)]
    grads = [p.grad for p in params if p.grad is not None]
    states = [
        tensor
        for optimizer in (updater.policy_optimizer, updater.value_optimizer)
        for state in optimizer.state.values()
        for tensor in state.values()
        if isinstance(tensor, Tensor)
    ]
    return held([*params, *grads, *states, *updater.ema.values()])


def counter() -> FlopCounterMode:
    """Return torch's counter, with the one product that it does not know."""
    few = torch.ops.mkldnn._linear_pointwise
    return FlopCounterMode(
        display=False,
        custom_mapping={few: lambda x, w, *rest, **more: 2 * x[0] * x[1] * w[0]},
    )


def most_allocated(action: Callable[[], object]) -> int:
    """Return how far the allocator's bytes rise above the beginning while `action` runs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    assert profiler.profiler is not None
    results = profiler.profiler.kineto_results
    assert results is not None
    changes = sorted(
        (event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]"
    )
    now = most = 0
    for _, size in changes:
        now += size
        most = max(most, now)
    return most
