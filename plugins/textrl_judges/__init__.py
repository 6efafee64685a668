"""Plugin: judges, rewards that rate a whole response; one needs no training of its own to be used.

As sources of a config they are paid; through `textrl.evaluation.reward_judge` each of them is also a judge
of the evaluation and the labeler of the online loop.
"""

from __future__ import annotations

from collections.abc import Iterable

from textrl.hookspecs import hookimpl
from textrl.specs import CommandSpec, RewardSpec

_TEXT = frozenset({"text"})
_RECORDS = frozenset({"text", "records"})


@hookimpl
def textrl_rewards() -> Iterable[RewardSpec]:
    """Offer ``classifier``, ``similarity``, ``rule_set``, ``rubric`` and ``http_judge``."""
    yield RewardSpec(
        name="classifier",
        target="textrl_judges.classifier:ClassifierReward",
        settings="textrl_judges.settings:ClassifierSettings",
        summary="probability of a label, by a sequence classifier or a fitted TF-IDF model",
        needs=_TEXT,
    )
    yield RewardSpec(
        name="similarity",
        target="textrl_judges.similarity:SimilarityReward",
        settings="textrl_judges.settings:SimilaritySettings",
        summary="cosine similarity to reference texts, -1 to 1, by a sentence encoder or by letters",
        needs=_RECORDS,
    )
    yield RewardSpec(
        name="rule_set",
        target="textrl_judges.rule_set:RuleSetReward",
        settings="textrl_judges.rule_settings:RuleSetSettings",
        summary="weighted checks made of other rewards: the share passed, 0 to 1",
        needs=_RECORDS,
    )
    yield RewardSpec(
        name="rubric",
        target="textrl_judges.rubric:RubricReward",
        settings="textrl_judges.rubric_settings:RubricSettings",
        summary="yes/no questions about a response, answered by rules or by a model, put into classes",
        needs=_RECORDS,
    )
    yield RewardSpec(
        name="http_judge",
        target="textrl_judges.http_judge:HttpJudgeReward",
        settings="textrl_judges.settings:HttpJudgeSettings",
        summary="scores from an HTTP endpoint, with time-out, retries and a cache on disk",
        needs=_RECORDS,
    )


@hookimpl
def textrl_commands() -> Iterable[CommandSpec]:
    """Offer ``textrl fit-judge``."""
    yield CommandSpec(
        name="fit-judge",
        target="textrl_judges.fitting:fit_judge",
        summary="Fit a TF-IDF judge to labels or ratings, for the reward 'classifier'.",
    )
