"""Advice in SB3's algorithms: what it changes, what it must leave alone, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from sb3_world import (
    CORRIDOR,
    LEARNERS,
    POLE_RATINGS,
    SPECS,
    Ratings,
    env_of,
    guidance,
    make,
    observations,
    ratings_of,
    same,
    weights,
)
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.vec_env import DummyVecEnv

from textrl.advice.betas import EligibilitySettings
from textrl.advice.techniques import NEEDS
from textrl.errors import UserError
from textrl.learners.sb3.policies import shared

ACCEPTED = [
    (name, technique) for name in LEARNERS for technique, need in NEEDS.items() if need in SPECS[name].accepts
]
REFUSED = [(name, t) for name in LEARNERS for t in NEEDS if (name, t) not in ACCEPTED]


def test_each_learner_accepts_what_is_correct_for_it() -> None:
    everything = {"reward_shaping", "action_biasing", "control_sharing"}
    accepted = {name: {t for n, t in ACCEPTED if n == name} for name in LEARNERS}
    assert accepted == {
        "sb3/ppo": everything,
        "sb3/a2c": everything,
        "contrib/trpo": everything,
        "sb3/dqn": everything | {"q_augmentation"},
        "contrib/qrdqn": everything | {"q_augmentation"},
        "contrib/maskable_ppo": {"reward_shaping", "action_biasing"},
        "contrib/recurrent_ppo": {"reward_shaping"},
        "contrib/ars": {"reward_shaping"},
    }


@pytest.mark.parametrize(("name", "technique"), ACCEPTED)
def test_weight_zero_is_bit_for_bit_the_plain_learner(name: str, technique: str) -> None:
    advice = guidance(technique, 0.0, env_of(name))
    # Two sums of floats in another order would show: normalise where it is allowed.
    changes: dict[str, Any] = {"normalize": technique == "reward_shaping", "seed": 2}
    guided = make(name, guidance=advice, **changes).learn(128)
    plain = make(name, **changes).learn(128)
    assert same(weights(guided), weights(plain))
    assert guided.num_timesteps == plain.num_timesteps
    assert isinstance(advice.advice, Ratings)
    assert advice.advice.asked == 0
    batch = observations(env_of(name))
    assert (guided.predict(batch)[0] == plain.predict(batch)[0]).all()


@pytest.mark.parametrize(("name", "technique"), ACCEPTED)
def test_a_weight_above_zero_changes_what_is_learnt(name: str, technique: str) -> None:
    guided = make(name, guidance=guidance(technique, 0.7, env_of(name)), seed=2).learn(128)
    assert not same(weights(guided), weights(make(name, seed=2).learn(128)))


@pytest.mark.parametrize(("name", "technique"), REFUSED)
def test_the_rest_is_refused_by_name(name: str, technique: str) -> None:
    with pytest.raises(UserError, match=f"The learner '{name}' cannot take advice by {technique}: it takes"):
        make(name, guidance=guidance(technique, 1.0, env_of(name)))


def test_combinations_that_cannot_work_are_refused() -> None:
    with pytest.raises(UserError, match="cannot take q_augmentation together with normalize"):
        make("sb3/dqn", guidance=guidance("q_augmentation", 1.0), normalize=True)
    module = EligibilitySettings()
    with pytest.raises(UserError, match="cannot take an eligibility module: it has no person"):
        make(
            "sb3/ppo",
            "MountainCar-v0",
            guidance=guidance("action_biasing", 1.0, "MountainCar-v0", eligibility=module),
        )
    own = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")])
    with pytest.raises(UserError, match="for environments that it copies itself"):
        make("sb3/a2c", own, n_envs=1, guidance=guidance("reward_shaping", 1.0))
    discrete = gymnasium.wrappers.TransformObservation(
        gymnasium.make("CartPole-v1"), lambda o: 0, gymnasium.spaces.Discrete(1)
    )
    with pytest.raises(UserError, match="observations that are vectors of floats, not Discrete"):
        make("sb3/a2c", discrete, n_envs=1, guidance=guidance("action_biasing", 1.0))


def test_a_shaped_reward_is_learnt_from_and_the_environments_own_is_logged() -> None:
    made = make("sb3/dqn", guidance=guidance("reward_shaping", 0.5)).learn(40)
    buffer = made.algorithm.replay_buffer
    size = buffer.size()
    states, actions = buffer.observations[:size, 0], buffer.actions[:size, 0, 0]
    expected = 1.0 + 0.5 * ratings_of(states)[np.arange(size), actions]
    assert buffer.rewards[:size, 0] == pytest.approx(expected)
    assert len(set(np.round(expected, 3))) > 1
    assert made.metrics["rollout/ep_rew_mean"] == made.metrics["rollout/ep_len_mean"]  # Cart Pole's own
    assert made.metrics["advice/beta"] == 0.5


def test_a_shaped_search_compares_shaped_returns_and_logs_the_others() -> None:
    returns: list[Any] = []
    made = make("contrib/ars", guidance=guidance("reward_shaping", 3.0), n_delta=1, seed=1)
    evaluate = made.algorithm.evaluate_candidates

    def spied(*args: Any) -> Any:
        returns.append(evaluate(*args))
        return returns[-1]

    made.algorithm.evaluate_candidates = spied
    lengths: list[float] = []
    made.learn(1)
    lengths = [episode["l"] for episode in made.algorithm.ep_info_buffer]
    own = [episode["r"] for episode in made.algorithm.ep_info_buffer]
    assert own == lengths
    assert len(own) == 2
    assert not np.isclose(returns[0].numpy(), own).any()


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize(
    ("name", "technique"), [("sb3/a2c", "action_biasing"), ("sb3/dqn", "reward_shaping")]
)
def test_the_weight_shrinks_with_every_episode_of_every_copy(name: str, technique: str, n_envs: int) -> None:
    """All copies share one guidance: beta follows the number of episodes, whoever has finished them."""
    advice = guidance(technique, 0.8, anneal=0.9)
    made = make(name, guidance=advice, n_envs=n_envs)
    ends: list[int] = []

    class Count(BaseCallback):  # type: ignore[misc] # SB3 is not type-checked here
        def _on_step(self) -> bool:
            ends.append(int(self.locals["dones"].sum()))
            return True

    made.learn(240, callback=Count())
    assert sum(ends) >= 3
    assert advice.state_dict()["beta"] == pytest.approx(0.8 * 0.9 ** sum(ends))


@pytest.mark.parametrize("name", ["sb3/ppo", "sb3/a2c", "contrib/trpo", "contrib/maskable_ppo"])
def test_a_biased_policy_is_the_softmax_of_logits_and_advice(name: str) -> None:
    env = env_of(name)
    made = make(name, guidance=guidance("action_biasing", 1.5, env)).learn(64)
    batch = observations(env)
    table = np.array([row + [0.25] * (made.policy.action_space.n - 2) for row in POLE_RATINGS])
    h = np.where(batch[:, :1] > 0, table[0], table[1])
    count = h.shape[1]
    policy = made.policy
    with torch.no_grad():
        own = torch.from_numpy(batch)
        latent = policy.mlp_extractor.policy_net(own)
        logits = policy.action_net(latent)
        expected = torch.softmax(logits + 1.5 * torch.from_numpy(h).float(), 1)
        wide = torch.cat([own, 1.5 * torch.from_numpy(h).float()], 1)
        found = policy.get_distribution(wide).distribution.probs
    assert found == pytest.approx(expected, abs=1e-6)
    guided, _ = made.predict(batch, deterministic=True)
    assert (guided == expected.argmax(1).numpy()).all()
    alone, _ = made.predict(batch, deterministic=True, guided=False)
    assert (alone == logits.argmax(1).numpy()).all()
    assert (expected - torch.softmax(logits, 1)).abs().max() > 0.1
    assert count == policy.action_space.n


class Ratios(BaseCallback):  # type: ignore[misc] # SB3 is not type-checked here
    """Evaluates the rollout's actions again before the update, as the first minibatch does."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[np.ndarray[Any, Any]] = []
        self.biases: list[np.ndarray[Any, Any]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        algorithm = self.model.algorithm
        buffer = algorithm.rollout_buffer
        flat = buffer.observations.reshape(-1, buffer.observations.shape[-1])
        with torch.no_grad():
            _, logprobs, _ = algorithm.policy.evaluate_actions(
                torch.from_numpy(flat), torch.from_numpy(buffer.actions.reshape(-1)).long()
            )
        self.seen.append(np.exp(logprobs.numpy() - buffer.log_probs.reshape(-1)))
        self.biases.append(flat[:, -2:])


@pytest.mark.parametrize("technique", ["action_biasing", "control_sharing"])
@pytest.mark.parametrize("name", ["sb3/ppo", "sb3/a2c", "contrib/trpo"])
def test_the_ratio_is_one_before_the_first_step_of_an_update(name: str, technique: str) -> None:
    """Though the running statistics move and the weight shrinks while the rollout is collected."""
    watch = Ratios()
    advice = guidance(technique, 0.9, anneal=0.5)
    make(name, guidance=advice, normalize=True, n_steps=64).learn(384, callback=watch)
    assert len(watch.seen) >= 3
    for ratios in watch.seen:
        assert ratios == pytest.approx(np.ones_like(ratios), abs=1e-5)
    assert any(len(np.unique(np.abs(bias).max(1).round(4))) > 3 for bias in watch.biases)  # it did shrink


def test_sb3s_evaluation_callback_finds_the_statistics_of_a_guided_learner() -> None:
    made = make("sb3/ppo", guidance=guidance("action_biasing", 0.5), normalize=True)
    callback = EvalCallback(made.evaluation_env(), n_eval_episodes=1, eval_freq=32, verbose=0)
    made.learn(128, callback=callback)
    assert 1 <= callback.last_mean_reward <= 500
    assert callback.eval_env.venv.obs_rms.count > 100  # as the training's, which saw 128 steps


def test_the_unbiased_policys_ratio_would_not_be_one() -> None:
    """What the two tests above would say of a policy whose log-probabilities leave the advice out."""
    made = make("sb3/ppo", guidance=guidance("action_biasing", 0.9)).learn(64)
    batch = torch.from_numpy(observations("CartPole-v1"))
    wide = torch.cat([batch, 0.9 * torch.from_numpy(ratings_of(batch.numpy())).float()], 1)
    bare = torch.cat([batch, torch.zeros(len(batch), 2)], 1)
    actions = torch.zeros(len(batch), dtype=torch.int64)
    with torch.no_grad():
        logprobs = [made.policy.evaluate_actions(seen, actions)[1] for seen in (wide, bare)]
    assert (logprobs[0] - logprobs[1]).abs().min() > 0.1


def test_a_shared_policy_is_the_mixture() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0], [0.0, 0.0, 0.0], [5.0, 1.0, -4.0]], requires_grad=True)
    # p = .4 on action 1; p = .6 on two favourites alike; p = 0.
    share = torch.tensor([[0.0, 0.4, 0.0], [0.3, 0.0, 0.3], [0.0, 0.0, 0.0]])
    mixed = shared(logits, share)
    pi = logits.softmax(1)
    expected = torch.stack([0.6 * pi[0] + share[0], 0.4 * pi[1] + share[1], pi[2]])
    torch.testing.assert_close(mixed.softmax(1), expected)
    assert torch.equal(mixed[2], logits[2])
    # d log mu(a*) / d logit: the part of pi in mu, times d log pi.
    torch.log_softmax(mixed, 1)[0, 1].backward()
    part = (0.6 * pi[0, 1] / (0.6 * pi[0, 1] + 0.4)).item()
    own = torch.eye(3)[1] - pi[0].detach()
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx((part * own).tolist(), abs=1e-6)


