"""Settings of ``simulated``, ``replay`` and ``realtime``, and what every simulated person has."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal, TypeVar

from textrl_human.trainers import PRESETS, Reactions, ReactionSettings, Trainer

R = TypeVar("R", bound=Reactions)

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
class PresetSettings:
    """A preset and what is to be different; null keeps what the preset has.

    Attributes:
        preset: ``reference`` (rates 60 % of what can be rated), ``oracle`` (all of it, without error),
            ``stoc`` (the better key is only likelier), ``mistake10`` (a tenth of the keys wrong),
            ``skip10`` (a tenth not pressed), ``equal`` (silent about what is about as good as the rest),
            ``myopic`` (short-sighted), ``late`` (half a second later than is assumed), ``adversarial``
            (always the wrong key), ``loop_maze_human`` (rate and delays of a person).
        seed: Draws everything that the person leaves to chance, from streams of the person's own: the
            learner may have the same seed.
        p_press: Probability that what is judged is rated.
        p_error: Probability of the wrong key.
        rationality: Above 0, the better key is only likelier, the more so the larger this is.
        dead_zone: Judgements of this size or smaller are not worth a key.
        strictness: What a judgement must exceed to please.
        delay: From seeing to pressing.
        multi_press: Probability of pressing once more, again after each press.
        fatigue: Share of the presses that is lost with every minute.
        stop_after: The person leaves after this many presses.
        silence_means: ``nothing``, ``good`` (only punishes) or ``bad`` (only rewards).
        lapse: Probability that a key is taken at random.
    """

    preset: Preset = "reference"
    seed: int = 0
    p_press: float | None = None
    p_error: float | None = None
    rationality: float | None = None
    dead_zone: float | None = None
    strictness: float | None = None
    delay: ReactionSettings | None = None
    multi_press: float | None = None
    fatigue: float | None = None
    stop_after: int | None = None
    silence_means: Literal["nothing", "good", "bad"] | None = None
    lapse: float | None = None

    def changed(self, person: R) -> R:
        """Return a person with those of these settings that are given and that this person has."""
        given = {item.name: getattr(self, item.name, None) for item in fields(person)}
        return replace(person, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, kw_only=True)
class SimulatedSettings(PresetSettings):
    """A preset and what is to be different; null keeps what the preset has.

    Attributes:
        preset: ``reference`` (rates 60 % of the steps by the rule), ``oracle`` (all of them, without
            error), ``stoc`` (the better key is only likelier), ``mistake10`` (a tenth of the keys wrong),
            ``skip10`` (a tenth not pressed), ``equal`` (silent where actions are about as good),
            ``myopic`` (sees ten steps ahead), ``late`` (half a second later than is assumed),
            ``adversarial`` (always the wrong key), ``loop_maze_human`` (rate and delays of a person).
        truth: ``rule``, ``pole_rule``, ``solved``, ``module:function`` or ``file.py:function``; see
            `textrl_human.trainers.Trainer`.
        strictness: What an advantage must exceed to please.
        myopia: Shortens the sight of ``solved``: its discount is 1 - myopia per step.
    """

    truth: str | None = None
    myopia: float | None = None

    def __post_init__(self) -> None:
        """Refuse values that the trainer refuses.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        self.trainer()

    def trainer(self) -> Trainer:
        """Return the preset with the changes."""
        return self.changed(PRESETS[self.preset])


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
