"""PPO on vectors as a learner: segments, seeds, schedules, checkpoints, callbacks, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from ppo_core_world import cart_pole, collected, made, same, weights
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from textrl.errors import UserError
from textrl.learners.ppo import PPO, PPOSettings
from textrl.learners.ppo.segments import judge
from textrl.learners.ppo.update import Updater, minibatch_losses
from textrl.registry import get_registry


class Walk(gymnasium.Env[Any, Any]):
    """Counts its steps: the observation is (episode, step), the reward the step; ends at step 5.

    Actions are called 1 and 2. It pays NaN where told so.
    """

    def __init__(self, bad: bool = False) -> None:
        self.observation_space = gymnasium.spaces.Box(-100, 100, (2,), np.float64)
        self.action_space = gymnasium.spaces.Discrete(2, start=1)
        self.episode, self.at, self.bad, self.taken = -1, 0, bad, []  # type: ignore[var-annotated]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.episode, self.at = self.episode + 1, 0
        return np.array([self.episode, 0.0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action)
        self.taken.append(int(action))
        self.at += 1
        reward = float("nan") if self.bad else float(self.at)
        return np.array([self.episode, self.at], dtype=float), reward, self.at == 5, False, {}


def walk(limit: int | None = None, **arguments: Any) -> Any:
    env: Any = Walk(**arguments)
    return env if limit is None else gymnasium.wrappers.TimeLimit(env, limit)


def test_segments_follow_the_episodes_across_their_ends() -> None:
    learner = made(walk(), n_envs=1, n_steps=8, batch_size=8)
    first, second = collected(learner), collected(learner, first=8)
    steps = torch.cat([first.observations, second.observations], 1)[0, :, 1].tolist()
    assert steps == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0]
    after = torch.cat([first.next_observations, second.next_observations], 1)[0]
    # What came of an episode's last step is its own last observation, not the next episode's first.
    assert after[:, 1].tolist() == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1]
    assert after[:6, 0].tolist() == [0, 0, 0, 0, 0, 1]
    assert first.rewards[0].tolist() == [1, 2, 3, 4, 5, 1, 2, 3]
    assert first.ends[0].tolist() == first.terminated[0].tolist() == [i == 4 for i in range(8)]


def test_a_time_limit_cuts_and_does_not_terminate() -> None:
    segments = collected(made(walk(3), n_envs=1, n_steps=8, batch_size=8))
    assert segments.ends[0].tolist() == [False, False, True, False, False, True, False, False]
    assert not segments.terminated.any()
    both = collected(made(walk(5), n_envs=1, n_steps=8, batch_size=8))
    assert both.ends[0].tolist() == both.terminated[0].tolist() == [i == 4 for i in range(8)]


def test_advantages_by_hand_across_an_end_and_a_cut_segment() -> None:
    learner = made(walk(), n_envs=1, n_steps=7, batch_size=7, gamma=0.5, gae_lambda=0.5)
    segments = collected(learner)
    experience = judge(learner.network, segments, learner.settings)
    with torch.no_grad():
        v = learner.network.values(torch.tensor([[0.0, i] for i in range(5)] + [[1.0, i] for i in range(3)]))
    delta = [i + 1 + 0.5 * v[i + 1] - v[i] for i in range(4)] + [5 - v[4]]
    delta += [1 + 0.5 * v[6] - v[5], 2 + 0.5 * v[7] - v[6]]
    expected = list(delta)
    for i in (3, 2, 1, 0, 5):  # nothing is carried over the end at 4, nor into the segment from behind 6
        expected[i] = delta[i] + 0.25 * expected[i + 1]
    torch.testing.assert_close(experience.advantages, torch.stack(expected), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(experience.returns, experience.advantages + experience.values)


def test_actions_are_drawn_from_the_policy_and_by_their_place_alone() -> None:
    learner = made(n_envs=4, n_steps=500, batch_size=100)
    with torch.no_grad():
        learner.network.actor[-1].weight.zero_()
        learner.network.actor[-1].bias.copy_(torch.tensor([0.0, 1.0]))
    share = float(collected(learner).actions.double().mean())
    expected = float(torch.sigmoid(torch.tensor(1.0)))
    assert abs(share - expected) < 4 * (expected * (1 - expected) / 2000) ** 0.5
    # The same steps in two halves: the same actions.
    whole = collected(made(n_envs=2, n_steps=40)).actions
    halves = made(n_envs=2, n_steps=20)
    assert torch.equal(whole, torch.cat([collected(halves).actions, collected(halves, first=20).actions], 1))


def test_numbering_of_actions_is_the_environments() -> None:
    env = walk()
    learner = made(env, n_envs=1, n_steps=16, batch_size=16)
    learner.learn(16)
    assert set(env.taken) == {1, 2}
    action, _ = learner.predict(np.array([0.0, 1.0]))
    assert action in (1, 2)


class Sign(gymnasium.Env[Any, Any]):
    """Ten steps; the action is to be 1 where the observation is above 0, and 0 elsewhere."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.left = 10
        self.seen = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.seen, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action == (self.seen[0] > 0))
        self.seen = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        self.left -= 1
        return self.seen, reward, self.left == 0, False, {}