def test_full_control_has_finite_gradients_and_always_acts() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    mixed = shared(logits, torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]))
    distribution = torch.distributions.Categorical(logits=mixed)
    (distribution.log_prob(torch.tensor([1, 0])).sum() + distribution.entropy().sum()).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    torch.testing.assert_close(distribution.probs, torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]))
    made = make("sb3/ppo", guidance=guidance("control_sharing", 2.0)).learn(128)
    assert all(torch.isfinite(tensor).all() for tensor in weights(made).values())
    batch = observations("CartPole-v1")
    assert (made.predict(batch)[0] == ratings_of(batch).argmax(1)).all()


def test_control_is_shared_as_often_as_the_weight_says() -> None:
    made = make("sb3/ppo", guidance=guidance("control_sharing", 0.25))
    batch = np.tile(np.array([[-1.0, 0.0, 0.0, 0.0]], dtype=np.float32), (4000, 1))
    favourite = int(np.argmax(POLE_RATINGS[1]))
    often = (made.predict(batch)[0] == favourite).mean()
    alone = (made.predict(batch, guided=False)[0] == favourite).mean()
    assert often == pytest.approx(0.25 + 0.75 * alone, abs=0.03)


def test_advice_is_asked_about_the_environments_own_observations() -> None:
    seen: list[Any] = []

    class Listening(Ratings):
        def rate(self, observation: Any) -> Any:
            seen.append(np.array(observation))
            return super().rate(observation)

    advice = guidance("action_biasing", 1.0, "MountainCar-v0")
    advice.advice = Listening([1.0, 0.0, 0.0], [0.0, 0.0, 1.0])
    make("sb3/ppo", "MountainCar-v0", normalize=True, guidance=advice).learn(64)
    positions = np.array(seen)[:, 0]
    assert positions.min() >= -1.2
    assert positions.max() < -0.2  # normalised ones would spread around 0


