"""Plugin: a learned reward model, any sequence classifier with one output."""

from __future__ import annotations

from collections.abc import Iterable

from textrl.hookspecs import hookimpl
from textrl.specs import RewardSpec


@hookimpl
def textrl_rewards() -> Iterable[RewardSpec]:
    """Offer ``reward_model``."""
    yield RewardSpec(
        name="reward_model",
        target="textrl_reward_model.reward:RewardModelReward",
        settings="textrl_reward_model.settings:RewardModelRewardSettings",
        summary="score of an AutoModelForSequenceClassification folder or hub id, minus its offset",
        needs=frozenset({"text"}),
    )
