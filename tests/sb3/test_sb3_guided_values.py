"""Advice in DQN and QR-DQN: biasing and sharing at the choice alone, Q augmentation on both sides."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from sb3_world import guidance, make, observations, ratings_of, same, weights


def scattered(count: int = 40) -> Any:
    """Return (count, 4) made-up Cart Pole observations on both sides of the middle."""
    return np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)


@pytest.mark.parametrize("name", ["sb3/dqn", "contrib/qrdqn"])
def test_biasing_a_q_network_changes_the_greedy_choice_alone(name: str) -> None:
    made = make(name, guidance=guidance("action_biasing", 2.0)).learn(64)
    batch = scattered()
    with torch.no_grad():
        q = made.policy.action_values(torch.from_numpy(batch)).numpy()
    expected = (q + 2.0 * ratings_of(batch)).argmax(1)
    assert (made.predict(batch, deterministic=True)[0] == expected).all()
    assert (made.predict(batch, deterministic=True, guided=False)[0] == q.argmax(1)).all()
    assert (expected != q.argmax(1)).any()
    # The training chooses by the same sum, but for random actions.
    algorithm = made.algorithm
    algorithm.exploration_rate = 0.0
    algorithm._last_obs = batch
    assert (algorithm._sample_action(0, None, len(batch))[0] == expected).all()
    algorithm.exploration_rate = 1.0
    drawn = np.array([algorithm._sample_action(0, None, len(batch))[0] for _ in range(50)])
    assert drawn.mean(0) == pytest.approx(np.full(len(batch), 0.5), abs=0.4)


@pytest.mark.parametrize("name", ["sb3/dqn", "contrib/qrdqn"])
def test_biasing_leaves_the_td_update_alone(name: str) -> None:
    """From one replay buffer and one random stream, the guided learner learns what a plain one does."""
    guided, plain = make(name, guidance=guidance("action_biasing", 5.0)), make(name)
    guided.learn(24)
    plain.learn(24)
    plain.algorithm.policy.load_state_dict(guided.algorithm.policy.state_dict())
    for learner in (guided, plain):
        learner.algorithm.replay_buffer = guided.algorithm.replay_buffer
        learner.algorithm.policy.optimizer.state.clear()
        torch.manual_seed(0)
        np.random.seed(0)
        learner.algorithm.train(gradient_steps=4, batch_size=8)
    assert same(weights(guided), weights(plain))


@pytest.mark.parametrize("name", ["sb3/dqn", "contrib/qrdqn"])
def test_q_augmentation_adds_todays_weight_times_the_rating_everywhere(name: str) -> None:
    advice = guidance("q_augmentation", 1.5, anneal=0.5)
    # Cut off after 15 steps: such episodes' last states are bootstrapped from, and need their ratings.
    made = make(name, gymnasium.make("CartPole-v1", max_episode_steps=15), guidance=advice).learn(80)
    beta = advice.state_dict()["beta"]
    assert 0 < beta < 1.5
    buffer = made.algorithm.replay_buffer
    size = buffer.size()
    # What lies in the buffer is H, whatever the weight was.
    assert buffer.timeouts[:size].any()
    after = buffer.next_observations[:size, 0]
    assert after[:, 4:] == pytest.approx(ratings_of(after))
    assert buffer.observations[:size, 0, 4:] == pytest.approx(ratings_of(buffer.observations[:size, 0]))
    batch = observations("CartPole-v1")
    h = torch.from_numpy(ratings_of(batch)).float()
    wide = torch.cat([torch.from_numpy(batch), h], 1)
    bare = torch.cat([torch.from_numpy(batch), torch.zeros_like(h)], 1)
    networks = {
        "sb3/dqn": ("q_net", "q_net_target"),
        "contrib/qrdqn": ("quantile_net", "quantile_net_target"),
    }[name]
    for network in (getattr(made.algorithm, part) for part in networks):
        with torch.no_grad():
            added = network(wide) - network(bare)
        expected = beta * (h if added.ndim == 2 else h[:, None, :].expand_as(added))
        assert added == pytest.approx(expected, abs=1e-5)
    with torch.no_grad():
        values = getattr(made.algorithm, networks[0])(wide)
    values = values if values.ndim == 2 else values.mean(1)
    assert (made.predict(batch, deterministic=True)[0] == values.argmax(1).numpy()).all()


def test_q_augmentation_enters_prediction_and_target() -> None:
    """One update against the loss written out: Q + beta H on both sides of the temporal difference."""
    made = make("sb3/dqn", guidance=guidance("q_augmentation", 1.5), batch_size=32, gamma=0.9)
    made.learn(16)  # no update yet
    algorithm = made.algorithm
    torch.manual_seed(1)
    np.random.seed(1)
    data = algorithm.replay_buffer.sample(32)
    mlp, target = algorithm.q_net.q_net, algorithm.q_net_target.q_net

    def augmented(network: Any, seen: torch.Tensor) -> torch.Tensor:
        summed: torch.Tensor = network(seen[:, :4]) + 1.5 * seen[:, 4:]
        return summed

    with torch.no_grad():
        best = augmented(target, data.next_observations).max(1, keepdim=True).values
        goal = data.rewards + (1 - data.dones) * 0.9 * best
    predicted = augmented(mlp, data.observations).gather(1, data.actions.long())
    loss = torch.nn.functional.smooth_l1_loss(predicted, goal)
    expected = torch.autograd.grad(loss, list(mlp.parameters()))
    np.random.seed(1)
    algorithm.max_grad_norm = 1e9
    algorithm.train(gradient_steps=1, batch_size=32)
    for parameter, gradient in zip(mlp.parameters(), expected, strict=True):
        assert parameter.grad == pytest.approx(gradient, abs=1e-6)


@pytest.mark.parametrize("name", ["sb3/dqn", "contrib/qrdqn"])
def test_h_acts_in_a_q_learners_place(name: str) -> None:
    made = make(name, guidance=guidance("control_sharing", 1.0)).learn(64)
    buffer = made.algorithm.replay_buffer
    size = buffer.size()
    states, actions = buffer.observations[:size, 0], buffer.actions[:size, 0, 0]
    assert (actions == ratings_of(states).argmax(1)).all()  # random exploration included
    batch = observations("CartPole-v1")
    assert (made.predict(batch, deterministic=True)[0] == ratings_of(batch).argmax(1)).all()
    half = make(name, guidance=guidance("control_sharing", 0.4))
    often = np.mean([half.predict(batch)[0] == ratings_of(batch).argmax(1) for _ in range(200)])
    alone = np.mean([half.predict(batch, guided=False)[0] == ratings_of(batch).argmax(1) for _ in range(200)])
    assert often == pytest.approx(0.4 + 0.6 * alone, abs=0.06)
