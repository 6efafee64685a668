"""Every knob of TAMER as a learner."""

from __future__ import annotations

from dataclasses import dataclass

from textrl.tamer.settings import TamerSettings


@dataclass(frozen=True, kw_only=True)
class TamerLearnerSettings:
    """Settings of the learner.

    Attributes:
        tamer: H and how it learns; null takes those of the person's TAMER, or the defaults.
        weights: JSON file with a linear H that was learnt before (`textrl.tamer.Tamer.load_weights`);
            null begins at H = 0.
        checkpoint_every: Episodes between checkpoints.
        keep_checkpoints: How many of them to keep.
        seed: Keys start states and ties.
    """

    tamer: TamerSettings | None = None
    weights: str | None = None
    checkpoint_every: int = 100
    keep_checkpoints: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        for name in ("checkpoint_every", "keep_checkpoints"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more")
