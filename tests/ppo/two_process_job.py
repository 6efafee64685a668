"""What torchrun starts: the tiny run, its figures and weights written by the first process."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from tiny_world import Env, kl_source, networks, small, tiny_llama, tiny_task

from textrl.learners.ppo_ptx import PPOPTX
from textrl.rewards import RewardSum


def main() -> None:
    torch.set_num_threads(1)
    chosen = small(ema_decay=0.9, episodes_per_iteration=32, micro_batch_size=8)
    rewards = RewardSum([kl_source(0.5)])
    learner = PPOPTX(Env(tiny_task()), chosen, rewards=rewards, networks=networks(chosen, tiny_llama()))
    assert learner.accelerator.num_processes == int(os.environ.get("WORLD_SIZE", "1"))
    learner.learn(iterations=3)
    if learner.accelerator.is_main_process:
        out = Path(sys.argv[1])
        names = ("reward/total", "train/kl_ref", "train/policy_loss", "train/value_loss", "train/grad_norm")
        figures = {name: learner.metrics[name] for name in names} | {"timesteps": learner.num_timesteps}
        (out / "figures.json").write_text(json.dumps(figures))
        trained = learner.networks.trained()
        torch.save(
            {k: p.detach() for group in trained.values() for k, p in group.items()}, out / "weights.pt"
        )


if __name__ == "__main__":
    main()
