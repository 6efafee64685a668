"""Settings of the three kinds of feedback."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

from textrl_human.trainers import PRESETS, ReactionSettings, Trainer

Preset = Literal[
    "reference",
    "oracle",
    "stoc",
    "mistake10",
    "skip10",
    "equal",
    "myopic",
    "late",
    "adversarial",
    "loop_maze_human",
]


@dataclass(frozen=True, kw_only=True)
class SimulatedSettings:
    """A preset and what is to be different; null keeps what the preset has.

    Attributes:
        preset: ``reference`` (rates 60 % of the steps by the rule), ``oracle`` (all of them, without
            error), ``stoc`` (the better key is only likelier), ``mistake10`` (a tenth of the keys wrong),
            ``skip10`` (a tenth not pressed), ``equal`` (silent where actions are about as good),
            ``myopic`` (sees ten steps ahead), ``late`` (half a second later than is assumed),
            ``adversarial`` (always the wrong key), ``loop_maze_human`` (rate and delays of a person).
        seed: Draws everything that the trainer leaves to chance, from streams of the trainer's own: the
            learner may have the same seed.
        truth: ``rule``, ``pole_rule``, ``solved``, ``module:function`` or ``file.py:function``; see
            `textrl_human.trainers.Trainer`.
        p_press: Probability that a judged step is rated.
        p_error: Probability of the wrong key.
        rationality: Above 0, the better key is only likelier, the more so the larger this is.
        dead_zone: Judgements of this size or smaller are not worth a key.
        strictness: What an advantage must exceed to please.
        delay: From seeing to pressing.
        multi_press: Probability of pressing once more, again after each press.
        fatigue: Share of the presses that is lost with every minute.
        stop_after: The trainer leaves after this many presses.
        myopia: Shortens the sight of ``solved``: its discount is 1 - myopia per step.
        silence_means: ``nothing``, ``good`` (only punishes) or ``bad`` (only rewards).
        lapse: Probability that a key is taken at random.
    """

    preset: Preset = "reference"
    seed: int = 0
    truth: str | None = None
    p_press: float | None = None
    p_error: float | None = None
    rationality: float | None = None
    dead_zone: float | None = None
    strictness: float | None = None
    delay: ReactionSettings | None = None
    multi_press: float | None = None
    fatigue: float | None = None
    stop_after: int | None = None
    myopia: float | None = None
    silence_means: Literal["nothing", "good", "bad"] | None = None
    lapse: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that the trainer refuses.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        self.trainer()

    def trainer(self) -> Trainer:
        """Return the preset with the changes."""
        given = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "preset"}
        return replace(PRESETS[self.preset], **{k: v for k, v in given.items() if v is not None})


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """Which session to replay.

    Attributes:
        path: A log that `textrl.tamer.human.Human` wrote (JSON lines), or one of `bradknox/tamerproject`.
    """

    path: str


@dataclass(frozen=True, kw_only=True)
class RealtimeSettings:
    """The keyboard.

    Attributes:
        reward: Key for +1.
        punish: Key for -1.
        big_reward: Key for +10.
        big_punish: Key for -10.
        toggle: Key that switches training on and off.
    """

    reward: str = "/"
    punish: str = "z"
    big_reward: str = "?"
    big_punish: str = "Z"
    toggle: str = " "

    def __post_init__(self) -> None:
        """Refuse keys that cannot be told apart.

        Raises:
            ValueError: Names the key.
        """
        seen: dict[str, str] = {}
        for item in fields(self):
            key = getattr(self, item.name)
            if len(key) != 1:
                raise ValueError(f"{item.name} is {key!r}; it must be a single character")
            if key in seen:
                raise ValueError(f"{item.name} is {key!r}, which is {seen[key]} already; choose another key")
            seen[key] = item.name

    def values(self) -> dict[str, float]:
        """Return key -> what it gives."""
        return {self.reward: 1.0, self.punish: -1.0, self.big_reward: 10.0, self.big_punish: -10.0}
