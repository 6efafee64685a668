"""A callback of Stable-Baselines3's that writes down what it is told, for every learner's tests."""

from __future__ import annotations

from stable_baselines3.common.callbacks import BaseCallback


class Seen(BaseCallback):  # type: ignore[misc] # SB3 is not type-checked here
    """Write down what is called, in order, and stop after some steps.

    Attributes:
        calls: start, rollout, step, end of rollout, end.
    """

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.stop_after = stop_after

    def _on_training_start(self) -> None:
        self.calls.append("start")

    def _on_rollout_start(self) -> None:
        self.calls.append("rollout")

    def _on_step(self) -> bool:
        self.logger.record("seen/timesteps", self.num_timesteps)
        self.calls.append("step")
        return self.n_calls != self.stop_after

    def _on_rollout_end(self) -> None:
        self.calls.append("end of rollout")

    def _on_training_end(self) -> None:
        self.calls.append("end")
