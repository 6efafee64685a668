"""Our side of `textrl bench ppo`, in a process of its own; the last line is JSON.

    python -m textrl.bench.ppo_worker --size tiny --iterations 3

One iteration is the work of TRL's trainer: 64 prompts of 32 tokens, 48 new tokens each without an early
stop, scored by policy, reference, value and reward network, then 4 epochs of minibatches of 16 on policy
and value. The four networks share nothing; the two that do not learn are in a file, and in memory while they
score.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from textrl.bench.rollout_limits import limits
from textrl.bench.rollout_sizes import PROMPT, RESPONSE, Shape, make_model, make_prompts
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.mdp.task import Prompt, TokenTask
from textrl.models.loading import scorer_from_causal_lm
from textrl.models.parking import let_go, park
from textrl.models.stack import score_ids
from textrl.protocols import Batch
from textrl.registry import get_registry
from textrl.rewards import RewardSum, Source
from textrl.rewards.building import build_rewards
from textrl.specs import RewardSpec

#: Passes over an iteration, and sequences of a minibatch, which is one forward and backward pass.
EPOCHS, MINIBATCH = 4, 16
#: Where reference and reward network are while nobody reads them.
FROZEN: Literal["same", "disk"] = "disk"


class Scorer:
    """The reward network's score of the whole sequence, as the plugin `reward_model` computes it."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) scores."""
        ids = torch.cat([batch.prompt_ids, batch.response_ids], dim=1)
        mask = torch.cat([batch.prompt_mask, batch.response_mask], dim=1)
        parts = zip(torch.split(ids, MINIBATCH), torch.split(mask, MINIBATCH), strict=True)
        scores = torch.cat([score_ids(self.model, *part) for part in parts])
        let_go(self.model)
        return scores


class _Env:
    """The least a learner asks of an environment: its task."""

    def __init__(self, task: TokenTask) -> None:
        self.task = task


def build(size: str, batch: int, precision: str) -> PPOPTX:
    """Return a learner whose iteration is the benchmark's work."""
    policy = make_model(size)
    reward = scorer_from_causal_lm(policy, layers=None).requires_grad_(False)
    park(reward, precision="same", device=FROZEN)
    spec = RewardSpec(name="score", target="textrl.bench.ppo_worker:Scorer", summary="of the benchmark")
    prompts = [Prompt(ids=tuple(row)) for row in make_prompts(policy, batch)[0].tolist()]
    paid = RewardSum([Source(name="score", spec=spec, reward=Scorer(reward), weight=1.0)])
    task = TokenTask(prompts, None, policy.config.vocab_size, (), 2, RESPONSE, paid)
    settings = PPOPTXSettings(
        policy=size,
        episodes_per_iteration=batch,
        minibatches=batch // MINIBATCH,
        epochs=EPOCHS,
        micro_batch_size=MINIBATCH,
        ema_decay=0.0,
        reference_device=FROZEN,
        precision="bf16" if precision == "bf16" else "fp32",
    )
    penalty = build_rewards({"kl": None}, {"kl": 0.05}, get_registry(), where=str)
    networks = Networks(policy, scorer_from_causal_lm(policy, layers=None), None, settings)
    return PPOPTX(_Env(task), settings, networks=networks, rewards=penalty)


def measure(size: str, batch: int, iterations: int, warm_up: int, precision: str) -> dict[str, Any]:
    """Time whole iterations after `warm_up` that do not count."""
    torch.manual_seed(0)
    imported = _peak_mb()
    learner = build(size, batch, precision)
    flops = iteration_flops(Shape.of(learner.networks.policy), batch)
    times, parts = [], []
    for done in range(iterations + warm_up):
        started = time.perf_counter()
        learner.learn(iterations=done + 1)
        if done >= warm_up:
            times.append(time.perf_counter() - started)
            parts.append([learner.metrics["time/collect_s"], learner.metrics["time/update_s"]])
    peak = _peak_mb()
    found = limits()  # last: it needs half a gigabyte itself
    return {
        "who": "textrl",
        "size": size,
        "batch": batch,
        "precision": precision,
        "iteration_s": times,
        "collect_s": [collect for collect, _ in parts],
        "update_s": [update for _, update in parts],
        "tokens": learner.num_timesteps // (iterations + warm_up),
        "flops": flops,
        "floor_s": flops / (found["matmul_gflops"] * 1e9),
        "limits": found,
        "peak_mb": peak,
        "imported_mb": imported,
        "threads": torch.get_num_threads(),
    }


def iteration_flops(shape: Shape, batch: int) -> float:
    """Return the operations of one iteration: a rollout, four scoring passes, the epochs of two networks."""
    length = PROMPT + RESPONSE
    with_head = shape.forward_flops(batch, length, RESPONSE)
    without = shape.forward_flops(batch, length, 0)
    scoring = 2 * with_head + 2 * without
    # A backward pass costs two forward passes.
    return with_head + scoring + EPOCHS * 3 * (with_head + without)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    given = parser.parse_args()
    result = measure(given.size, given.batch, given.iterations, given.warm_up, given.precision)
    print(json.dumps(result))  # noqa: T201


if __name__ == "__main__":
    main()
