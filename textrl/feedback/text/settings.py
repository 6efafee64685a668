"""Every knob of a text session."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from textrl.settings import build
from textrl.tamer.credit import Loss
from textrl.tamer.settings import DelaySettings

#: What is written on when nobody gives prompts.
PROMPTS = (
    "The film begins on a rainy evening in a small town, and",
    "What I remember best about the place where I grew up is",
    "Dear neighbour, I am writing to you because",
)


def _reader() -> DelaySettings:
    return DelaySettings(kind="uniform", low=0.2, high=2.0)


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """Settings of a text session; all of them stand in the session's config, so that a replay has them.

    Attributes:
        model: A registered model, a folder, or a hub id; ``made`` is the registered ``tiny-gpt2``.
        model_sha256: Of the weights that the session was recorded with; null is not checked.
        prompts: What the model goes on from, in turn.
        seed: Keys the sampling noise and H's random projection.
        step_s: Seconds for each token; the trainer can change it.
        read_s: Seconds in which a new prompt can be read before the first token.
        pause_s: Seconds after a text, in which its last words can still be rated.
        max_new_tokens: Longest text.
        temperature: Divides the model's logits.
        beta: Nats for each unit of H in the choice of tokens.
        cap_nats: The most that H moves a token's logit, either way.
        rank: Of H's matrix.
        alpha: Step size of H: a whole press on one token takes 2 alpha of the error away.
        loss: As in TAMER. The default is ``importance``: a reader presses at a few words in a hundred, and
            silence about the others says nothing.
        delay: From seeing a word to pressing, until a calibration measures it.
        threads: Of torch; sums of another number of threads round otherwise.
    """

    model: str = "made"
    model_sha256: str | None = None
    prompts: tuple[str, ...] = PROMPTS
    seed: int = 0
    step_s: float = 0.25
    read_s: float = 1.5
    pause_s: float = 2.0
    max_new_tokens: int = 48
    temperature: float = 1.0
    beta: float = 8.0
    cap_nats: float = 3.0
    rank: int = 64
    alpha: float = 0.3
    loss: Loss = "importance"
    delay: DelaySettings = field(default_factory=_reader)
    threads: int = 1

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        for name in ("step_s", "temperature", "cap_nats"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("read_s", "pause_s", "beta"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        for name in ("max_new_tokens", "rank", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.alpha < 1:
            # A token's features have length 2 in all, so from 1 on a step overshoots further each time.
            raise ValueError(f"alpha is {self.alpha}; it must be between 0 and 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more")
        if not self.prompts:
            raise ValueError("prompts is empty; give at least one")
        if self.delay.kind == "previous_step":
            raise ValueError("delay is previous_step; on text give uniform, gamma or empirical, in seconds")


def text_settings(config: Mapping[str, Any], where: str) -> TextSettings:
    """Return the settings that a config holds.

    Args:
        config: As stored with the session, or as somebody gave it.
        where: What to call it in messages.

    Raises:
        UserError: On an unknown key, a wrong type or a refused value.
    """
    return build(TextSettings, config, where=lambda key: where)
