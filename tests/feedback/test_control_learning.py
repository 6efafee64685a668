"""What a control session learns with: the learners' own loop in steps, and settings completed."""

from __future__ import annotations

from typing import Any

import numpy as np
from machine_play import Play

from textrl.feedback.control.learning import build_learning, make_env
from textrl.feedback.control.settings import ControlSettings, control_settings
from textrl.feedback.machine import resolve_config
from textrl.learners.episodic_parts import Running


def car(**more: Any) -> dict[str, Any]:
    small = {"per_dimension": 6, "width": 0.13}
    return {"env": "MountainCar-v0", "features": small, "max_episode_steps": 12} | more


def test_the_loop_is_the_learners_own() -> None:
    """Without presses a session's SARSA has the weights of `learn`, bit for bit."""
    play = Play("control", car(learner="sarsa", seed=3))
    while play.machine.learning.learner.episodes < 4:
        play.tick()
        play.shown()
    settings = control_settings(car(learner="sarsa", seed=3), "here")
    alone = build_learning(settings, make_env(settings, None)).learner
    alone.learn(episodes=4)
    mine = play.machine.learning.learner
    assert mine.episode_returns == alone.episode_returns
    assert np.array_equal(mine.linear.weights, alone.linear.weights)
    assert np.any(mine.linear.weights)


def test_an_open_episode_is_the_one_that_steps_go_on_with() -> None:
    settings = control_settings(car(learner="sarsa"), "here")
    learner = build_learning(settings, make_env(settings, None)).learner
    now = learner.open_episode()
    assert isinstance(now, Running)
    assert learner.open_episode() is now
    step = learner.take_step()
    assert (step.reward, now.length) == (-1.0, 1)
    assert np.array_equal(learner.open_episode().observation, step.after)
    learner.learn(total_timesteps=5)  # and `learn` goes on with it too
    assert (now.length, learner.episodes) == (5, 0)
    learner.leave_episode(count=True)
    assert learner.episode_lengths == [5]


def test_a_config_is_completed_so_that_later_defaults_do_not_matter() -> None:
    full = resolve_config("control", {"env": "CartPole-v1", "learner": "tamer+rl"})
    assert full["beta"] == 200.0
    assert full["sarsa"]["gamma"] == 0.999
    assert full["eligibility"]["episode_decay"] == 0.98
    assert resolve_config("control", full) == full
    given = ControlSettings(env="MountainCar-v0", technique="q_augmentation", learner="tamer+rl")
    assert given.beta is None
    assert resolve_config("control", {"env": given.env, "technique": given.technique})["eligibility"] is None
