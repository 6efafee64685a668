"""What `textrl plan` says, against real networks, real passes and the real allocator."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plan_world import (
    EPISODES,
    config,
    counter,
    held,
    in_memory,
    learner,
    most_allocated,
    resident,
    small_model,
)

from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.experience import Experience, collect
from textrl.models.precision import Precision
from textrl.plan.estimate import Estimate, estimate
from textrl.plan.job import read_workload
from textrl.registry import get_registry

SETTINGS: dict[str, dict[str, Any]] = {
    "all_blocks_learn": {},
    "upper_blocks_learn": {"first_trainable": 1, "value_first_trainable": 2, "gradient_checkpointing": True},
    "lora": {"lora_rank": 4, "first_trainable": 1, "ema_decay": 0.0, "epochs": 2},
    "disk": {"reference_device": "disk"},
    "value_head": {"value_network": "head", "reference_precision": "bf16", "minibatches": 4},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return small_model(tmp_path_factory.mktemp("plan") / "model")


def planned(node: Any, **changes: Any) -> Estimate:
    work = read_workload(node, get_registry())
    return estimate(work, precision=Precision(None), **changes)


@pytest.fixture(scope="module")
def pairs(model: str) -> Callable[[str], tuple[Estimate, PPOPTX]]:
    """Plan and learner of each kind of settings, made once; the learner has one iteration behind it."""

    @functools.cache
    def pair(name: str) -> tuple[Estimate, PPOPTX]:
        node = config(model, **SETTINGS[name])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="fan_in_fan_out")
            made = learner(node)
        made.learn(iterations=1)
        return planned(node), made

    return pair


Pairs = Callable[[str], tuple[Estimate, PPOPTX]]


@pytest.mark.parametrize("name", SETTINGS)
def test_weights_gradients_and_moments_are_those_of_the_real_networks(pairs: Pairs, name: str) -> None:
    found, made = pairs(name)
    networks, known = made.networks, set[int]()
    for part, network in (
        ("policy", networks.policy), ("reference", networks.reference), ("value network", networks.value)
    ):  # fmt: skip
        assert found.resident[part] == held(in_memory(network), known), part
    between = sum(found.resident.values()) - found.resident["experience of an iteration"]
    assert between == pytest.approx(resident(made), rel=0.001)


@pytest.mark.parametrize("name", SETTINGS)
def test_operations_are_those_that_torch_counts(pairs: Pairs, name: str) -> None:
    found, made = pairs(name)
    with counter() as collected:
        experience = collect_of(made)
    with counter() as updated:
        made.updater.update(experience, 0)
    expected = {phase: sum(cost.total for cost in parts.values()) for phase, parts in found.flops.items()}
    before = expected["rollout"] + expected["scoring"]
    assert before == pytest.approx(collected.get_total_flops(), rel=0.15)
    assert expected["update"] == pytest.approx(updated.get_total_flops(), rel=0.15)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_peak_is_the_allocators(pairs: Pairs, name: str) -> None:
    found, made = pairs(name)
    before = resident(made)
    real = before + most_allocated(lambda: made.learn(iterations=made.iteration + 1))
    assert found.peak == pytest.approx(real, rel=0.15)


def test_the_pretraining_term_is_counted(model: str, tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    text.write_text('{"text": "' + "some words " * 400 + '"}\n', encoding="utf-8")
    more = {"ptx_coef": 1.0, "ptx_data": str(text), "ptx_length": 24, "ptx_per_episode": 2.0}
    node = config(model, **more)
    found, made = planned(node), learner(node)
    experience = collect_of(made)
    with counter() as counted:
        made.updater.update(experience, 0)
    count = found.flops["update"], found.flops["pretraining"]
    assert sum(cost.total for parts in count for cost in parts.values()) == pytest.approx(
        counted.get_total_flops(), rel=0.15
    )


def test_more_processes_share_the_episodes_and_nothing_else(model: str) -> None:
    one, four = (planned(config(model), processes=n) for n in (1, 4))
    assert four.total_flops == pytest.approx(one.total_flops / 4, rel=0.01)
    shared = "experience of an iteration"
    assert {k: v for k, v in one.resident.items() if k != shared} == {
        k: v for k, v in four.resident.items() if k != shared
    }
    assert four.resident[shared] * 4 == one.resident[shared]
    assert four.transient["rollout"]["key-value cache"] * 4 == one.transient["rollout"]["key-value cache"]


def test_a_reference_elsewhere_takes_no_memory_of_a_gpu(model: str) -> None:
    same, cpu, disk = (
        planned(config(model, reference_device=place), gpu=True) for place in ("same", "cpu", "disk")
    )
    assert same.offloaded == 0
    assert cpu.offloaded == disk.offloaded > 0
    assert cpu.peak == disk.peak == same.peak - cpu.offloaded


def test_smaller_batches_need_less_memory_and_the_same_work(model: str) -> None:
    large = planned(config(model, micro_batch_size=16))
    small = planned(config(model, micro_batch_size=2, rollout_batch_size=4))
    assert small.peak < large.peak
    cache = "key-value cache"
    assert small.transient["rollout"][cache] * EPISODES == large.transient["rollout"][cache] * 4
    assert small.total_flops == pytest.approx(large.total_flops, rel=0.01)


def collect_of(made: PPOPTX) -> Experience:
    """Collect one iteration as the learner does."""
    return collect(made.networks, made.task, made.rewards, made.settings, made.accelerator, 0)
