"""Callbacks, SB3's and ours, through every learner: they see it as their model, stop it, count its steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sb3_world import (
    CORRIDOR,
    LEARNERS,
    env_of,
    make,
)
from seen_callback import Seen
from stable_baselines3.common.callbacks import (
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.evaluation import evaluate_policy

from textrl.runs import Run


def test_sb3s_callbacks_get_the_learner_as_their_model(tmp_path: Path) -> None:
    seen, made = Seen(), make("sb3/a2c")
    made.learn(32, callback=seen)
    rollout = ["rollout", *["step"] * 8, "end of rollout"]
    assert seen.calls == ["start", *rollout, *rollout, "end"]
    assert seen.model is made
    assert seen.training_env is made.get_env()
    other = make("sb3/a2c")
    save = CheckpointCallback(save_freq=8, save_path=str(tmp_path))
    evaluate = EvalCallback(other.evaluation_env(), n_eval_episodes=1, eval_freq=8, verbose=0)
    other.learn(32, callback=[save, evaluate])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "rl_model_16_steps.zip",
        "rl_model_32_steps.zip",
    ]
    assert (tmp_path / "rl_model_16_steps.zip" / "manifest.json").is_file()
    assert np.isfinite(evaluate.best_mean_reward)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_has_callbacks_evaluation_logs_and_checkpoints(name: str, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", config={}, command=[])
    made = make(name, checkpoint_every=1, checkpoint_dir=tmp_path / "own")
    made.set_logger(run.logger("learner"))
    save = CheckpointCallback(save_freq=16, save_path=str(tmp_path / "theirs"))
    evaluate = EvalCallback(made.evaluation_env(), n_eval_episodes=1, eval_freq=16, verbose=0)
    made.learn(192, callback=[save, evaluate])
    assert np.isfinite(evaluate.best_mean_reward)
    assert np.isfinite(evaluate_policy(made, made.evaluation_env(), n_eval_episodes=1)[0])
    zipped = sorted((tmp_path / "theirs").iterdir())
    assert zipped
    loaded = type(made).load(zipped[-1], env_of(name))
    assert loaded.num_timesteps > 0
    assert list((tmp_path / "own").glob("step_*"))
    assert run.metrics("learner")
    assert list((run.path / "tensorboard").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize("name", ["sb3/ppo", "sb3/dqn", "contrib/ars"])
def test_callbacks_stop_a_run(name: str) -> None:
    made = make(name, n_envs=1)
    made.learn(500, callback=Seen(stop_after=10))
    assert made.num_timesteps == 10
    by_function = make(name, n_envs=1)
    by_function.learn(500, callback=lambda learner: learner.num_timesteps < 12)
    assert by_function.num_timesteps == 12
    assert by_function.learn(20, callback=lambda learner: None).num_timesteps >= 20
    by_episodes = make(name, n_envs=1)
    by_episodes.learn(5000, callback=StopTrainingOnMaxEpisodes(2))
    assert by_episodes.num_timesteps < 1000


def test_ars_counts_the_steps_of_all_copies() -> None:
    made = make("contrib/ars", CORRIDOR, n_envs=2, n_delta=1)
    steps: list[int] = []
    made.learn(1, callback=lambda learner: steps.append(learner.num_timesteps))
    assert steps == list(range(1, made.num_timesteps + 1))
    # Two candidates, an episode each: no more steps than two time limits.
    assert made.num_timesteps <= 40


def test_a_progress_bar_ends_where_the_run_does(capsys: pytest.CaptureFixture[str]) -> None:
    make("sb3/a2c").learn(64, progress_bar=True)
    assert "64/64" in capsys.readouterr().out
