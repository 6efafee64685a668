"""Rewards: built from plugins' records, checked, weighted, summed and logged by source.

Data flow: ``build_rewards(config) -> RewardSum``; ``RewardSum(batch) -> RewardBreakdown``, whose total
is what the learner sees and whose components are what the run logs.
"""

from textrl.rewards.breakdown import RewardBreakdown, Source, add, spread
from textrl.rewards.building import build_reward, build_rewards
from textrl.rewards.state import join_tensors, split_tensors
from textrl.rewards.weighted import RewardSum

__all__ = [
    "RewardBreakdown",
    "RewardSum",
    "Source",
    "add",
    "build_reward",
    "build_rewards",
    "join_tensors",
    "split_tensors",
    "spread",
]
