"""Plugin: rewards by rule, and any Python function as a reward."""

from __future__ import annotations

from collections.abc import Iterable

from textrl.hookspecs import hookimpl
from textrl.specs import RewardSpec

_TEXT = frozenset({"text"})
_RECORDS = frozenset({"text", "records"})


@hookimpl
def textrl_rewards() -> Iterable[RewardSpec]:
    """Offer ``length``, ``repetition``, ``keyword``, ``exact_answer`` and ``callable``."""
    yield RewardSpec(
        name="length",
        target="textrl_rules.shape:LengthReward",
        settings="textrl_rules.settings:LengthSettings",
        summary="minus the distance to a target length or range, in tokens, words or characters",
        needs=_TEXT,
    )
    yield RewardSpec(
        name="repetition",
        target="textrl_rules.shape:RepetitionReward",
        settings="textrl_rules.settings:RepetitionSettings",
        summary="minus the share of n-grams that were there before, -1 to 0",
        needs=_TEXT,
    )
    yield RewardSpec(
        name="keyword",
        target="textrl_rules.content:KeywordReward",
        settings="textrl_rules.settings:KeywordSettings",
        summary="counts words or matches of a regular expression, or pays for their presence",
        needs=_TEXT,
    )
    yield RewardSpec(
        name="exact_answer",
        target="textrl_rules.content:ExactAnswerReward",
        settings="textrl_rules.settings:ExactAnswerSettings",
        summary="1 where the response is the answer in a column of the prompt's record",
        needs=_RECORDS,
    )
    yield RewardSpec(
        name="callable",
        target="textrl_rules.function:CallableReward",
        settings="textrl_rules.settings:CallableSettings",
        summary="any Python function (prompt, response, record) -> number",
        needs=_RECORDS,
    )
