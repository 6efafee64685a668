"""SB3's callback objects and plain functions drive the learner alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from seen_callback import Seen
from stable_baselines3.common.callbacks import CheckpointCallback, EveryNTimesteps
from tiny_world import Env, kl_source, networks, small, tiny_task

from textrl.learners.ppo_ptx import PPOPTX
from textrl.rewards import RewardSum


def learner(**changes: object) -> PPOPTX:
    chosen = small(**changes)
    return PPOPTX(Env(tiny_task()), chosen, rewards=RewardSum([kl_source(0.5)]), networks=networks(chosen))


def test_sb3_callbacks_see_every_iteration() -> None:
    seen, made = Seen(), learner()
    made.learn(iterations=2, callback=seen)
    iteration = ["rollout", "end of rollout", "step"]
    assert seen.calls == ["start", *iteration, *iteration, "end"]
    assert seen.model is made
    assert seen.training_env is made.get_env()
    assert seen.num_timesteps == made.num_timesteps > 0


def test_an_sb3_callback_stops_the_run() -> None:
    seen, made = Seen(stop_after=1), learner()
    made.learn(iterations=5, callback=[seen, Seen()])
    assert made.iteration == 1
    assert seen.calls[-1] == "end"


def test_a_function_may_stop_and_its_none_does_not() -> None:
    assert learner().learn(iterations=3, callback=lambda made: None).iteration == 3
    assert learner().learn(iterations=3, callback=lambda made: made.iteration < 2).iteration == 2


def test_sb3_writes_checkpoints_that_continue(tmp_path: Path) -> None:
    made = learner()
    made.learn(iterations=2, callback=CheckpointCallback(save_freq=1, save_path=str(tmp_path)))
    # SB3 names what it takes for a zip file; ours is a folder of that name.
    newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    other = learner().restore(newest)
    assert other.iteration == made.iteration
    for mine, theirs in zip(made.updater.policy_params, other.updater.policy_params, strict=True):
        assert torch.equal(mine, theirs)


def test_event_callbacks_count_timesteps() -> None:
    inner, made = Seen(), learner()
    made.learn(iterations=3, callback=EveryNTimesteps(n_steps=1, callback=inner))
    assert inner.calls.count("step") == 3


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_averaged_weights_are_lent_and_given_back(decay: float) -> None:
    made = learner(ema_decay=decay)
    made.learn(iterations=2)
    before = [p.detach().clone() for p in made.updater.policy_params]
    names = list(made.networks.trained()["policy"])
    with made.updater.averaged():
        inside = dict(made.networks.trained()["policy"])
        for name, last in zip(names, before, strict=True):
            expected = made.updater.ema[name] if decay else last
            assert torch.equal(inside[name], expected)
        differs = any(not torch.equal(inside[n], b) for n, b in zip(names, before, strict=True))
        assert differs == bool(decay)
    for kept, last in zip(made.updater.policy_params, before, strict=True):
        assert torch.equal(kept, last)
