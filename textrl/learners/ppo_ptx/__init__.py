"""PPO-ptx: InstructGPT's recipe (arXiv 2203.02155) for any causal language model.

`settings` holds every knob, `networks` the models and what they share, `experience` turns a rollout
into advantages, `update` takes the optimizer steps, `learner` runs the loop and keeps checkpoints.
"""

from textrl.learners.ppo_ptx.learner import PPOPTX
from textrl.learners.ppo_ptx.settings import PPOPTXSettings

__all__ = ["PPOPTX", "PPOPTXSettings"]
