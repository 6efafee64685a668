"""Plugin: VADER's sentiment lexicon, as an example of wrapping a library."""

from __future__ import annotations

from collections.abc import Iterable

from textrl.hookspecs import hookimpl
from textrl.specs import RewardSpec


@hookimpl
def textrl_rewards() -> Iterable[RewardSpec]:
    """Offer ``sentiment``."""
    yield RewardSpec(
        name="sentiment",
        target="textrl_sentiment.reward:SentimentReward",
        settings="textrl_sentiment.settings:SentimentSettings",
        summary="VADER's compound sentiment of the response, -1 to 1",
        needs=frozenset({"text"}),
    )
