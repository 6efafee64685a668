"""What a simulated trainer is like, and the presets.

oracle, stoc, mistake10, skip10, equal and myopic follow the simulated teachers of B-Pref (Lee, Smith,
Dragan and Abbeel 2021), carried over from comparing segments to rating steps. `reference` is the trainer
behind the figures for simultaneous TAMER+RL. `loop_maze_human` has the press rate and the latencies of a
recorded session with a person (`bradknox/tamerproject`, loop maze): a press on 79 % of the steps, latency
median .508 s, 10th and 90th percentile .417 and .670 s, which a shifted lognormal distribution meets.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from textrl.tamer.settings import DelaySettings

#: (observation, action) -> advantage: how much better than usual the action is.
Truth = Callable[[Any, int], float]


@dataclass(frozen=True, kw_only=True)
class ReactionSettings:
    """How long the trainer takes from seeing a step to pressing.

    Attributes:
        kind: ``uniform`` over [low, high]; ``lognormal``; ``gamma``; ``outcome_wait`` (waits up to `wait`
            seconds to see what comes of the action, then reacts within [low, high]).
        low: The fastest reaction, seconds (uniform, outcome_wait).
        high: The slowest reaction, seconds (uniform, outcome_wait).
        median: Median, seconds (lognormal).
        sigma: Standard deviation of the logarithm (lognormal).
        shift: No press is faster than this, seconds (lognormal).
        shape: k (gamma).
        scale: theta, seconds (gamma).
        wait: The longest wait for an outcome, seconds, each length as likely (outcome_wait).
    """

    kind: Literal["uniform", "lognormal", "gamma", "outcome_wait"] = "uniform"
    low: float = 0.2
    high: float = 0.8
    median: float = 0.508
    sigma: float = 0.45
    shift: float = 0.3
    shape: float = 2.0
    scale: float = 0.28
    wait: float = 3.2

    def __post_init__(self) -> None:
        """Refuse values that make no distribution.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        if not 0 <= self.low < self.high < math.inf:
            raise ValueError(f"low is {self.low} and high {self.high}; 0 <= low < high must hold")
        if not 0 <= self.shift < self.median < math.inf:
            raise ValueError(f"median is {self.median} and shift {self.shift}; 0 <= shift < median must hold")
        for name in ("sigma", "shape", "scale", "wait"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")

    def draw(self, rng: np.random.Generator) -> float:
        """Return one delay in seconds."""
        if self.kind == "uniform":
            return float(rng.uniform(self.low, self.high))
        if self.kind == "lognormal":
            return self.shift + (self.median - self.shift) * math.exp(self.sigma * rng.standard_normal())
        if self.kind == "gamma":
            return float(rng.gamma(self.shape, self.scale))
        return float(rng.uniform(0.0, self.wait) + rng.uniform(self.low, self.high))

    def matched(self) -> DelaySettings:
        """Return the delay that credit assignment should assume for this trainer.

        Uniform and gamma delays are met exactly, the others by straight lines between points of their
        cumulative distribution.
        """
        if self.kind == "uniform":
            return DelaySettings(kind="uniform", low=self.low, high=self.high)
        if self.kind == "gamma":
            return DelaySettings(kind="gamma", shape=self.shape, scale=self.scale)
        if self.kind == "lognormal":
            levels = [i / 64 for i in range(1, 64)] + [0.995, 0.999]
            spread = [math.exp(self.sigma * NormalDist().inv_cdf(level)) for level in levels]
            times = [self.shift + (self.median - self.shift) * factor for factor in spread]
            end = times[-1] + (times[-1] - times[-2])
            return DelaySettings(kind="empirical", times=(self.shift, *times, end), cdf=(0.0, *levels, 1.0))
        grid = np.linspace(self.low, self.high + self.wait, 65)
        width = self.high - self.low
        # The mean of a uniform distribution's F over the wait.
        area = [_ramp(t - self.low, width) - _ramp(t - self.low - self.wait, width) for t in grid]
        cdf = (0.0, *(value / self.wait for value in area[1:-1]), 1.0)
        return DelaySettings(kind="empirical", times=tuple(grid.tolist()), cdf=cdf)


def _ramp(t: float, width: float) -> float:
    """Return the integral up to t of a distribution function that rises from 0 to 1 over [0, width]."""
    inside = min(max(t, 0.0), width)
    return float(inside * inside / (2 * width) + max(t - width, 0.0))


@dataclass(frozen=True, kw_only=True)
class Reactions:
    """How a simulated person gets from a judgement to a key.

    What is judged has a value less `strictness`; a judgement becomes a key, +1 or -1; a key may be
    pressed, after a delay. Every probability is drawn for all that is judged, whether it matters or not,
    so that two people with one seed meet the same luck.

    Attributes:
        seed: Draws everything.
        p_press: Probability that what is judged is rated.
        p_error: Probability of the wrong key.
        rationality: Takes the good key with probability 1 / (1 + exp(-rationality * judgement)); None
            always takes the one that the judgement's sign says.
        dead_zone: Judgements of this size or smaller are not worth a key.
        strictness: What a value must exceed to please.
        delay: From seeing to pressing.
        multi_press: Probability of pressing once more, again after each press.
        fatigue: Share of the presses that is lost with every minute since the first thing seen.
        stop_after: The person leaves after this many presses; None stays.
        silence_means: ``nothing``; ``good`` (only punishes: silence approves) or ``bad`` (only rewards).
        lapse: Probability that a key is taken at random, without looking.
    """

    seed: int = 0
    p_press: float = 1.0
    p_error: float = 0.0
    rationality: float | None = None
    dead_zone: float = 0.0
    strictness: float = 0.0
    delay: ReactionSettings = field(default_factory=ReactionSettings)
    multi_press: float = 0.0
    fatigue: float = 0.0
    stop_after: int | None = None
    silence_means: Literal["nothing", "good", "bad"] = "nothing"
    lapse: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        for name in ("p_press", "p_error", "multi_press", "fatigue", "lapse"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 0 and 1")
        if self.multi_press == 1:
            raise ValueError("multi_press is 1.0; such a trainer never lets go of the key")
        if not 0 <= self.dead_zone < math.inf:
            raise ValueError(f"dead_zone is {self.dead_zone}; it must be 0 or more")
        if not math.isfinite(self.strictness):
            raise ValueError(f"strictness is {self.strictness}; it must be a finite number")
        if self.rationality is not None and not 0 <= self.rationality < math.inf:
            raise ValueError(f"rationality is {self.rationality}; it must be 0 or more, or null")
        if self.stop_after is not None and self.stop_after < 0:
            raise ValueError(f"stop_after is {self.stop_after}; it must be 0 or more, or null")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Trainer(Reactions):
    """A simulated trainer of control tasks: judges a step by its advantage.

    Attributes:
        truth: What the trainer knows: ``rule`` (Mountain Car: push with the velocity, +1 or -1),
            ``pole_rule`` (Cart Pole: push towards the side to which the pole falls), ``solved`` (Mountain
            Car: an action's advantage over the mean of all, in steps, from value iteration),
            ``module:function`` or ``file.py:function``, or a callable (observation, action) -> advantage.
        myopia: Shortens the sight of ``solved``: its discount is 1 - myopia per step.
    """

    truth: str | Truth = "rule"
    myopia: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ValueError: Names the setting, its value and the fix.
        """
        super().__post_init__()
        if not 0 <= self.myopia < 1:
            raise ValueError(f"myopia is {self.myopia}; it must be from 0 to below 1")
        if self.myopia > 0 and self.truth != "solved":
            raise ValueError(
                f"myopia is {self.myopia} but truth is {self.truth!r}; only 'solved' looks ahead"
            )


#: How fast a recorded person pressed; see the module's first lines.
_LOOP_MAZE = ReactionSettings(kind="lognormal", median=0.508, sigma=0.45, shift=0.3)

PRESETS: dict[str, Trainer] = {
    "reference": Trainer(p_press=0.6),
    "oracle": Trainer(),
    "stoc": Trainer(rationality=1.0),
    "mistake10": Trainer(p_error=0.1),
    "skip10": Trainer(p_press=0.9),
    "equal": Trainer(truth="solved", dead_zone=0.1),
    "myopic": Trainer(truth="solved", myopia=0.1, dead_zone=1e-6),
    "late": Trainer(p_press=0.6, delay=ReactionSettings(low=0.7, high=1.3)),
    "adversarial": Trainer(p_error=1.0),
    "loop_maze_human": Trainer(p_press=0.79, delay=_LOOP_MAZE),
}
