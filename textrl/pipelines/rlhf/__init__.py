"""InstructGPT's three steps: SFT, reward model, PPO-ptx; then a held-out evaluation and a report."""

from textrl.pipelines.rlhf.pipeline import run

__all__ = ["run"]
