"""What a simulated reader of text is like.

The presets are those of `textrl_human.trainers`. A reader takes longer than somebody who watches a car:
where a preset has the usual delay of control tasks, uniform over .2 to .8 s, a reader's is uniform over .2
to 2 s, which is also what credit on text assumes; ``late`` is half a second later than that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from textrl_human.settings import PresetSettings
from textrl_human.trainers import PRESETS, Reactions, ReactionSettings

#: From seeing a word to pressing; half a second more for who is late.
READING = ReactionSettings(low=0.2, high=2.0)
LATE_READING = ReactionSettings(low=0.7, high=2.5)
_DELAYS = {"late": LATE_READING, "loop_maze_human": PRESETS["loop_maze_human"].delay}


@dataclass(frozen=True, kw_only=True)
class SimulatedTextSettings(PresetSettings):
    """A reader who judges words: a preset, what is to be different, and what the reader likes.

    Attributes:
        preset: ``reference`` (rates 60 % of the words that are good or bad), ``oracle`` (all of them,
            without error), ``stoc`` (the better key is only likelier), ``mistake10`` (a tenth of the keys
            wrong), ``skip10`` (a tenth not pressed), ``equal`` (silent up to a judgement of .1),
            ``myopic`` (remembers ten words), ``late`` (half a second later than is assumed),
            ``adversarial`` (always the wrong key), ``loop_maze_human`` (rate and delays of a person who
            watched a maze).
        strictness: What a judgement must exceed to please; above 0, words without a value displease.
        delay: From the appearance of a word's last token to pressing; by default uniform over .2 to 2 s.
        truth: ``lexicon`` (each word has a value), ``classifier`` (a word is worth what it changes of a
            text's score), or ``module:function`` or ``file.py:function``, which is called with (prompt,
            record, text before, word) and returns a number.
        lexicon: Word -> value, or a file of them (JSON: an object; else lines of word, tab, value); null
            is a small built-in list of words of praise and blame, from -3 to 3.
        classifier: A registered reward that rates whole texts: ``use: NAME`` and its settings.
        scale: Multiplies every value before anything else; ``stoc`` errs with 1 / (1 + exp(|value|)).
        myopia: From 0 to 1; above 0 a rule or a classifier is told only the last 1 / myopia words of the
            response before the one that is judged.
    """

    truth: str = "lexicon"
    lexicon: Mapping[str, float] | str | None = None
    classifier: Mapping[str, Any] | None = field(default=None)
    scale: float = 1.0
    myopia: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work, and those that contradict each other.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        self.reactions()
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale is {self.scale}; it must be above 0")
        if self.truth == "classifier" and self.classifier is None:
            raise ValueError("classifier is missing, but truth is 'classifier'; give {use: NAME}")
        for name in ("lexicon", "classifier"):
            if getattr(self, name) is not None and self.truth != name:
                raise ValueError(
                    f"{name} is given, but truth is '{self.truth}'; set truth to {name} or leave {name} out"
                )
        if not 0 <= self._myopia < 1:
            raise ValueError(f"myopia is {self._myopia}; it must be from 0 to below 1")
        if self._myopia > 0 and self.truth == "lexicon":
            raise ValueError(
                f"myopia is {self._myopia} (preset '{self.preset}'), but truth is 'lexicon', which looks at "
                "one word alone and has nothing to forget; give a rule or a classifier, or myopia: 0"
            )

    @property
    def memory(self) -> int | None:
        """How many words of the response the reader keeps in mind; None for all."""
        return max(1, round(1 / self._myopia)) if self._myopia > 0 else None

    @property
    def _myopia(self) -> float:
        return PRESETS[self.preset].myopia if self.myopia is None else self.myopia

    def reactions(self) -> Reactions:
        """Return the preset with the changes; its `delay` says what credit should assume to match it."""
        preset = PRESETS[self.preset]
        knobs = {item.name: getattr(preset, item.name) for item in fields(Reactions)}
        return self.changed(Reactions(**knobs | {"delay": _DELAYS.get(self.preset, READING)}))
