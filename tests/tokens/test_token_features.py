"""Features of kind tokens, and SARSA on the token environment with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from copy_world import copy_env, copy_task, returns
from gymnasium.spaces import Box, Dict
from stable_baselines3.common.callbacks import BaseCallback

from textrl.errors import UserError
from textrl.features import FeatureSettings, SparseFeatures, make_features
from textrl.learners.sarsa import Sarsa, SarsaSettings
from textrl.learners.sarsa import learner as sarsa_module
from textrl.learners.sarsa.sparse import SparseQ

TOKENS = FeatureSettings(kind="tokens")


def space(columns: int, vocabulary: int) -> Dict:
    return Dict(
        input_ids=Box(0, vocabulary - 1, (columns,), np.int64),
        attention_mask=Box(0, 1, (columns,), np.int8),
    )


def test_indices_by_hand() -> None:
    """Three columns, five tokens: feature (step, column, token) is number (3 step + column) 5 + token."""
    made = make_features(TOKENS, space(3, 5))
    assert isinstance(made, SparseFeatures)
    assert (made.size, made.constant, made.unit_interval) == (45, 0, True)
    early = {"input_ids": np.array([4, 2, 0]), "attention_mask": np.array([0, 1, 0])}  # padding is no token
    late = {"input_ids": np.array([4, 2, 0]), "attention_mask": np.array([1, 1, 1])}
    assert made.active(early)[0].tolist() == [(3 * 1 + 1) * 5 + 2]
    assert made.active(late)[0].tolist() == [(3 * 2 + 0) * 5 + 4, (3 * 2 + 1) * 5 + 2, (3 * 2 + 2) * 5 + 0]
    assert made.active(late)[1].tolist() == [1.0, 1.0, 1.0]
    for observation in (early, late):
        assert np.flatnonzero(made(observation)).tolist() == made.active(observation)[0].tolist()
        assert made(observation).max() == 1
    both = {name: np.stack([early[name], late[name]]) for name in early}
    assert np.array_equal(made.batch(both), np.stack([made(early), made(late)]))
    nothing = {"input_ids": np.zeros(3, int), "attention_mask": np.zeros(3, int)}
    assert not made(nothing).any()


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"20 columns and 6,000 tokens make 2,400,000 features"):
        make_features(TOKENS, space(20, 6000))
    with pytest.raises(UserError, match="need the observations of a token environment"):
        make_features(TOKENS, Box(0, 1, (3,)))
    with pytest.raises(UserError, match="use kind: tokens"):
        make_features(FeatureSettings(), space(3, 5))

    class Wide:
        observation_space = space(12, 5000)
        from gymnasium.spaces import Discrete

        action_space = Discrete(5000)

    with pytest.raises(UserError, match=r"5,000 actions with 720,000 features each .* 28\.8 GB"):
        Sarsa(Wide(), SarsaSettings(features=TOKENS))


def sarsa(**changes: Any) -> Sarsa:
    base: dict[str, Any] = {
        "features": TOKENS, "alpha": 0.2, "lam": 0.5, "epsilon": 0.3, "epsilon_decay": 0.998,
    }  # fmt: skip
    return Sarsa(copy_env(), SarsaSettings(**(base | changes)))


def test_sarsa_learns_to_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sarsa_module, "_LARGE", 1)  # the table is small; this is the path of large ones
    learner = sarsa()
    assert isinstance(learner.linear, SparseQ)
    assert np.mean(returns(learner)) < 1.5
    learner.learn(episodes=900)
    assert returns(learner) == [2.0] * 16


@pytest.mark.parametrize("traces", ["replacing", "accumulating"])
def test_a_large_table_gives_the_same_numbers(traces: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dense = sarsa(traces=traces).learn(episodes=100)
    monkeypatch.setattr(sarsa_module, "_LARGE", 1)
    sparse = sarsa(traces=traces).learn(episodes=100)
    assert isinstance(sparse.linear, SparseQ)
    assert not isinstance(dense.linear, SparseQ)
    assert np.allclose(dense.linear.weights, sparse.linear.weights, rtol=0, atol=1e-12)
    assert np.abs(dense.linear.weights).max() > 0.1


def test_resume_predictions_and_callbacks(tmp_path: Path) -> None:
    class Looks(BaseCallback):
        def _on_step(self) -> bool:
            assert self.locals["new_obs"]["input_ids"].shape == (1, 4)
            return True

    straight, half = sarsa().learn(episodes=60), sarsa().learn(episodes=30, callback=Looks())
    half.save(tmp_path / "saved")
    resumed = Sarsa.load(tmp_path / "saved", copy_env())
    assert np.array_equal(resumed.learn(episodes=60).linear.weights, straight.linear.weights)
    env = copy_env()
    seen = [env.reset(seed=0, options={"episode": number})[0] for number in (0, 1, 2)]
    batch = {name: np.stack([one[name] for one in seen]) for name in seen[0]}
    together, _ = straight.predict(batch, deterministic=True)
    assert together.shape == (3,)
    assert together.tolist() == [int(straight.predict(one, deterministic=True)[0]) for one in seen]


def test_the_copy_task_pays_what_it_says() -> None:
    task = copy_task()
    assert len(task.prompts) == 16
    env = copy_env()
    observation, _ = env.reset(seed=0)
    wanted = observation["input_ids"][:2].tolist()
    paid = [env.step(np.int64(token))[1] for token in (wanted[0], (wanted[1] + 1) % 4)]
    assert paid == [1.0, 0.0]
