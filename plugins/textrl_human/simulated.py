"""A simulated trainer at work: watches steps, waits, presses."""

from __future__ import annotations

from typing import Any

import numpy as np

from textrl.errors import UserError, at_setting
from textrl_human.reactor import REPEAT_S, Reactor
from textrl_human.settings import SimulatedSettings
from textrl_human.trainers import Trainer
from textrl_human.truths import KNOWN, find_truth

__all__ = ["REPEAT_S", "SimulatedTrainer"]


class SimulatedTrainer(Reactor):
    """Gives the presses of a `Trainer`, on the clock that stamps the steps it is shown.

    Attributes:
        trainer: What it is like.
    """

    def __init__(self, settings: SimulatedSettings | Trainer) -> None:
        """Seed the generators.

        Args:
            settings: A preset with changes, or the trainer itself.

        Raises:
            UserError: When the trainer's truth does not exist.
        """
        self.trainer = settings if isinstance(settings, Trainer) else settings.trainer()
        super().__init__(self.trainer)
        with at_setting("truth"):
            self._truth = find_truth(self.trainer)

    def check(self, env: Any) -> None:
        """Refuse an environment that a named truth is not about; functions of one's own are not asked.

        Raises:
            UserError: Names the truth, its task and the shape of the observations.
        """
        if self.trainer.truth in KNOWN:
            with at_setting("truth"):
                self._truth(np.zeros(env.observation_space.shape or ()), 0)

    def check_text(self, model: str) -> None:
        """Refuse texts, which have no observations.

        Raises:
            UserError: Names the feedback that reads.
        """
        raise UserError(
            "The feedback 'simulated' watches the steps of an environment and cannot read texts; use "
            "'simulated_text'.",
            key="use",
        )

    def watch(self, observation: Any, action: int, shown_s: float) -> None:
        """See a step, and decide whether and when to press.

        Raises:
            UserError: When the truth gives no finite number.
        """
        self.react(float(self._truth(observation, action)), shown_s, f"action {action}")
