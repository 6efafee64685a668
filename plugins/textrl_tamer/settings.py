"""Settings of the sources ``tamer`` and ``tamer_text``."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from textrl.tamer.credit import Loss
from textrl.tamer.settings import DelaySettings, TamerSettings


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


def _reader() -> DelaySettings:
    return DelaySettings(kind="uniform", low=0.2, high=2.0)


@dataclass(frozen=True, kw_only=True)
class TamerTextSettings:
    """Settings of H on text.

    Attributes:
        model: Whose hidden states and tokens H rates: a registered model, a folder or a hub id; null is the
            learner's frozen reference.
        rank: Of H's matrix.
        alpha: Step size: a whole press on one token takes 2 alpha of the error away.
        loss: As in TAMER. The default is ``importance``: a reader presses at a few words in a hundred, and
            silence about the others says nothing.
        delay: Assumed from seeing a word to pressing.
        replay: Earlier lessons that H learns again with each new one; 0 replays nothing.
        capacity: Lessons that are kept for it.
        seed: Draws the projection of the tokens, and the replay.
        weights: Folder of a head that was learnt before (`save_head`), on the same model and with the same
            rank and seed; null begins at H = 0.
        share_words: Whether the tokens of a word share its credit, from its first token to the next word;
            false credits each token by its own time.
    """

    model: str | None = None
    rank: int = 64
    alpha: float = 0.3
    loss: Loss = "importance"
    delay: DelaySettings = field(default_factory=_reader)
    replay: int = 4
    capacity: int = 2000
    seed: int = 0
    weights: str | None = None
    share_words: bool = True

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        for name, least in (("rank", 1), ("capacity", 1), ("replay", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if not 0 < self.alpha < 1:
            # A token's features have length 2 in all, so from 1 on a step overshoots further each time.
            raise ValueError(f"alpha is {self.alpha}; it must be between 0 and 1")
        if self.delay.kind == "previous_step":
            raise ValueError("delay is previous_step; on text give uniform, gamma or empirical, in seconds")
