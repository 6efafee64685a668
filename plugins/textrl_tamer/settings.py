"""Settings of the source ``tamer``."""

from __future__ import annotations

from dataclasses import dataclass, fields

from textrl.tamer.settings import TamerSettings


@dataclass(frozen=True, kw_only=True)
class TamerSourceSettings(TamerSettings):
    """Settings of TAMER, and where it is used.

    Attributes:
        environment: Gymnasium id of the environment whose actions H rates; null where the learner says
            (`TAMER.bind`), and on text.
        weights: JSON file with a linear H that was learnt before: A * F numbers, action after action,
            each with its bias last. Null begins at H = 0.
    """

    environment: str | None = None
    weights: str | None = None

    def core(self) -> TamerSettings:
        """Return the settings of TAMER alone."""
        return TamerSettings(**{item.name: getattr(self, item.name) for item in fields(TamerSettings)})
