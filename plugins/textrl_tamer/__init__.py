"""Plugin: H, learnt from a person's presses, as a source of reward and of advice."""

from __future__ import annotations

from collections.abc import Iterable

from textrl.hookspecs import hookimpl
from textrl.specs import RewardSpec


@hookimpl
def textrl_rewards() -> Iterable[RewardSpec]:
    """Offer ``tamer`` and ``tamer_text``."""
    yield RewardSpec(
        name="tamer",
        target="textrl_tamer.source:TAMER",
        settings="textrl_tamer.settings:TamerSourceSettings",
        summary="H(s, a) learnt from a person's presses; rates all actions of an environment, or tokens",
        granularity="token",
        causal=True,
        advises=True,
    )
    yield RewardSpec(
        name="tamer_text",
        target="textrl_tamer.text_source:TamerText",
        settings="textrl_tamer.settings:TamerTextSettings",
        summary="H(s, y) on a language model's hidden states, learnt from presses; rates all tokens",
        granularity="token",
        causal=True,
        side="learner",
        needs=frozenset({"ref_hidden"}),
        advises=True,
    )
