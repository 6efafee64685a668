"""Every built-in reward gives on a GPU what it gives on the CPU; runs only where there is one."""

import dataclasses

import pytest
import torch

from textrl.registry import get_registry
from textrl.rewards import RewardSum, Source, build_reward
from textrl.testing import make_batch, samples
from textrl.testing.plugins import conformance_settings, hook_module

REGISTRY = get_registry()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def on_gpu(batch):
    moved = {
        field.name: value.to("cuda")
        for field in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, field.name), torch.Tensor)
    }
    return dataclasses.replace(batch, **moved)


@pytest.mark.parametrize("name", REGISTRY.specs("reward"))
def test_gpu_and_cpu_agree(name, tmp_path):
    spec = REGISTRY.find("reward", name)
    settings = conformance_settings(hook_module(spec, REGISTRY), tmp_path).get(name, {})
    rewards = RewardSum([Source(name, spec, build_reward(spec, settings), 0.5)])
    batch = make_batch(samples(), rewards.needs)
    on_cpu = rewards(batch).total
    there = rewards(on_gpu(batch)).total
    assert there.device.type == "cuda"
    assert torch.allclose(there.cpu(), on_cpu, atol=1e-5)
