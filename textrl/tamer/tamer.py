"""TAMER: learn H(s, a), what a person gives, and act on it myopically (Knox and Stone, K-CAP 2009).

Data flow: ``show`` puts a step on screen, ``press`` brings what the person did, ``tick`` says what time it
is and lets H learn the steps that no later press can reach; ``rate`` answers for all actions in a state.
Steps that are rated only in part already count there, in a copy of H that the next step throws away.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from textrl.errors import UserError
from textrl.protocols import Signal
from textrl.tamer.credit import CreditAssigner, Sample, Windowed
from textrl.tamer.delays import make_delay
from textrl.tamer.models import HModel, LinearH, make_model
from textrl.tamer.settings import TamerSettings

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shown:
    """A step as the person sees it: what is on screen and the action taken there."""

    observation: Any
    action: int


class Tamer:
    """H, the steps that presses may still reach, and what ties them together.

    Attributes:
        settings: As given.
        n_actions: A.
        model: H as learnt from finished steps.
        credit: The steps of the last seconds.
        last_action: Of the step on screen, None between episodes.
        samples: Samples that H has learnt.
        presses: Presses that were heard while training was on.
    """

    def __init__(
        self,
        settings: TamerSettings,
        observation_space: Any,
        n_actions: int,
        *,
        model: HModel | None = None,
    ) -> None:
        """Begin with H = 0.

        Args:
            settings: Every knob.
            observation_space: Gymnasium's; unused where a model is given.
            n_actions: A.
            model: H, built elsewhere.

        Raises:
            UserError: When the features do not fit the observations.
        """
        self.settings, self.n_actions = settings, n_actions
        self.model = make_model(settings, observation_space, n_actions) if model is None else model
        self.credit: CreditAssigner[Shown] = CreditAssigner(make_delay(settings.delay), settings.loss)
        self.last_action: int | None = None
        self.samples = self.presses = 0
        self._now_s = -np.inf
        self._acting: HModel | None = self.model  # None where it must be made again

    @classmethod
    def from_weights(
        cls, path: str | Path, settings: TamerSettings, observation_space: Any, n_actions: int
    ) -> Tamer:
        """Return a TAMER whose linear H was learnt elsewhere; see `load_weights`."""
        tamer = cls(settings, observation_space, n_actions)
        tamer.load_weights(path)
        return tamer

    @property
    def is_training(self) -> bool:
        """Whether presses count."""
        return self.credit.training

    def rate(self, observation: Any) -> Array:
        """Return H(s, .), (A,) float64, with what is known of unfinished steps."""
        return self.acting.predict(observation)

    @property
    def acting(self) -> HModel:
        """H with the unfinished steps; the model itself where there are none."""
        if self._acting is None:
            partial = self.credit.unfinished(self._now_s)
            self._acting = self.model.branch() if partial else self.model
            for sample in partial:
                _learn(self._acting, sample)
        return self._acting

    def greedy(self, observation: Any, rng: np.random.Generator) -> int:
        """Return argmax_a H(s, a); see `choose` for ties."""
        return choose(self.rate(observation), self.last_action, rng)

    def show(self, observation: Any, action: int, at_s: float) -> None:
        """A step begins: the person sees the observation and the action.

        Args:
            observation: Of the environment; it is copied.
            action: 0 .. A-1.
            at_s: The time, on the clock that also stamps presses.
        """
        self.tick(at_s)
        self.credit.show(Shown(None if observation is None else np.array(observation), int(action)), at_s)
        self.last_action = int(action)

    def press(self, value: float, at_s: float) -> None:
        """The person gives `value`; any number, +1, -1, +10 and -10 on the keyboard."""
        if not np.isfinite(value):
            raise UserError(f"A press has the value {value}; give a finite number.")
        if not self.is_training:
            return
        self.presses += 1
        self._learn(self.credit.press(float(value), at_s))
        self._acting = None

    def tick(self, now_s: float) -> None:
        """Learn the steps that are finished by now; every press up to now must have been told before."""
        if now_s == self._now_s:
            return
        self._now_s = now_s
        if len(self.credit):
            self._learn(self.credit.collect(now_s))
            self._acting = None

    def training(self, on: bool, now_s: float) -> None:
        """Switch training on or off; off, presses are ignored and steps rated too little are dropped."""
        if on == self.is_training:
            return
        if on:
            self.credit.start_training(now_s)
        else:
            self._learn(self.credit.stop_training(now_s))
        self._acting = None

    def end_episode(self, now_s: float) -> None:
        """The last step leaves the screen at `now_s`; presses may reach the last steps for a while yet."""
        self.tick(now_s)
        self.credit.end_episode(now_s)
        self.last_action = None

    def observe(self, signals: Iterable[Signal]) -> None:
        """Take a stream of events: ``shown``, ``press``, ``training``, ``end_episode`` and ``tick``.

        A ``shown`` event has ``observation`` and ``action`` in its payload. Other kinds are passed over.
        """
        for signal in signals:
            if signal.kind == "press":
                self.press(signal.value, signal.time_s)
            elif signal.kind == "shown":
                payload = signal.payload
                self.show(payload.get("observation"), payload["action"], signal.time_s)
            elif signal.kind == "training":
                self.training(wanted(signal, self.is_training), signal.time_s)
            elif signal.kind == "end_episode":
                self.end_episode(signal.time_s)
            elif signal.kind == "tick":
                self.tick(signal.time_s)

    def load_weights(self, path: str | Path) -> None:
        """Read a linear H from a JSON list of A * F numbers, as `bradknox/tamerproject` writes them.

        Each action has its F numbers in turn, in the order of its features: for RBFs position, then
        velocity, and the bias last. For Mountain Car these are 3 x (40 x 40 + 1) = 4,803 numbers.

        Raises:
            UserError: When H is not linear, or the file does not hold that many numbers.
        """
        if not isinstance(self.model, LinearH):
            raise UserError(f"The weights {path} are of a linear H; set model to linear.")
        weights = self.model.weights
        weights[:] = _numbers(path, weights.size).reshape(weights.shape)
        self._acting = None

    def save_weights(self, path: str | Path) -> None:
        """Write a linear H as `load_weights` reads it; a file of that name is replaced.

        Raises:
            UserError: When H is not linear, or the file cannot be written.
        """
        if not isinstance(self.model, LinearH):
            raise UserError(f"Only a linear H has weights for a file; this one is '{self.settings.model}'.")
        from textrl.files import replace_file  # here: it imports torch, and control needs none

        try:
            replace_file(Path(path), json.dumps(self.model.weights.ravel().tolist()) + "\n")
        except OSError as error:
            raise UserError(f"The weights {path} cannot be written ({error.strerror}).") from error

    def state_dict(self) -> dict[str, Any]:
        """Return numpy arrays and JSON data."""
        return {
            "model": self.model.state_dict(),
            "credit": self.credit.state_dict(lambda step: [step.observation, step.action]),
            "last_action": self.last_action,
            "samples": self.samples,
            "presses": self.presses,
            "now_s": None if self._now_s == -np.inf else self._now_s,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`.

        Raises:
            UserError: When it belongs to another model.
        """
        self.model.load_state_dict(state["model"])
        self.credit.load_state_dict(state["credit"], lambda pair: Shown(pair[0], int(pair[1])))
        self.last_action, self._now_s = state["last_action"], state["now_s"]
        self.samples, self.presses = state["samples"], state["presses"]
        if self._now_s is None:
            self._now_s = -np.inf
        self._acting = None

    def _learn(self, samples: Iterable[Sample[Shown]]) -> None:
        for sample in samples:
            _learn(self.model, sample)
            self.samples += 1


