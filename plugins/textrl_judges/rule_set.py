"""Weighted checks made of other rewards: a judge that needs no model.

A reward gives its own numbers (minus a distance, a count); a check says from where on a response passes,
so that checks of different kinds can be added up.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from textrl.errors import UserError
from textrl.protocols import Batch
from textrl.registry import get_registry
from textrl.rewards import Source, build_reward
from textrl.rewards.checks import token_values
from textrl.specs import RewardSpec
from textrl_judges.rule_settings import Check, RuleSetSettings

#: What a rule set's own record asks for; a check that needs more has no place in it.
NEEDS = frozenset({"text", "records"})


class RuleSetReward:
    """Pay the weighted mean of the checks, or 1 for all of them and else 0."""

    def __init__(self, settings: RuleSetSettings) -> None:
        """Build the reward behind every check.

        Raises:
            UserError: When a check names no reward, one that gives a value per token, or one that needs what
                only a learner has.
        """
        self.settings = settings
        self.sources = {name: _source(name, check) for name, check in settings.checks.items()}
        self.total = sum(check.weight for check in settings.checks.values())

    def __call__(self, batch: Batch) -> Tensor:
        """Return (B,) float32."""
        passed = self.passed(batch)
        if self.settings.all_or_nothing:
            return torch.stack(list(passed.values())).amin(0)
        weighted = [self.settings.checks[name].weight * value for name, value in passed.items()]
        return torch.stack(weighted).sum(0) / self.total

    def metrics(self, batch: Batch) -> Mapping[str, float]:
        """Return the mean of each check."""
        return {f"check_{name}": float(value.mean()) for name, value in self.passed(batch).items()}

    def passed(self, batch: Batch) -> dict[str, Tensor]:
        """Return (B,) float32 for each check: 0 or 1, or the reward's own value."""
        found = {}
        for name, source in self.sources.items():
            value = token_values(source, batch).sum(1)
            limit = self.settings.checks[name].at_least
            found[name] = value if limit is None else (value >= limit).float()
        return found


def _source(name: str, check: Check) -> Source:
    registry, use = get_registry(), check.use or name
    try:
        spec = registry.find("reward", use)
    except UserError as error:
        raise UserError(f"the check '{name}': {error}") from error
    assert isinstance(spec, RewardSpec)  # the registry keeps records by kind
    if spec.granularity != "episode" or spec.side != "env" or spec.needs - NEEDS:
        raise UserError(
            f"the check '{name}' uses '{use}', which gives no single value to a text; use a reward that does."
        )
    owner = registry.owner("reward", use)
    reward = build_reward(spec, check.settings, plugin=owner, where=lambda key: f"the check '{name}', {key}")
    return Source(name=name, spec=spec, reward=reward, plugin=owner)
