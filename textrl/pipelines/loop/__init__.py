"""The loop: sample, rank, retrain the reward model, PPO-ptx, evaluate; and again from the new policy.

Beside it, on the same number of labels, the baseline that has no reward model: each ranking trains the
policy at once. Data flow: ``labelers -> collect -> train -> measure``, round by round (`pipeline`).
"""

from textrl.pipelines.loop.pipeline import run

__all__ = ["run"]
