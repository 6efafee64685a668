"""Stable-Baselines3's callbacks and evaluation, and plain functions, on an episodic learner."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
from control_learners import same
from control_world import mountain_car
from seen_callback import Seen
from stable_baselines3.common.callbacks import (
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from textrl.features import FeatureSettings
from textrl.learners.sarsa import Sarsa, SarsaSettings
from textrl.protocols import Learner


def car() -> Sarsa:
    """Episodes of 60 steps, too few to reach the goal."""
    return Sarsa(mountain_car(60), SarsaSettings(features=FeatureSettings(per_dimension=8), epsilon=0.2))


class Steps(Seen):
    """Tell an episode's last step from the others."""

    def _on_step(self) -> bool:
        assert self.locals["rewards"].tolist() == [-1.0]
        go_on = super()._on_step()
        self.calls[-1] = "done" if self.locals["dones"][0] else "step"
        return go_on


def test_sb3_callbacks_see_every_step() -> None:
    seen, made = Steps(), car()
    made.learn(episodes=2, callback=seen)
    told = [call for call in seen.calls if "rollout" not in call]
    assert told == ["start", *["step"] * 59, "done", *["step"] * 59, "done", "end"]
    assert seen.calls.count("rollout") == seen.calls.count("end of rollout") == 120
    assert seen.model is made
    assert seen.training_env is made.get_env()
    assert seen.num_timesteps == made.num_timesteps == 120
    same(made, car().learn(episodes=2))


def test_sb3_callbacks_stop_the_run_where_they_say() -> None:
    seen, made = Seen(stop_after=70), car()
    made.learn(episodes=5, callback=[seen, Seen()])
    assert made.num_timesteps == 70
    assert seen.calls[-1] == "end"
    assert car().learn(episodes=9, callback=StopTrainingOnMaxEpisodes(3)).episodes == 3
    same(made.learn(episodes=3), car().learn(episodes=3))


def test_sb3_evaluates_while_it_learns(tmp_path: Path) -> None:
    evaluation = EvalCallback(
        Monitor(mountain_car(60)),
        eval_freq=60,
        n_eval_episodes=2,
        verbose=0,
        best_model_save_path=str(tmp_path),
    )
    made = car().learn(episodes=3, callback=evaluation)
    assert evaluation.last_mean_reward == -60.0
    same(car().restore(tmp_path / "best_model").learn(episodes=3), car().learn(episodes=3))
    assert np.array_equal(made.linear.weights, car().learn(episodes=3).linear.weights)


def test_sb3_writes_checkpoints_that_continue(tmp_path: Path) -> None:
    made = car().learn(episodes=2, callback=CheckpointCallback(save_freq=60, save_path=str(tmp_path)))
    newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    same(car().restore(newest).learn(episodes=3), made.learn(episodes=3))


def test_a_function_is_called_after_every_episode_and_may_stop() -> None:
    counts: list[int] = []
    assert car().learn(episodes=3, callback=lambda made: counts.append(made.episodes)).episodes == 3
    assert counts == [1, 2, 3]
    assert car().learn(episodes=5, callback=lambda made: made.episodes < 2).episodes == 2
    numpy = car().learn(episodes=5, callback=lambda made: np.float64(made.episodes) < 3)  # an np.bool_
    assert numpy.episodes == 3


def test_sb3_evaluates_it_on_gymnasiums_mountain_car() -> None:
    made = Sarsa(mountain_car(), SarsaSettings(features=FeatureSettings(per_dimension=20))).learn(episodes=40)
    mean, spread = evaluate_policy(made, Monitor(gymnasium.make("MountainCar-v0")), n_eval_episodes=5)
    assert -200 <= mean < -90
    assert np.isfinite(spread)
    assert isinstance(made, Learner)
