"""Every knob of TAMER: what H is, how it learns, how long a person takes to press, and the session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from textrl.features import FeatureSettings
from textrl.tamer.credit import Loss


@dataclass(frozen=True, kw_only=True)
class DelaySettings:
    """The delay between seeing a step and pressing a key that credit assignment assumes.

    Attributes:
        kind: ``uniform`` over [low, high]; ``gamma``; ``previous_step`` (slow tasks: a press rates the step
            before the one on screen); ``empirical`` (a distribution measured by a calibration).
        low: The fastest press, seconds (uniform).
        high: The slowest press, seconds (uniform).
        shape: k (gamma).
        scale: theta, seconds (gamma); the mean is k theta.
        times: Increasing times, seconds (empirical).
        cdf: The share of presses up to each of `times`, from 0 to 1 (empirical).
    """

    kind: Literal["uniform", "gamma", "previous_step", "empirical"] = "uniform"
    low: float = 0.2
    high: float = 0.8
    shape: float = 2.0
    scale: float = 0.28
    times: tuple[float, ...] = ()
    cdf: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse values that make no distribution.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        from textrl.tamer.delays import make_delay

        if self.kind == "empirical" and not self.times:
            raise ValueError("times is empty; an empirical delay needs times and cdf")
        make_delay(self)


@dataclass(frozen=True, kw_only=True)
class TamerSettings:
    """Settings of TAMER.

    Attributes:
        model: Of H: ``linear`` in the features, ``knn`` (k nearest samples), or ``network`` (Deep TAMER).
        features: What H sees. The default suits ``linear``; for ``knn``, which takes distances between
            features, and for ``network``, ``kind: polynomial, degree: 1`` is the scaled state itself.
        alpha: Step size of the linear model. The sources have .001, .05 and .15; the reference figures
            were measured with .05.
        loss: ``aggregate`` (one label per step, silence is 0), ``aggregate_rewarded_only`` (without the
            steps that no press reached), ``window`` (K-CAP 2009) or ``importance`` (Deep TAMER).
        delay: Assumed between seeing and pressing.
        neighbours: k of ``knn``.
        capacity: Samples that ``knn`` keeps per action and ``network`` in its replay buffer.
        hidden: Widths of the network's hidden layers.
        learning_rate: Of the network's Adam.
        replay: Earlier samples that the network learns together with each new one.
        model_seed: Draws the network's weights and its replay.
    """

    model: Literal["linear", "knn", "network"] = "linear"
    features: FeatureSettings = field(default_factory=FeatureSettings)
    alpha: float = 0.05
    loss: Loss = "aggregate"
    delay: DelaySettings = field(default_factory=DelaySettings)
    neighbours: int = 8
    capacity: int = 10_000
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 1e-3
    replay: int = 15
    model_seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        for name in ("alpha", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name, least in (("neighbours", 1), ("capacity", 1), ("replay", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden is {self.hidden}; every layer needs at least one unit")
        if self.model == "knn" and self.loss == "window":
            raise ValueError("loss is window, which knn cannot learn; use aggregate or importance")


@dataclass(frozen=True, kw_only=True)
class HumanSettings:
    """Settings of a session.

    Attributes:
        step_s: How long a step stays on screen, seconds.
        pause_s: Pause at the end of an episode, seconds, so that the last actions can be rated.
        schedule: Episodes in which training is on, as (first, one past the last); null trains always, an
            empty list never, until the person switches it on.
    """

    step_s: float = 0.2
    pause_s: float = 1.0
    schedule: tuple[tuple[int, int], ...] | None = None

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        if not 0 < self.step_s < float("inf"):
            raise ValueError(f"step_s is {self.step_s}; it must be above 0 seconds")
        if not 0 <= self.pause_s < float("inf"):
            raise ValueError(f"pause_s is {self.pause_s}; it must be 0 seconds or more")
        for first, last in self.schedule or ():
            if not 0 <= first < last:
                raise ValueError(
                    f"schedule holds [{first}, {last}]; write [first, one past the last] episode"
                )

    def trains(self, episode: int) -> bool:
        """Return whether training is on in an episode, counted from 0."""
        return self.schedule is None or any(first <= episode < last for first, last in self.schedule)