def test_it_learns_what_to_do() -> None:
    """Guessing has 5 of 10. Cart Pole takes longer: see ``textrl bench ppo-core``."""
    learner = made(Sign(), n_envs=1, n_steps=256, batch_size=64, learning_rate=1e-2, gamma=0.0)
    learner.learn(2048)
    returns, _ = evaluate_policy(learner, Monitor(Sign()), n_eval_episodes=20)
    assert returns > 9.5
    assert learner.metrics["rollout/ep_rew_mean"] > 7


def test_the_seed_decides_everything_and_the_global_generator_nothing() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = made().learn(256)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    two, other = made().learn(256), made(seed=4).learn(256)
    assert same(weights(one), weights(two))
    assert not same(weights(one), weights(other))


def test_linear_schedules_fall_with_the_steps_that_are_left() -> None:
    seen: list[tuple[float, float]] = []

    def look(learner: PPO) -> None:
        seen.append((learner.metrics["train/learning_rate"], learner.metrics["train/clip_range"]))

    made(learning_rate_schedule="linear", clip_range_schedule="linear").learn(512, look)
    # As in SB3: the update after the last segment has nothing left.
    expected = [(1e-3 * left, 0.2 * left) for left in (0.75, 0.5, 0.25, 0.0)]
    assert seen == pytest.approx([pytest.approx(pair) for pair in expected])


def test_target_kl_ends_an_update() -> None:
    learner = made(target_kl=1e-12, learning_rate=0.05)
    learner.learn(128)
    assert learner.metrics["train/optimizer_steps"] == 1  # the second minibatch is above the limit
    free = made(learning_rate=0.05)
    free.learn(128)
    assert free.metrics["train/optimizer_steps"] == 4


@pytest.mark.parametrize("limit", [None, 25], ids=["ends", "cuts"])
def test_a_restored_run_goes_on_bit_for_bit(tmp_path: Path, limit: int | None) -> None:
    changes: dict[str, Any] = {"learning_rate_schedule": "linear", "ent_coef": 0.01}
    whole = made(cart_pole(limit), **changes).learn(768)
    half = made(cart_pole(limit), checkpoint_dir=tmp_path, checkpoint_every=3, **changes)

    def stop(learner: PPO) -> bool:
        return learner.iteration < 4

    half.learn(768, stop)
    assert half.iteration == 4
    [written] = tmp_path.iterdir()
    assert written.name == "iteration_000003"
    rest = made(cart_pole(limit), checkpoint_every=3, **changes).restore(written)
    assert (rest.num_timesteps, rest.iteration) == (384, 3)
    rest.learn(768)
    assert same(weights(whole), weights(rest))
    named = ("rollout/ep_rew_mean", "rollout/ep_len_mean", "train/value_loss", "time/episodes")
    assert all(whole.metrics[name] == rest.metrics[name] for name in named)
    again = PPO.load(written, cart_pole(limit))
    assert again.settings == half.settings
    again.learn(768)
    assert same(weights(whole), weights(again))


def test_a_checkpoint_of_other_settings_or_spaces_is_refused(tmp_path: Path) -> None:
    made().save(tmp_path / "one")
    with pytest.raises(UserError, match=r"other settings \(gamma\)"):
        made(gamma=0.5).restore(tmp_path / "one")
    made(walk(), n_envs=1).save(tmp_path / "walk")
    with pytest.raises(UserError, match="other spaces"):
        made(n_envs=1).restore(tmp_path / "walk")