def wanted(signal: Signal, training: bool) -> bool:
    """Return whether training should be on after a ``training`` signal.

    Args:
        signal: Its value is above 0 for on; or its payload says ``toggle``, for the other way round.
        training: Whether it is on now.
    """
    return not training if signal.payload.get("toggle") else signal.value > 0


def choose(ratings: Array, last: int | None, rng: np.random.Generator) -> int:
    """Return an action of the highest rating: the last one if it is among them, else one at random.

    Args:
        ratings: (A,).
        last: The action before, or None.
        rng: Draws only where several others tie.

    Raises:
        UserError: When H has diverged.
    """
    best = np.flatnonzero(ratings == ratings.max())
    if not len(best):
        raise UserError("TAMER's H is no longer finite; lower alpha (RBF features want about .05).")
    if len(best) == 1:
        return int(best[0])
    if last is not None and last in best:
        return last
    return int(best[rng.integers(len(best))])


def _learn(model: HModel, sample: Sample[Shown]) -> None:
    if isinstance(sample, Windowed):
        observations = [step.observation for step in sample.steps]
        actions = [step.action for step in sample.steps]
        model.learn_window(observations, actions, sample.credits, sample.label)
    else:
        model.learn(sample.step.observation, sample.step.action, sample.label, sample.weight)


def _numbers(path: str | Path, count: int) -> Array:
    """Read a JSON list of `count` finite numbers."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The weights {path} cannot be read ({error.strerror}); give a JSON file.") from error
    except ValueError as error:
        raise UserError(f"The weights {path} are not JSON ({error}); give a list of numbers.") from error
    plain = isinstance(found, list) and all(type(number) in (int, float) for number in found)
    if not plain:
        raise UserError(f"The weights {path} are not a JSON list of numbers; give {count} of them.")
    if len(found) != count:
        raise UserError(
            f"The weights {path} are {len(found)} numbers, but these features and actions need {count}; "
            "set the features as they were when H was learnt."
        )
    numbers = np.array(found, np.float64)
    if not np.isfinite(numbers).all():
        raise UserError(f"The weights {path} hold {numbers[~np.isfinite(numbers)][0]}; all must be finite.")
    return numbers
