"""What every iteration logs, against the same figures computed from the experience by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from tiny_world import EOS, Env, kl_source, networks, small, tiny_gpt2, tiny_task

from textrl.distributed import make_accelerator
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.diagnostics import Ratios, Spread
from textrl.learners.ppo_ptx.experience import collect
from textrl.learners.token_learner import throughput
from textrl.rewards import RewardSum

EVERY_STEP = (
    "rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/ep_len_max", "rollout/eos_rate",
    "reward/total", "reward/count", "reward/kl", "weight/kl",
    "train/kl_ref", "train/kl_ref_k2", "train/kl_ref_k3", "train/kl_offset", "train/kl_offset_max",
    "train/logprob_gap", "train/logprob_gap_mean", "train/entropy", "train/explained_variance",
    "train/approx_kl", "train/approx_kl_first", "train/clip_fraction", "train/value_clip_fraction",
    "train/policy_loss", "train/value_loss", "train/grad_norm", "train/value_grad_norm",
    "train/ratio_first_mean", "train/ratio_first_std", "train/ratio_first_min", "train/ratio_first_max",
    "train/ratio_later_mean", "train/ratio_later_std", "train/ratio_later_min", "train/ratio_later_max",
    "train/learning_rate", "train/steps", "train/micro_batch_size",
    "memory/peak_rss_gb", "time/fps", "time/rollout_tokens_per_s", "time/update_tokens_per_s",
    "time/rollout_s", "time/collect_s", "time/update_s", "time/total_timesteps",
)  # fmt: skip


def learner(**changes: Any) -> PPOPTX:
    chosen = small(**changes)
    return PPOPTX(Env(tiny_task()), chosen, rewards=RewardSum([kl_source(0.5)]), networks=networks(chosen))


class Log:
    """A logger that keeps what it gets."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.row: dict[str, float] = {}

    def record(self, key: str, value: float) -> None:
        self.row[key] = value

    def dump(self, step: int) -> None:
        self.rows.append(self.row)
        self.row = {}


def test_every_step_logs_everything_and_all_of_it_is_finite() -> None:
    made, log = learner(), Log()
    made.set_logger(log)
    made.learn(iterations=3)
    assert len(log.rows) == 3
    for row in log.rows:
        assert set(EVERY_STEP) <= row.keys()
        assert all(math.isfinite(value) for value in row.values())
        assert row["train/ratio_first_min"] == pytest.approx(1, abs=1e-5)
        assert row["train/ratio_first_max"] == pytest.approx(1, abs=1e-5)
        assert row["train/ratio_later_min"] < 0.999
        assert row["train/ratio_later_max"] > 1.001
        assert row["train/steps"] == 2
        assert row["train/micro_batch_size"] == 32
        assert row["time/rollout_s"] < row["time/collect_s"]
        # What is logged as the KL is what was trained on.
        assert row["reward/kl"] == pytest.approx(-0.5 * row["train/kl_ref"], rel=1e-5, abs=1e-9)
        assert 0.05 < row["memory/peak_rss_gb"] < 1000


def test_the_figures_are_those_of_the_experience() -> None:
    made = learner()
    made.learn(iterations=2)
    found = collect(made.networks, made.task, made.rewards, made.settings, made.accelerator, 128)
    mask = found.actions
    assert found.metrics["rollout/ep_len_mean"] == pytest.approx(float(mask.sum(1).double().mean()))
    assert found.metrics["rollout/ep_len_max"] == int(mask.sum(1).max()) == 3
    ended = ((found.ids == EOS) & mask).any(1).double().mean()
    assert 0 < ended < 1
    assert found.metrics["rollout/eos_rate"] == pytest.approx(float(ended))
    values, returns = found.values[mask].double(), found.returns[mask].double()
    explained = 1 - (returns - values).var(correction=0) / returns.var(correction=0)
    assert found.metrics["train/explained_variance"] == pytest.approx(float(explained), rel=1e-9)
    assert "train/kl_offset" not in found.metrics
    reference = made.networks.logprobs(
        made.networks.reference, found.ids, found.mask, found.actions, found.trunk
    )
    ratios = (found.logprobs[mask] - reference.detach()).double()
    assert found.metrics["train/kl_ref"] == pytest.approx(float(ratios.sum() / len(mask)), rel=1e-5)


def test_memory_that_is_held_shows() -> None:
    before = learner().learn(iterations=1).metrics["memory/peak_rss_gb"]
    block = torch.ones(100_000_000)  # 0.4 GB, each page written
    after = learner().learn(iterations=1).metrics
    assert after["memory/peak_rss_gb"] >= before
    assert after.get("memory/rss_gb", math.inf) > 0.4
    assert float(block[0]) == 1


def test_a_spread_is_that_of_all_its_parts() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [1 + 0.1 * torch.randn(size, generator=generator, dtype=torch.float64) for size in (5, 1, 30)]
    spread = Spread()
    for part in (*parts, torch.zeros(0)):
        spread.add(part)
    whole = torch.cat(parts)
    assert spread.figures("x") == pytest.approx(
        {
            "x_mean": float(whole.mean()),
            "x_std": float(whole.std(correction=0)),
            "x_min": float(whole.min()),
            "x_max": float(whole.max()),
        },
        rel=1e-9,
    )
    assert Spread().figures("x") == {}


def test_ratios_of_the_first_minibatch_are_kept_apart_and_half_done_ones_forgotten() -> None:
    ratios = Ratios()
    ratios.add(torch.tensor([5.0]))
    ratios.undo()
    ratios.add(torch.zeros(3))
    ratios.end_minibatch()
    ratios.add(torch.tensor([0.5]).log())
    ratios.end_minibatch()
    ratios.add(torch.tensor([2.0]).log())
    ratios.end_minibatch()
    found = ratios.figures(make_accelerator(cpu=True))
    assert found["train/ratio_first_max"] == found["train/ratio_first_min"] == 1
    assert found["train/ratio_later_min"] == pytest.approx(0.5)
    assert found["train/ratio_later_max"] == pytest.approx(2)
    assert found["train/ratio_later_mean"] == pytest.approx(1.25)


def test_a_critic_of_constant_returns_has_no_explained_variance() -> None:
    chosen = small(whiten_advantages=False, lam=1.0)
    task = tiny_task(max_new_tokens=1)
    task.rewards = None
    made = PPOPTX(Env(task), chosen, networks=networks(chosen, tiny_gpt2())).learn(iterations=1)
    assert "train/explained_variance" not in made.metrics


def test_throughput_counts_the_passes() -> None:
    found = throughput(1000, 2.0, rollout_s=1.0, collect_s=2.0, update_s=4.0)
    assert found["time/fps"] == pytest.approx(1000 / 6)
    assert found["time/rollout_tokens_per_s"] == 1000
    assert found["time/update_tokens_per_s"] == 500


def test_the_loop_depends_on_no_learner() -> None:
    """Who writes a learner imports the loop first, when no other learner has been imported yet."""
    code = (
        "import sys, textrl.learners.token_learner; "
        "print([name for name in sys.modules if name.startswith('textrl.learners.ppo_ptx')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
