"""Callbacks of every learner: Stable-Baselines3's objects, several of them, or a plain function.

A learner tells `Callbacks` what happens; one ``on_step`` is one round of that learner (an iteration of
PPO-ptx, an environment step of a tabular one). SB3's objects expect a logger, so a silent one is lent
where the learner has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

#: An SB3 callback, a list of them, or a function of the learner that may return False to stop.
Callback = Any | Sequence[Any] | Callable[[Any], bool | None] | None


def goes_on(answer: Any) -> bool:
    """Tell whether a function's answer lets the training go on: only False stops, numpy's as well."""
    return bool(answer) or not isinstance(answer, bool | np.bool_)


class Callbacks:
    """One learner's callback for the length of one `learn`; a context manager."""

    def __init__(self, callback: Callback, learner: Any) -> None:
        """Make ready to call.

        Args:
            callback: As `Callback` says; None calls nothing.
            learner: Handed to functions, and to SB3's objects as their ``model``.
        """
        self._learner = learner
        self._function: Callable[[Any], bool | None] | None = None
        self._object: Any = None
        if callback is None:
            return
        if isinstance(callback, Sequence):
            from stable_baselines3.common.callbacks import CallbackList

            self._object = CallbackList(list(callback))
        elif hasattr(callback, "on_step"):
            self._object = callback
        else:
            self._function = callback

    def __enter__(self) -> Callbacks:
        if self._object is not None:
            if self._learner.logger is None:
                from stable_baselines3.common.logger import Logger

                self._learner.set_logger(Logger(folder=None, output_formats=[]))
            self._object.init_callback(self._learner)
            self._object.on_training_start({"self": self._learner}, {})
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._object is not None and kind is None:
            self._object.on_training_end()

    def before_round(self) -> None:
        """Tell that sampling begins."""
        if self._object is not None:
            self._object.on_rollout_start()

    def after_round(self, **seen: Any) -> bool:
        """Tell that a round ended; returns whether to go on.

        Args:
            seen: What SB3's objects find in their ``locals``, such as ``dones`` and ``rewards``.
        """
        if self._function is not None:
            return goes_on(self._function(self._learner))
        if self._object is not None:
            self._object.update_locals(seen)
            self._object.on_rollout_end()
            return bool(self._object.on_step())
        return True
