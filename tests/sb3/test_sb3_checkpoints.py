"""Folders of tensors: a resume repeats the run bit for bit, and what does not belong is refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sb3_world import CORRIDOR, LEARNERS, SPECS, env_of, guidance, make, observations, same, weights
from stable_baselines3.common.vec_env import DummyVecEnv

from textrl.errors import UserError
from textrl.learners.sb3.environments import Environments, as_arrays, innermost
from textrl.learners.sb3.learner import SB3Learner


def disturb() -> None:
    """Leave the global generators where no training would."""
    torch.manual_seed(999)
    np.random.seed(999)


def resumed(name: str, folder: Path, total: int, **changes: Any) -> SB3Learner:
    other = make(name, **changes)
    disturb()
    other.restore(min(folder.iterdir()))
    assert 0 < other.num_timesteps < total
    return other.learn(total)


def logged(learner: SB3Learner) -> list[tuple[float, float]]:
    return [(episode["r"], episode["l"]) for episode in learner.algorithm.ep_info_buffer]


@pytest.mark.parametrize("name", LEARNERS)
def test_a_resume_repeats_the_run_bit_for_bit(name: str, tmp_path: Path) -> None:
    # The corridor's slips test what Cart Pole lacks: random numbers in every step.
    env = CORRIDOR if name in ("sb3/ppo", "sb3/dqn", "contrib/ars") else env_of(name)
    changes: dict[str, Any] = {"env": env, "checkpoint_every": 100}
    if name in ("sb3/ppo", "contrib/ars"):
        changes["normalize"] = True
    whole = make(name, checkpoint_dir=tmp_path, **changes).learn(300)
    other = resumed(name, tmp_path, 300, **changes)
    assert other.num_timesteps == whole.num_timesteps
    assert same(weights(whole), weights(other))
    assert logged(other) == logged(whole)
    # The next random numbers, and the next steps of the environments, agree as well.
    for one, two in zip(
        as_arrays(whole.algorithm._last_obs).values(),
        as_arrays(other.algorithm._last_obs).values(),
        strict=True,
    ):
        assert np.array_equal(one, two)
    disturb()
    mine, theirs = (
        learner.environments.vec.step(np.zeros(learner.get_env().num_envs, dtype=np.int64))
        for learner in (whole, other)
    )
    assert np.array_equal(mine[0], theirs[0])
    assert np.array_equal(mine[1], theirs[1])


@pytest.mark.parametrize("name", LEARNERS)
def test_a_saved_learner_is_loaded_and_acts_alike(name: str, tmp_path: Path) -> None:
    made = make(name).learn(64)
    made.save(tmp_path / "model")
    loaded = SPECS[name].load().load(tmp_path / "model", env_of(name))
    assert loaded.settings == made.settings
    assert loaded.num_timesteps == made.num_timesteps
    assert same(weights(made), weights(loaded))
    batch = observations(env_of(name))
    assert (made.predict(batch, deterministic=True)[0] == loaded.predict(batch, deterministic=True)[0]).all()


@pytest.mark.parametrize("name", ["sb3/ppo", "sb3/dqn", "contrib/ars"])
def test_a_checkpoint_is_tensors_and_text(name: str, tmp_path: Path) -> None:
    made = make(name, normalize=True).learn(64)
    made.save(tmp_path / "model")
    files = {file.name for file in (tmp_path / "model").iterdir()}
    assert {Path(file).suffix for file in files} == {".yaml", ".json", ".safetensors"}
    assert {"policy.safetensors", "normalize.safetensors", "rng.safetensors", "tapes.safetensors"} <= files
    assert ("replay.safetensors" in files) == (name == "sb3/dqn")
    assert ("optimizer.safetensors" in files) == (name != "contrib/ars")
    assert ("search.safetensors" in files) == (name == "contrib/ars")
    for file in (tmp_path / "model").glob("*.json"):
        json.loads(file.read_text())


@pytest.mark.parametrize("file", ["policy.safetensors", "state.json", "config.yaml"])
def test_a_tampered_checkpoint_is_refused(file: str, tmp_path: Path) -> None:
    made = make("sb3/a2c").learn(32)
    made.save(tmp_path / "model")
    victim = tmp_path / "model" / file
    content = bytearray(victim.read_bytes())
    content[-2] ^= 1
    victim.write_bytes(bytes(content))
    words = rf"model is damaged: the contents of {file} do not match"
    with pytest.raises(UserError, match=words):
        make("sb3/a2c").restore(tmp_path / "model")
    with pytest.raises(UserError, match=words):
        type(made).load(tmp_path / "model", "CartPole-v1")


def test_the_replay_buffer_comes_back(tmp_path: Path) -> None:
    made = make("sb3/dqn", buffer_size=40).learn(100)
    made.save(tmp_path / "model")
    other = make("sb3/dqn", buffer_size=40).restore(tmp_path / "model")
    mine, theirs = made.algorithm.replay_buffer, other.algorithm.replay_buffer
    assert (theirs.full, theirs.pos, theirs.size()) == (mine.full, mine.pos, 40)
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        assert np.array_equal(getattr(mine, name), getattr(theirs, name))


def test_running_statistics_come_back_in_place(tmp_path: Path) -> None:
    made = make("sb3/ppo", normalize=True).learn(64)
    made.save(tmp_path / "model")
    other = make("sb3/ppo", normalize=True)
    evaluation = other.evaluation_env()
    other.restore(tmp_path / "model")
    mine, theirs = made.get_vec_normalize_env(), other.get_vec_normalize_env()
    for part in ("mean", "var", "count"):
        assert np.array_equal(getattr(mine.obs_rms, part), getattr(theirs.obs_rms, part))
        assert np.array_equal(getattr(mine.ret_rms, part), getattr(theirs.ret_rms, part))
    assert np.array_equal(mine.returns, theirs.returns)
    assert (evaluation.obs_rms.mean == theirs.obs_rms.mean).all()


def test_what_does_not_belong_is_refused(tmp_path: Path) -> None:
    make("sb3/ppo").save(tmp_path / "model")
    with pytest.raises(UserError, match=r"was written by the learner 'sb3/ppo', not by 'sb3/a2c'"):
        make("sb3/a2c").restore(tmp_path / "model")
    with pytest.raises(UserError, match=r"was written by the learner 'sb3/ppo', not by 'sb3/a2c'"):
        SPECS["sb3/a2c"].load().load(tmp_path / "model", "CartPole-v1")
    with pytest.raises(UserError, match=r"with other settings \(net_arch, gamma\); resume with the same"):
        make("sb3/ppo", gamma=0.5, net_arch=[8]).restore(tmp_path / "model")
    with pytest.raises(UserError, match=r"observations Box\(.*\(4,\).* and actions Discrete\(2\); resume in"):
        make("sb3/ppo", "MountainCar-v0").restore(tmp_path / "model")
    with pytest.raises(UserError, match=r"written without guidance, but the learner runs with the guidance"):
        make("sb3/ppo", guidance=guidance("reward_shaping", 1.0)).restore(tmp_path / "model")
    with pytest.raises(UserError, match=r"There is no checkpoint"):
        make("sb3/ppo").restore(tmp_path / "none")


def test_old_checkpoints_are_pruned(tmp_path: Path) -> None:
    made = make("sb3/a2c", checkpoint_dir=tmp_path, checkpoint_every=32, keep_checkpoints=2)
    made.learn(200)
    # The checkpoint of the last update is the caller's: `learn` saves at the edges of rollouts only.
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step_000000160", "step_000000192"]


@pytest.mark.parametrize("name", ["sb3/ppo", "sb3/dqn", "contrib/ars"])
def test_in_the_middle_of_a_rollout_no_episode_is_kept(name: str, tmp_path: Path) -> None:
    made = make(name, n_envs=1)

    def save(learner: SB3Learner) -> bool:
        if learner.num_timesteps == 51:
            learner.save(tmp_path / "middle")
        return learner.num_timesteps < 60

    made.learn(300, callback=save)
    assert not (tmp_path / "middle" / "tapes.safetensors").exists()
    other = make(name, n_envs=1).restore(tmp_path / "middle")
    assert other.num_timesteps == 51
    first = make(name, n_envs=1).environments.vec.reset()
    assert other.algorithm._last_obs is None
    assert not np.array_equal(innermost(other.environments.vec).reset(), first)  # not the first episode again
    assert other.learn(120).num_timesteps >= 120


def test_a_stopped_run_goes_on_with_new_episodes_here_as_after_a_resume(tmp_path: Path) -> None:
    made = make("sb3/ppo")
    made.learn(300, callback=lambda learner: learner.num_timesteps < 100)
    made.save(tmp_path / "stopped")
    assert made.algorithm._last_obs is None
    assert not (tmp_path / "stopped" / "tapes.safetensors").exists()


class Forgetful(gymnasium.Env[NDArray[np.float32], np.int64]):
    """Counts its resets outside of `np_random`, so a replay in a new copy does not arrive."""

    observation_space = gymnasium.spaces.Box(0, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    resets = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        Forgetful.resets += 1
        return np.array([Forgetful.resets], dtype=np.float32), {}

    def step(self, action: Any) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        return np.array([Forgetful.resets], dtype=np.float32), 1.0, False, False, {}


def test_where_a_replay_does_not_arrive_new_episodes_begin(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = make("sb3/a2c", Forgetful(), n_envs=1).learn(16)
    made.save(tmp_path / "model")
    other = make("sb3/a2c", Forgetful(), n_envs=1)
    with caplog.at_level(logging.WARNING):
        other.restore(tmp_path / "model")
    assert "did not come back to where the checkpoint was taken" in caplog.text
    assert other.algorithm._last_obs is None
    assert other.learn(32).num_timesteps == 32


def test_a_vector_environment_given_ready_made_begins_new_episodes(tmp_path: Path) -> None:
    def vec() -> DummyVecEnv:
        return DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])

    make("sb3/a2c", vec(), n_envs=1).learn(16).save(tmp_path / "model")
    other = make("sb3/a2c", vec(), n_envs=1).restore(tmp_path / "model")
    assert other.algorithm._last_obs is None
    assert other.learn(32).num_timesteps == 32


def test_a_replay_brings_the_generator_and_the_time_limit_along() -> None:
    """The environment alone: after a replay, every later step agrees until the episode ends and beyond."""
    first = Environments(CORRIDOR, 2, lambda tape: tape)
    first.vec.seed(4)
    first.vec.reset()
    rng = np.random.default_rng(0)
    moves = rng.integers(0, 2, size=(60, 2))
    for move in moves[:33]:
        first.vec.step(move)
    state = first.tapes_state()
    assert state is not None
    second = Environments(CORRIDOR, 2, lambda tape: tape)
    second.vec.seed(5)
    assert second.replay(json.loads(json.dumps(state[0])), state[1])
    ends = 0
    for move in moves[33:]:
        one, two = first.vec.step(move), second.vec.step(move)
        assert np.array_equal(one[0], two[0])
        assert np.array_equal(one[2], two[2])
        assert [info.get("TimeLimit.truncated") for info in one[3]] == [
            info.get("TimeLimit.truncated") for info in two[3]
        ]
        ends += one[2].sum()
    assert ends >= 2


def test_a_replay_that_differs_says_so() -> None:
    first = Environments(CORRIDOR, 1, lambda tape: tape)
    first.vec.seed(0)
    first.vec.reset()
    first.vec.step(np.array([1]))
    state = first.tapes_state()
    assert state is not None
    starts, arrays = state
    arrays["0/actions"] = np.array([0])
    moved = Environments(CORRIDOR, 1, lambda tape: tape)
    assert not moved.replay(starts, arrays)
    assert not moved.replay([], {})
