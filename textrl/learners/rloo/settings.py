"""Every knob of RLOO."""

from __future__ import annotations

from dataclasses import dataclass

from textrl.learners.groups.settings import GroupSettings


@dataclass(frozen=True, kw_only=True)
class RLOOSettings(GroupSettings):
    """Settings of RLOO.

    Attributes:
        group_size: Responses to one prompt; the baseline of each is the mean reward of the others (Ahmadian
            et al. 2024 use 2 and 4).
    """
