"""The tiny world in float64, where two ways to compute the same thing must agree to 1e-6 and do to far less.

GPT-2, because Llama's norms and rotary tables are computed in float32 whatever the type of the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import torch
from tiny_world import EOS, VOCAB, Env, kl_source, small, tiny_gpt2, tiny_task
from torch import Tensor

from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.experience import Experience, collect
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.ptx import PretrainingStream
from textrl.learners.ppo_ptx.update import Updater
from textrl.models.loading import scorer_from_causal_lm
from textrl.rewards import RewardSum, Source

#: What issue and design promise; float64 leaves about 1e-12 where nothing passes through float32.
RELATIVE = 1e-6
TOKENS = 4


def exact(*, ptx: float = 0.0, moved: float = 0.0, kl: Source | None = None, **changes: object) -> PPOPTX:
    """Return a float64 learner whose gradients are never clipped.

    Args:
        ptx: Weight of the pretraining loss over `stream`.
        moved: Size of a random step of the policy away from the reference.
        kl: The KL source; by default a fixed penalty of 0.3.
        changes: Of the settings.
    """
    chosen = small(**{"max_grad_norm": 1e12, "precision": "fp32", **changes})
    policy = tiny_gpt2().double()
    value = scorer_from_causal_lm(policy, layers=None).double()
    torch.nn.init.normal_(value.score.weight, generator=torch.Generator().manual_seed(1))
    made = PPOPTX(
        Env(tiny_task(max_new_tokens=TOKENS)),
        chosen,
        rewards=RewardSum([kl or kl_source(0.3)]),
        networks=Networks(policy, value, None, chosen),
    )
    if ptx:
        made.settings = dataclasses.replace(chosen, ptx_coef=ptx, ptx_data="the stream below")
        made.updater = Updater(made.networks, made.settings, made.accelerator, stream())
    move(made, moved)
    return made


def stream() -> PretrainingStream:
    """Pieces of eight random tokens."""
    generator = torch.Generator().manual_seed(0)
    documents = [torch.randint(2, VOCAB, (30,), generator=generator).tolist() for _ in range(20)]
    return PretrainingStream(documents, 8, EOS, seed=0)


@torch.no_grad()
def move(made: PPOPTX, size: float, seed: int = 3) -> None:
    """Step the policy and the value network in a random direction, so that ratios leave 1."""
    generator = torch.Generator().manual_seed(seed)
    for param in (*made.updater.policy_params, *made.updater.value_params):
        param.add_(size * torch.randn(param.shape, generator=generator, dtype=param.dtype))


def experience(made: PPOPTX) -> Experience:
    """Sample and score the learner's first iteration."""
    return collect(made.networks, made.task, made.rewards, made.settings, made.accelerator, 0)


def gradients(made: PPOPTX, collected: Experience, rows: Tensor) -> dict[str, Tensor]:
    """Return the gradients, not clipped, with which one minibatch would step, by name; no step is taken."""
    updater = made.updater
    updater.settings = dataclasses.replace(updater.settings, max_grad_norm=1e9)
    found: dict[str, Tensor] = {}

    def kept(network: str) -> Callable[..., None]:
        def step(*_: Any, **__: Any) -> None:
            for name, param in made.networks.trained()[network].items():
                if param.grad is not None:
                    found[f"{network}.{name}"] = param.grad.clone()

        return step

    updater.policy_optimizer.step = kept("policy")  # type: ignore[method-assign]
    updater.value_optimizer.step = kept("value")  # type: ignore[method-assign]
    updater.ptx_seen = 0
    updater.step(collected, rows)
    return found


def part(found: Mapping[str, Tensor], network: str) -> dict[str, Tensor]:
    """Return the gradients of one network by parameter."""
    return {
        name.removeprefix(f"{network}."): x for name, x in found.items() if name.startswith(f"{network}.")
    }


def assert_same(got: Mapping[str, Tensor], wanted: Mapping[str, Tensor], relative: float = RELATIVE) -> None:
    """Demand equal tensors, each relative to its own largest entry.

    Some gradients vanish analytically (the bias of attention's keys); rounding alone stands there, so
    that a millionth of the tolerance, relative to the largest entry of all, is granted everywhere.
    """
    assert got.keys() == wanted.keys()
    largest = max(float(x.abs().max()) for x in wanted.values())
    assert largest > 0
    for name, x in wanted.items():
        assert got[name].dtype == x.dtype == torch.float64, name
        limit = relative * float(x.abs().max()) + 1e-6 * relative * largest
        difference = float((got[name] - x).abs().max())
        assert difference <= limit, f"{name}: {difference} > {limit}"