def test_sb3s_callbacks_see_every_step_and_may_stop(tmp_path: Path) -> None:
    class Count(BaseCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.ends = 0

        def _on_step(self) -> bool:
            assert self.locals["new_obs"].shape == (4, 4)
            self.ends += int(self.locals["dones"].sum())
            return self.num_timesteps < 200

    count = Count()
    learner = made()
    learner.learn(10_000, count)
    assert learner.num_timesteps == 200  # in the middle of the second segment, which is not learnt from
    assert learner.iteration == 1
    assert count.ends == learner.episodes > 0
    evaluation = EvalCallback(
        Monitor(cart_pole(30)), eval_freq=32, n_eval_episodes=2, best_model_save_path=str(tmp_path), verbose=0
    )
    plain = made()
    watched = made()
    plain.learn(256)
    watched.learn(256, evaluation)
    assert evaluation.n_calls == 64
    assert same(weights(plain), weights(watched))  # looking changes nothing
    assert PPO.load(tmp_path / "best_model", cart_pole()).num_timesteps > 0


def test_predict_takes_one_or_many_and_leaves_the_training_alone() -> None:
    learner, plain = made(), made()
    learner.learn(128)
    plain.learn(128)
    batch = np.zeros((5, 4), dtype=np.float32)
    assert learner.predict(batch)[0].shape == (5,)
    assert learner.predict(batch[0], deterministic=True)[0].shape == ()
    assert len({int(learner.predict(batch[0])[0]) for _ in range(64)}) == 2
    learner.learn(256)
    plain.learn(256)
    assert same(weights(learner), weights(plain))


def test_what_is_not_finite_stops_before_the_step() -> None:
    with pytest.raises(UserError, match="a reward that is not finite"):
        made(walk(bad=True), n_envs=1, n_steps=8, batch_size=8).learn(8)
    learner = made()
    experience = judge(learner.network, collected(learner), learner.settings)
    before = weights(learner)
    experience.returns[3] = float("inf")
    with pytest.raises(UserError, match=r"The value loss is not finite; no step"):
        Updater(learner.network, learner.settings).update(experience, 0, 1.0)
    assert same(before, weights(learner))


def test_one_step_is_the_gradient_of_the_total_clipped_by_its_norm() -> None:
    learner = made(max_grad_norm=1e9, batch_size=128, n_epochs=1, ent_coef=0.1)
    experience = judge(learner.network, collected(learner), learner.settings)
    rows = torch.arange(128)
    total = minibatch_losses(learner.network, experience, rows, learner.settings, 0.2).total
    gradient = torch.autograd.grad(total, list(learner.network.parameters()))
    norm = torch.linalg.vector_norm(torch.stack([part.norm() for part in gradient]))
    figures = learner.updater.update(experience, 0, 1.0)
    assert figures["train/grad_norm"] == pytest.approx(float(norm), rel=1e-5)


@pytest.mark.parametrize(
    ("env", "changes", "message"),
    [
        (lambda: gymnasium.make("Pendulum-v1"), {}, "needs a Discrete action space"),
        (lambda: gymnasium.make("FrozenLake-v1"), {}, "needs observations that are vectors"),
        (object, {}, "needs a Gymnasium environment or its id"),
    ],
    ids=["actions", "observations", "no environment"],
)
def test_environments_that_do_not_fit_are_refused(env: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(env(), n_envs=1, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_steps": 0}, "n_steps is 0; it must be at least 1"),
        ({"clip_range": 0.0}, "clip_range is 0.0; it must be above 0"),
        ({"gae_lambda": 1.5}, "gae_lambda is 1.5; it must be between 0 and 1"),
        ({"ent_coef": -1.0}, "ent_coef is -1.0; it must be 0 or more"),
        ({"net_arch": (8, 0)}, "every width must be at least 1"),
        ({"n_envs": 1, "n_steps": 65, "batch_size": 64}, "leaves one of the 65 steps"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PPOSettings(**changes)


def test_a_length_in_episodes_and_a_person_are_refused() -> None:
    with pytest.raises(UserError, match="counts in steps"):
        made().learn(episodes=3)
    with pytest.raises(UserError, match="The learner 'ppo' has no person beside it"):
        PPO(cart_pole(), PPOSettings(), human=object())


def test_the_record_leads_here() -> None:
    spec = get_registry().find("learner", "ppo")
    assert spec.load() is PPO
    assert spec.load_settings() is PPOSettings