@pytest.mark.parametrize(
    ("name", "technique", "normalize"),
    [
        ("sb3/ppo", "action_biasing", True),
        ("sb3/ppo", "control_sharing", False),
        ("sb3/dqn", "control_sharing", True),
        ("sb3/dqn", "q_augmentation", False),
        ("sb3/dqn", "action_biasing", True),
        ("contrib/ars", "reward_shaping", False),
    ],
)
def test_a_guided_run_is_resumed_bit_for_bit(
    name: str, technique: str, normalize: bool, tmp_path: Path
) -> None:
    def started(folder: Path | None = None) -> Any:
        advice = guidance(technique, 0.6, CORRIDOR, anneal=0.9)
        changes: dict[str, Any] = {"normalize": normalize, "checkpoint_every": 100}
        return make(name, CORRIDOR, guidance=advice, checkpoint_dir=folder, **changes)

    whole = started(tmp_path).learn(300)
    other = started()
    torch.manual_seed(99)
    np.random.seed(99)
    other.restore(min(tmp_path.iterdir()))
    assert other.guidance.state_dict()["beta"] < 0.6
    other.learn(300)
    assert same(weights(whole), weights(other))
    assert other.guidance.state_dict()["beta"] == whole.guidance.state_dict()["beta"]
    loaded = (
        SPECS[name]
        .load()
        .load(max(tmp_path.iterdir()), CORRIDOR, guidance=guidance(technique, 0.6, CORRIDOR, anneal=0.9))
    )
    assert loaded.num_timesteps > 100


def test_a_plain_learner_keeps_sb3s_policy() -> None:
    assert type(make("sb3/ppo").policy) is type(PPO("MlpPolicy", "CartPole-v1", device="cpu").policy)
