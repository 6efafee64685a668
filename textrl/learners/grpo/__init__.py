"""GRPO: PPO's clipped loss with advantages from a group of responses instead of a value network."""

from textrl.learners.grpo.learner import GRPO
from textrl.learners.grpo.settings import GRPOSettings

__all__ = ["GRPO", "GRPOSettings"]
