"""RLOO: REINFORCE whose baseline is the mean reward of the other responses to the same prompt."""

from textrl.learners.rloo.learner import RLOO
from textrl.learners.rloo.settings import RLOOSettings

__all__ = ["RLOO", "RLOOSettings"]
