"""Callbacks on SB3's own hook: the learner's work at the edge of a rollout, then the user's callback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from textrl.learners.callbacks import Callback, goes_on

if TYPE_CHECKING:
    from textrl.learners.sb3.learner import SB3Learner


class Hooks(BaseCallback):  # type: ignore[misc] # SB3 is not type-checked here
    """One learner's callback for the length of one `learn`.

    SB3's objects get the learner as their ``model``, not the algorithm inside: what they save is then a
    checkpoint folder, and what they evaluate is what the learner predicts. A function of the learner is
    called after every step of the copies; returning False stops.

    Attributes:
        stopped: A callback has returned False.
    """

    def __init__(self, learner: SB3Learner, callback: Callback, show: Callable[[], None]) -> None:
        super().__init__()
        self._learner, self._show = learner, show
        self._function: Callable[[Any], bool | None] | None = None
        self._object: Any = None
        self.stopped = False
        if isinstance(callback, Sequence):
            self._object = CallbackList(list(callback))
        elif hasattr(callback, "on_step"):
            self._object = callback
        elif callback is not None:
            self._function = callback

    def _init_callback(self) -> None:
        if self._object is not None:
            self._object.init_callback(self._learner)

    def _on_training_start(self) -> None:
        if self._object is not None:
            self._object.on_training_start(self.locals, self.globals)

    def _on_rollout_start(self) -> None:
        self._learner.rollout_starts()
        self._show()
        if self._object is not None:
            self._object.on_rollout_start()

    def _on_step(self) -> bool:
        go_on = True
        if self._function is not None:
            go_on = goes_on(self._function(self._learner))
        elif self._object is not None:
            self._object.update_locals(self.locals)
            go_on = bool(self._object.on_step())
        self.stopped = self.stopped or not go_on
        return go_on

    def _on_rollout_end(self) -> None:
        if self._object is not None:
            self._object.update_locals(self.locals)
            self._object.on_rollout_end()

    def _on_training_end(self) -> None:
        if self._object is not None:
            self._object.on_training_end()
