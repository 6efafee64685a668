"""A simulated trainer at work: watches steps, waits, presses."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from typing import Any

from textrl import streams
from textrl.errors import UserError
from textrl.protocols import Signal
from textrl_human.settings import SimulatedSettings
from textrl_human.trainers import Trainer
from textrl_human.truths import find_truth

#: Seconds between a press and its repetition.
REPEAT_S = 0.15


class SimulatedTrainer:
    """Gives the presses of a `Trainer`, on the clock that stamps the steps it is shown.

    Attributes:
        trainer: What it is like.
        steps: Steps watched.
        presses: Presses decided on, delivered or not yet.
    """

    def __init__(self, settings: SimulatedSettings | Trainer) -> None:
        """Seed the generators.

        Args:
            settings: A preset with changes, or the trainer itself.

        Raises:
            UserError: When the trainer's truth does not exist.
        """
        self.trainer = settings if isinstance(settings, Trainer) else settings.trainer()
        self._truth = find_truth(self.trainer)
        # Delays have a generator of their own: how many numbers one takes depends on its distribution.
        self._rng = streams.stream(self.trainer.seed, streams.TRAINER)
        self._delays = streams.stream(self.trainer.seed, streams.TRAINER_DELAYS)
        self.steps = self.presses = 0
        self._began_s: float | None = None
        self._waiting: list[tuple[float, int, float]] = []  # a heap of (time, number, value)

    def watch(self, observation: Any, action: int, shown_s: float) -> None:
        """See a step, and decide whether and when to press.

        Raises:
            UserError: When the truth gives no finite number.
        """
        trainer = self.trainer
        if self._began_s is None:
            self._began_s = shown_s
        self.steps += 1
        attends, lapses, either, errs, prefers = self._rng.random(5).tolist()
        judgement = float(self._truth(observation, action)) - trainer.strictness
        if not math.isfinite(judgement):
            raise UserError(
                f"The trainer's truth gave {judgement} for action {action}; return finite numbers."
            )
        if lapses < trainer.lapse:
            good = either < 0.5
        elif abs(judgement) <= trainer.dead_zone:
            return
        else:
            good = self._prefers(judgement, prefers) != (errs < trainer.p_error)
        if trainer.silence_means == ("good" if good else "bad"):
            return
        tired = (1.0 - trainer.fatigue) ** ((shown_s - self._began_s) / 60)
        if attends >= trainer.p_press * tired:
            return
        self._press(shown_s + trainer.delay.draw(self._delays), 1.0 if good else -1.0)

    def poll(self, now_s: float) -> Sequence[Signal]:
        """Return the presses up to `now_s` that were not returned before, oldest first."""
        given = []
        while self._waiting and self._waiting[0][0] <= now_s:
            time_s, _, value = heapq.heappop(self._waiting)
            given.append(Signal(value=value, time_s=time_s))
        return given

    def state_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {
            "rng": dict(self._rng.bit_generator.state),
            "delays": dict(self._delays.bit_generator.state),
            "steps": self.steps,
            "presses": self.presses,
            "began_s": self._began_s,
            "waiting": [list(press) for press in self._waiting],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self._rng.bit_generator.state = dict(state["rng"])
        self._delays.bit_generator.state = dict(state["delays"])
        self.steps, self.presses, self._began_s = state["steps"], state["presses"], state["began_s"]
        self._waiting = [(float(t), int(number), float(value)) for t, number, value in state["waiting"]]

    def _prefers(self, judgement: float, drawn: float) -> bool:
        """Return whether the trainer takes the good key for a judgement."""
        if self.trainer.rationality is None:
            return judgement > 0
        # tanh does not overflow where exp would.
        return drawn < 0.5 * (1.0 + math.tanh(0.5 * self.trainer.rationality * judgement))

    def _press(self, at_s: float, value: float) -> None:
        """Press once, and perhaps again."""
        again = True
        while again and (self.trainer.stop_after is None or self.presses < self.trainer.stop_after):
            heapq.heappush(self._waiting, (at_s, self.presses, value))
            self.presses += 1
            at_s += REPEAT_S
            again = self.trainer.multi_press > 0 and self._delays.random() < self.trainer.multi_press
