"""Credit: which of the steps a person has seen does a press speak of?

A press at time t rates what was on screen a delay ago. With F the delay's cumulative distribution, a step
shown on [t_s, t_e) gets the credit c = F(t - t_s) - F(t - t_e); over steps that cover every possible delay
the credits sum to 1. From it come the samples that H learns from, by one of four rules (the author's
names; Knox's `tamerproject` and Warnell 2018):

    aggregate                  a step's label is the sum of value x credit over all presses, one sample per
                               step once no press can reach it any more; silence is label 0
    aggregate_rewarded_only    the same, without the steps that no press reached
    window                     1/2 [value - sum_j c_j H(s_j, a_j)]^2 for each press
    importance                 c [H(s, a) - value]^2 for each press and step

Presses must be told before `collect` is asked about a later time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from textrl.tamer.delays import Array, Delay

#: A step is finished when this much of its credit is used; 1 up to rounding and long tails.
FINISHED = 0.99999
#: With more than this used, an unfinished step teaches the temporary model.
USABLE = 0.5
#: A step with less than this used is dropped when training is switched off.
KEPT = 0.9
#: Credit up to this is rounding: at a clock of 1e5 s, differences of times are off by some 1e-11 s.
_NOTHING = 1e-9
#: Below this, in seconds, a step counts as a single moment: an average over it would be all rounding.
_MOMENT_S = 1e-9

Loss = Literal["aggregate", "aggregate_rewarded_only", "window", "importance"]
S = TypeVar("S")


def credit(delay: Delay, press_s: float, shown_s: ArrayLike, hidden_s: ArrayLike) -> Array:
    """Return F(t - t_s) - F(t - t_e), the probability that a press at t speaks of a step.

    Args:
        delay: From seeing to pressing.
        press_s: t, when the key was pressed.
        shown_s: t_s, when each step appeared; scalar or array.
        hidden_s: t_e, when it was replaced, of the same shape; infinite while it is on screen.
    """
    # Both at once: for the few steps in question numpy's calls cost more than its arithmetic.
    since_shown, since_hidden = delay.cdf(press_s - np.array([shown_s, hidden_s], np.float64))
    share: Array = since_shown - since_hidden
    return share


def used_credit(delay: Delay, now_s: float, shown_s: ArrayLike, hidden_s: ArrayLike) -> Array:
    """Return how much of the credit that a step can ever get belongs to presses up to now.

    It is the mean of F(now - s) over the time s at which the step was on screen, in [0, 1].

    Args:
        delay: From seeing to pressing.
        now_s: The time.
        shown_s: When each step appeared; scalar or array.
        hidden_s: When it was replaced, of the same shape; where that is not yet, the mean is over the time
            until now.
    """
    times = np.array([shown_s, hidden_s], np.float64)
    shown = times[0]
    times[1] = np.maximum(np.minimum(times[1], now_s), shown)
    length = times[1] - shown
    since_shown, since_hidden = delay.cdf_integral(now_s - times)
    mean: Array = (since_shown - since_hidden) / np.maximum(length, _MOMENT_S)
    if length.min(initial=np.inf) <= _MOMENT_S:
        mean = np.where(length > _MOMENT_S, mean, delay.cdf(now_s - shown))
    return np.minimum(np.maximum(mean, 0.0), 1.0)


@dataclass(frozen=True)
class Labelled(Generic[S]):
    """H(step) should be `label`; `weight` multiplies the squared error."""

    step: S
    label: float
    weight: float = 1.0


@dataclass(frozen=True)
class Windowed(Generic[S]):
    """sum_j credits[j] H(steps[j]) should be `label`."""

    steps: tuple[S, ...]
    credits: tuple[float, ...]
    label: float


Sample = Labelled[S] | Windowed[S]


@dataclass(slots=True)
class _Pending(Generic[S]):
    """A step that presses may still reach; `number` counts the steps shown, `hidden_s` is inf on screen."""

    step: S
    number: int
    shown_s: float
    hidden_s: float = np.inf
    reward: float = 0.0
    reached: bool = False


class CreditAssigner(Generic[S]):
    """Remembers the steps of the last seconds and turns presses into samples.

    A step is whatever the caller shows; it comes back in the samples.

    Attributes:
        training: Presses count, and steps may finish. Steps shown while it is off are remembered as long
            as none of their credit is used, since training may be switched on in time for them.
    """

    def __init__(self, delay: Delay, loss: Loss = "aggregate", *, training: bool = True) -> None:
        self.delay, self.loss, self.training = delay, loss, training
        self._pending: list[_Pending[S]] = []
        self._slots = 0  # steps shown, and pauses after episodes, each of which a delay in steps counts
        self._known: tuple[float, list[float]] | None = None  # used credit of `_pending` at some time

    def __len__(self) -> int:
        """Return how many steps presses may still reach."""
        return len(self._pending)

    def show(self, step: S, at_s: float) -> None:
        """A step replaces what was on screen."""
        self._hide(at_s)
        self._known = None
        self._pending.append(_Pending(step, self._slots, at_s))
        self._slots += 1

    def end_episode(self, now_s: float) -> None:
        """The last step is over and none follows at once; presses may still reach the last steps."""
        self._hide(now_s)
        self._slots += 1

    def press(self, value: float, at_s: float) -> list[Sample[S]]:
        """Share a press out among the steps.

        Returns:
            The samples to learn at once: none where labels are aggregated per step.
        """
        if not self.training or not self._pending:
            return []
        shares = self._credits(at_s).tolist()
        reached = [(p, share) for p, share in zip(self._pending, shares, strict=True) if share > _NOTHING]
        if not reached:
            return []
        if self.loss == "window":
            steps = tuple(pending.step for pending, _ in reached)
            return [Windowed(steps, tuple(share for _, share in reached), value)]
        if self.loss == "importance":
            return [Labelled(pending.step, value, share) for pending, share in reached]
        for pending, share in reached:
            pending.reward += value * share
            pending.reached = True
        return []

    def use(self, delay: Delay) -> None:
        """Assume another delay from now on; what presses were credited with stays."""
        self.delay, self._known = delay, None

    def reached(self, at_s: float) -> list[S]:
        """Return the steps that a press at a time would speak of, oldest first; nothing changes."""
        if not self.training or not self._pending:
            return []
        shares = self._credits(at_s).tolist()
        return [p.step for p, share in zip(self._pending, shares, strict=True) if share > _NOTHING]

    def collect(self, now_s: float) -> list[Sample[S]]:
        """Forget the steps that are out of reach of later presses and return their samples, oldest first."""
        if not self._pending:
            return []
        used = self._used(now_s)
        if not self.training:
            # What began to be rated while nobody listened would look like silence.
            self._keep_unused(used)
            return []
        # Steps finish in the order in which they were shown; the one on screen never does.
        done = 0
        while done < len(used) and used[done] >= FINISHED and self._pending[done].hidden_s < np.inf:
            done += 1
        finished, self._pending = self._pending[:done], self._pending[done:]
        self._known = (now_s, used[done:])
        return self._labelled([(pending, 1.0) for pending in finished])

    def unfinished(self, now_s: float) -> list[Sample[S]]:
        """Return samples of steps with much of their credit used, scaled to what the whole may become.

        They are guesses: learn them into a copy of the model that the next step throws away.
        """
        if not self.training or not self._pending or not self._aggregates:
            return []
        pairs = zip(self._pending, self._used(now_s), strict=True)
        return self._labelled([(pending, share) for pending, share in pairs if share > USABLE])

    def stop_training(self, now_s: float) -> list[Sample[S]]:
        """Switch training off; returns the samples of the steps that were rated long enough to keep."""
        if not self.training:
            return []
        self.training = False
        used = self._used(now_s) if self._pending else []
        rated = [(p, share) for p, share in zip(self._pending, used, strict=True) if share >= KEPT]
        self._keep_unused(used)
        return self._labelled(rated)

    def start_training(self, now_s: float) -> None:
        """Switch training on; a step counts from here on if none of its credit was missed."""
        self.collect(now_s)
        self.training = True

    def state_dict(self, pack: Callable[[S], Any]) -> dict[str, Any]:
        """Return the steps within reach; `pack` turns one into what a checkpoint can hold."""
        pending = [
            {
                "step": pack(p.step),
                "number": p.number,
                "shown_s": p.shown_s,
                "hidden_s": None if p.hidden_s == np.inf else p.hidden_s,
                "reward": p.reward,
                "reached": p.reached,
            }
            for p in self._pending
        ]
        return {"pending": pending, "slots": self._slots, "training": self.training}

    def load_state_dict(self, state: Mapping[str, Any], unpack: Callable[[Any], S]) -> None:
        """Continue from `state_dict`."""
        self._pending = [
            _Pending(
                unpack(p["step"]),
                p["number"],
                p["shown_s"],
                np.inf if p["hidden_s"] is None else p["hidden_s"],
                p["reward"],
                p["reached"],
            )
            for p in state["pending"]
        ]
        self._slots, self.training = state["slots"], state["training"]
        self._known = None

    @property
    def _aggregates(self) -> bool:
        return self.loss in ("aggregate", "aggregate_rewarded_only")

    def _hide(self, at_s: float) -> None:
        if self._pending and self._pending[-1].hidden_s == np.inf:
            self._pending[-1].hidden_s = at_s
            self._known = None

    def _keep_unused(self, used: list[float]) -> None:
        self._pending = [p for p, share in zip(self._pending, used, strict=True) if share <= _NOTHING]
        self._known = None

    def _labelled(self, pairs: list[tuple[_Pending[S], float]]) -> list[Sample[S]]:
        """Return one sample per step and share of used credit, as the loss asks."""
        if not self._aggregates:
            return []
        silence_counts = self.loss == "aggregate"
        return [Labelled(p.step, p.reward / share) for p, share in pairs if silence_counts or p.reached]

    def _credits(self, at_s: float) -> Array:
        if self.delay.unit == "seconds":
            return credit(self.delay, at_s, *self._times())
        # A step fills its slot from `number` to `number` + 1, and where in its slot a press is, is no matter.
        numbers = np.array([p.number for p in self._pending], np.float64)
        return credit(self.delay, self._slot_at(at_s), numbers, numbers + 1)

    def _used(self, now_s: float) -> list[float]:
        if self._known is None or self._known[0] != now_s:
            if self.delay.unit == "seconds":
                used = used_credit(self.delay, now_s, *self._times())
            else:
                numbers = np.array([p.number for p in self._pending], np.float64)
                used = used_credit(self.delay, self._slot_at(now_s), numbers, numbers + 1)
            self._known = (now_s, used.tolist())
        return self._known[1]

    def _times(self) -> tuple[Array, Array]:
        both = np.array([(p.shown_s, p.hidden_s) for p in self._pending], np.float64)
        return both[:, 0], both[:, 1]

    def _slot_at(self, at_s: float) -> float:
        """Return the number of the step that was on screen at a time, or of the pause after it."""
        for p in reversed(self._pending):
            if at_s >= p.hidden_s:
                return float(min(p.number + 1, self._slots))
            if at_s >= p.shown_s:
                return float(p.number)
        return float(self._pending[0].number - 1)
