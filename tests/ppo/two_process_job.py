"""What torchrun starts: the tiny run in float64, its figures and weights written by the first process."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from exact_world import exact
from tiny_world import kl_source

#: Figures that are sums or means over all processes, and therefore must not depend on their number.
FIGURES = (
    "reward/total", "reward/kl", "rollout/ep_rew_mean", "rollout/ep_len_mean", "rollout/eos_rate",
    "train/kl_ref", "train/kl_ref_k2", "train/kl_ref_k3", "train/entropy", "train/policy_loss",
    "train/value_loss", "train/ptx_loss", "train/clip_fraction", "train/value_clip_fraction",
    "train/approx_kl", "train/grad_norm", "train/value_grad_norm",
)  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    # Everything that is summed over processes is in use: both whitenings, clipping, the pretraining term.
    learner = exact(
        ptx=0.7, kl=kl_source(0.5), ema_decay=0.9, episodes_per_iteration=32, micro_batch_size=5,
        whiten_rewards=True, max_grad_norm=0.5, epochs=2,
    )  # fmt: skip
    assert learner.accelerator.num_processes == int(os.environ.get("WORLD_SIZE", "1"))
    history: list[dict[str, float]] = []
    learner.learn(
        iterations=3, callback=lambda made: history.append({name: made.metrics[name] for name in FIGURES})
    )
    if learner.accelerator.is_main_process:
        out = Path(sys.argv[1])
        (out / "figures.json").write_text(json.dumps(history))
        trained = {
            f"{net}.{k}": p for net, group in learner.networks.trained().items() for k, p in group.items()
        }
        averaged = {f"ema.{name}": x for name, x in learner.updater.ema.items()}
        torch.save({name: x.detach() for name, x in (trained | averaged).items()}, out / "weights.pt")
        assert learner.num_timesteps == sum(round(32 * row["rollout/ep_len_mean"]) for row in history)


if __name__ == "__main__":
    main()
