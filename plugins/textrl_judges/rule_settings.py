"""Settings of ``rule_set``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check of a rule set.

    Attributes:
        use: Name of a registered reward that gives one value per response; the check's own name by default.
        settings: That reward's settings.
        weight: How much the check counts among the others.
        at_least: The check is passed (1) where the reward is at least this, else failed (0); null takes the
            reward's value as it is.
    """

    use: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    at_least: float | None = None

    def __post_init__(self) -> None:
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise ValueError(f"weight is {self.weight}; it must be above 0")
        if self.at_least is not None and not math.isfinite(self.at_least):
            raise ValueError(f"at_least is {self.at_least}; it must be a finite number")


@dataclass(frozen=True, kw_only=True)
class RuleSetSettings:
    """The checks.

    Attributes:
        checks: Name -> check: ``use`` (a registered reward), its ``settings``, ``weight`` and ``at_least``.
        all_or_nothing: Pay 1 where every check is passed and 0 elsewhere, instead of the weighted mean.
    """

    checks: Mapping[str, Check]
    all_or_nothing: bool = False

    def __post_init__(self) -> None:
        if not self.checks:
            raise ValueError("checks is empty; give at least one")
        soft = [name for name, check in self.checks.items() if check.at_least is None]
        if self.all_or_nothing and soft:
            raise ValueError(
                f"all_or_nothing needs checks that are passed or failed; give '{soft[0]}' an at_least"
            )
