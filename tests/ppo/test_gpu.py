"""On a CUDA device: the same tokens as on the CPU, and a run in bf16 that stays finite."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_world import EOS, PAD, Env, kl_source, networks, small, tiny_llama, tiny_task

from textrl.learners.ppo_ptx import PPOPTX
from textrl.rewards import RewardSum
from textrl.rollout import generate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_the_same_tokens_as_on_the_cpu() -> None:
    task = tiny_task(max_new_tokens=6)
    ids, mask = task.collate([task.prompt_for(i) for i in range(32)])
    out = []
    for device in ("cpu", "cuda"):
        model = tiny_llama().to(device)
        rollout = generate(
            model, ids.to(device), mask.to(device), max_new_tokens=6, eos_ids={EOS}, pad_id=PAD, seed=1,
            episodes=torch.arange(32, device=device),
        )  # fmt: skip
        out.append(rollout)
    assert torch.equal(out[0].response_ids, out[1].response_ids.cpu())
    assert torch.allclose(out[0].logprobs, out[1].logprobs.cpu(), atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_stays_finite(precision: str) -> None:
    chosen = small(precision=precision)
    model = tiny_llama().to("cuda")
    made = PPOPTX(
        Env(tiny_task()), chosen, rewards=RewardSum([kl_source(0.3)]), networks=networks(chosen, model)
    )
    made.learn(iterations=3)
    assert all(math.isfinite(value) for value in made.metrics.values())
    assert made.metrics["train/approx_kl_first"] < 1e-6
