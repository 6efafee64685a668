"""PPO-ptx with bf16 products over fp32 weights: the identities of fp32 hold, and it learns the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tiny_world import Env, kl_source, networks, small, tiny_gpt2, tiny_llama, tiny_task
from transformers import PreTrainedModel

from textrl.learners.ppo_ptx import PPOPTX
from textrl.rewards import RewardSum

MODELS = pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])


def trained(make: Callable[[], PreTrainedModel], precision: str) -> tuple[PPOPTX, list[dict[str, float]]]:
    chosen = small(precision=precision)
    rewards = RewardSum([kl_source(0.1)])
    made = PPOPTX(Env(tiny_task()), chosen, rewards=rewards, networks=networks(chosen, make()))
    figures: list[dict[str, float]] = []
    made.learn(iterations=3, callback=lambda learner: figures.append(dict(learner.metrics)))
    return made, figures


@MODELS
def test_identities_hold_in_bf16(make: Callable[[], PreTrainedModel]) -> None:
    made, figures = trained(make, "bf16")
    assert made.networks.precision.name == "bf16"
    assert figures[0]["train/kl_ref"] == 0.0
    for row in figures:
        assert row["train/ratio_first_mean"] == pytest.approx(1.0, abs=1e-5)
        assert row["train/logprob_gap"] < 0.1
    for group in made.networks.trained().values():
        assert {param.dtype for param in group.values()} == {torch.float32}


@MODELS
def test_bf16_goes_where_fp32_goes(make: Callable[[], PreTrainedModel]) -> None:
    start = dict(make().named_parameters())
    ends = [trained(make, name)[0].networks.trained()["policy"] for name in ("fp32", "bf16")]
    moved = torch.cat([(p - start[name]).flatten() for name, p in ends[0].items()])
    apart = torch.cat([(ends[0][name] - ends[1][name]).flatten() for name in ends[0]])
    assert moved.norm() > 0
    assert apart.norm() < 0.5 * moved.norm()
