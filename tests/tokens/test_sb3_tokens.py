"""SB3's and sb3-contrib's algorithms on the token environment: an embedding reads the tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from copy_world import PAD, VOCAB, copy_env, copy_task, returns
from gymnasium.spaces import Box, Dict
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv
from textrl_text.sb3 import TokenVecEnv
from textrl_text.scalar import TokenEnv

from textrl import checkpoint
from textrl.errors import UserError
from textrl.learners.sb3.records import sb3_learners
from textrl.learners.sb3.tokens import EmbeddedTokens, token_arguments

SPECS = {spec.name: spec for spec in sb3_learners()}
_ON = {"n_envs": 4, "n_steps": 8, "net_arch": [16]}
_OFF = {"learning_starts": 16, "buffer_size": 200, "batch_size": 16, "train_freq": 4, "net_arch": [16]}
SMALL: dict[str, dict[str, Any]] = {
    "sb3/ppo": {**_ON, "batch_size": 16, "n_epochs": 2},
    "sb3/a2c": _ON,
    "sb3/dqn": {**_OFF, "n_envs": 1},
    "contrib/qrdqn": {**_OFF, "n_quantiles": 5},
    "contrib/trpo": {**_ON, "batch_size": 16},
    "contrib/maskable_ppo": {**_ON, "batch_size": 16, "n_epochs": 2},
    "contrib/recurrent_ppo": {**_ON, "batch_size": 16, "n_epochs": 2, "lstm_hidden_size": 8},
}


class Offering(TokenEnv):
    """A token environment that writes many texts in one `VecEnv`."""

    def sb3_vec_env(self, num_envs: int) -> TokenVecEnv:
        return TokenVecEnv(self.task, num_envs)


def built(name: str, env: Any = None, **changes: Any) -> Any:
    spec = SPECS[name]
    settings: Any = spec.load_settings()
    return spec.load()(
        env if env is not None else copy_env(), settings(**({"token_width": 6} | SMALL[name] | changes))
    )


@pytest.mark.parametrize("name", SMALL)
def test_each_algorithm_reads_tokens_saves_and_loads(name: str, tmp_path: Path) -> None:
    learner = built(name)
    assert isinstance(learner.environments.vec, TokenVecEnv | DummyVecEnv)
    readers = [m for m in learner.algorithm.policy.modules() if isinstance(m, EmbeddedTokens)]
    assert readers
    assert readers[0].tokens.weight.shape == (VOCAB, 6)
    before = readers[0].tokens.weight.detach().clone()
    learner.learn(64)
    assert learner.num_timesteps == 64
    assert not torch.equal(readers[0].tokens.weight, before)  # the embedding learns
    assert learner.metrics["rollout/ep_len_mean"] == 2
    learner.save(tmp_path / "saved")
    loaded = type(learner).load(tmp_path / "saved", copy_env())
    observation, _ = copy_env().reset(seed=0)
    batch = {key: np.stack([value, value[::-1]]) for key, value in observation.items()}
    for seen in (observation, batch):
        mine, theirs = (one.predict(seen, deterministic=True)[0] for one in (learner, loaded))
        assert np.array_equal(mine, theirs)
    assert np.shape(mine) == (2,)
    assert loaded.learn(128).num_timesteps == 128


def test_the_embedding_by_hand() -> None:
    space = Dict(input_ids=Box(0, 4, (3,), np.int64), attention_mask=Box(0, 1, (3,), np.int8))
    reader = EmbeddedTokens(space, width=2)
    assert reader.features_dim == 6
    with torch.no_grad():
        reader.tokens.weight.copy_(torch.arange(10.0).view(5, 2))
        reader.columns.copy_(torch.tensor([[0.5, 0.0], [0.0, 0.5], [0.25, 0.25]]))
    # As SB3 hands them on: float32.
    ids, mask = torch.tensor([[4.0, 0.0, 3.0]]), torch.tensor([[0.0, 1.0, 1.0]])
    found = reader({"input_ids": ids, "attention_mask": mask})
    assert found.tolist() == [[0.0, 0.0, 0.0, 1.5, 6.25, 7.25]]
    other = reader({"input_ids": torch.tensor([[1.0, 0.0, 3.0]]), "attention_mask": mask})
    assert torch.equal(found, other)  # what stands on padding is not seen
    assert token_arguments(Box(0, 1, (3,)), 2) == {}


def test_ppo_learns_to_copy() -> None:
    learner = built(
        "sb3/ppo", Offering(copy_task()), n_envs=16, n_steps=8, batch_size=64, n_epochs=8,
        learning_rate=1e-2, gamma=1.0, net_arch=[32], token_width=8,
    )  # fmt: skip
    assert np.mean(returns(learner)) < 1.5
    learner.learn(4000)
    assert np.mean(returns(learner)) > 1.8


def test_texts_are_written_together_where_the_environment_offers_it(tmp_path: Path) -> None:
    learner = built("sb3/ppo", Offering(copy_task()))
    vec = learner.environments.vec
    assert isinstance(vec, TokenVecEnv)
    assert vec.num_envs == 4
    evaluation = learner.evaluation_env(2)
    assert isinstance(evaluation, TokenVecEnv)
    assert evaluation is not vec
    mean, _ = evaluate_policy(learner, evaluation, n_eval_episodes=8)
    assert 0 <= mean <= 2
    learner.learn(64).save(tmp_path / "saved")
    type(learner).load(tmp_path / "saved", Offering(copy_task())).learn(128)
    # A wrapper changes what happens, so each copy keeps its own.
    limited = TimeLimit(Offering(copy_task()), 1)
    assert isinstance(built("sb3/dqn", limited).environments.vec, DummyVecEnv)


def test_masks_are_kept() -> None:
    def never_two(prompt: Any, response: Any) -> Any:
        return np.array([True, True, False, True])

    env = Offering(copy_task(allowed=never_two))
    learner = built("contrib/maskable_ppo", env).learn(64)
    written = []

    class Notes:
        def __call__(self, made: Any) -> None:
            written.extend(made.algorithm._last_obs["input_ids"][:, 2:].flatten().tolist())

    learner.learn(192, callback=Notes())
    assert written
    assert 2 not in set(written) - {PAD}
    observation, _ = env.reset(seed=0)
    masks = env.action_masks()
    chosen = {int(learner.predict(observation, action_masks=masks)[0]) for _ in range(20)}
    assert 2 not in chosen


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(UserError, match="normalize is on"):
        built("sb3/ppo", normalize=True)
    with pytest.raises(ValueError, match="token_width is 0"):
        built("sb3/ppo", token_width=0)


def test_a_checkpoint_from_before_the_setting_is_taken(tmp_path: Path) -> None:
    """Whatever is missing in its config was at today's default."""
    built("sb3/a2c", token_width=32).learn(32).save(tmp_path / "saved")
    today = checkpoint.load(tmp_path / "saved")
    older = {name: value for name, value in today.config.items() if name != "token_width"}
    checkpoint.save(tmp_path / "older", config=older, tensors=today.tensors, state=today.state)
    assert built("sb3/a2c", token_width=32).restore(tmp_path / "older").num_timesteps == 32
    with pytest.raises(UserError, match="token_width"):
        built("sb3/a2c", token_width=8).restore(tmp_path / "older")
