"""Plugin: the KL penalty against the frozen reference, paid per token."""

from __future__ import annotations

from collections.abc import Iterable

from textrl.hookspecs import hookimpl
from textrl.specs import RewardSpec


@hookimpl
def textrl_rewards() -> Iterable[RewardSpec]:
    """Offer ``kl``."""
    yield RewardSpec(
        name="kl",
        target="textrl_kl.reward:KLReward",
        settings="textrl_kl.settings:KLSettings",
        summary="-log(pi/ref) per token; fixed or adaptive coefficient; logs k1, k2 and k3",
        granularity="token",
        causal=True,
        side="learner",
        needs=frozenset({"logprobs", "ref_logprobs"}),
    )
