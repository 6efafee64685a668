"""Every algorithm of SB3 and sb3-contrib runs behind textrl's settings, callbacks and surface."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
from sb3_world import (
    CORRIDOR,
    LEARNERS,
    SPECS,
    Corridor,
    env_of,
    make,
    observations,
    same,
    settings,
    weights,
)
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import (
    BaseCallback,
)
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from textrl.discovery import Plugin
from textrl.errors import UserError
from textrl.learners.sb3.settings import DQNSettings, PPOSettings, RecurrentPPOSettings
from textrl.learners.sb3.tuned import TUNED, filled, timesteps
from textrl.registry import Registry
from textrl.rewards import RewardSum, Source
from textrl.settings import build, describe
from textrl.specs import RewardSpec
from textrl.testing.records import Entry, check_settings, check_surface, check_target


class Kept(KVWriter):  # type: ignore[misc] # SB3 is not type-checked here
    """Keep what is logged."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        self.rows.append({**key_values, "step": step})

    def close(self) -> None:
        pass


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_trains_predicts_and_logs(name: str) -> None:
    made, kept = make(name), Kept()
    made.set_logger(Logger(None, [kept]))
    before = weights(made)
    steps = 1600 if name == "sb3/a2c" else 256  # SB3 logs every 100 of its short iterations
    assert made.learn(steps) is made
    assert made.num_timesteps >= steps
    assert made.iteration == made.num_timesteps
    assert not same(before, weights(made))
    batch = observations(env_of(name))
    actions, _ = made.predict(batch, deterministic=True)
    assert actions.shape == (len(batch),)
    one, _ = made.predict(batch[0], deterministic=True)
    assert one.shape == ()
    assert one == actions[0]
    last = kept.rows[-1]
    assert {"rollout/ep_rew_mean", "rollout/ep_len_mean", "time/fps"} <= set(last)
    if name != "contrib/maskable_ppo":
        assert last["rollout/ep_rew_mean"] == last["rollout/ep_len_mean"] > 5  # Cart Pole pays 1 a step
    assert 0 < last["step"] <= made.num_timesteps


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_has_the_surface_that_its_record_promises(name: str) -> None:
    spec = SPECS[name]
    offered = Plugin(name="sb3", package="here", distribution="", status="ok", offers=(("learner", spec),))
    entry = Entry("learner", name, Registry([offered]), {}, None)
    for check in (check_target, check_settings, check_surface):
        check(entry)
    assert spec.load().label == name
    assert spec.load().settings_class is spec.load_settings()


def test_ppo_through_the_adapter_is_sb3s_ppo() -> None:
    given = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "learning_rate": 1e-3, "gamma": 0.9}
    ours = SPECS["sb3/ppo"].load()("CartPole-v1", PPOSettings(tuned=False, seed=3, **given)).learn(128)
    theirs = PPO("MlpPolicy", "CartPole-v1", seed=3, device="cpu", **given).learn(128)
    assert same(weights(ours), dict(theirs.policy.state_dict()))


def test_open_settings_take_the_zoos_values_then_the_algorithms_own() -> None:
    car = make_tuned("sb3/ppo", "MountainCar-v0")
    chosen = car.settings
    assert (chosen.n_envs, chosen.n_steps, chosen.gae_lambda, chosen.n_epochs) == (16, 16, 0.98, 4)
    assert (chosen.batch_size, chosen.learning_rate, chosen.clip_range) == (64, 3e-4, 0.2)
    assert car.get_env().num_envs == 16
    normalize = car.get_vec_normalize_env()
    assert isinstance(normalize, VecNormalize)
    assert (normalize.norm_obs, normalize.norm_reward, normalize.gamma) == (True, True, 0.99)
    pole = make_tuned("sb3/ppo", "CartPole-v1", n_envs=1)
    assert (pole.settings.n_envs, pole.settings.batch_size) == (1, 32)  # no more than is collected
    assert pole.algorithm.clip_range(0.5) == pytest.approx(0.1)
    assert pole.algorithm.lr_schedule(0.25) == pytest.approx(0.00025)
    plain = make_tuned("sb3/ppo", "CartPole-v1", tuned=False)
    assert (plain.settings.n_envs, plain.settings.n_steps, plain.settings.normalize) == (1, 2048, False)
    assert plain.algorithm.lr_schedule(0.25) == pytest.approx(3e-4)
    assert timesteps("sb3/dqn", "MountainCar-v0") == 120_000
    assert timesteps("contrib/maskable_ppo", "CartPole-v1") is None


def make_tuned(name: str, env_id: str, **changes: Any) -> Any:
    cls: Any = SPECS[name].load_settings()
    return SPECS[name].load()(env_id, cls(**changes))


@pytest.mark.parametrize("name", list(TUNED))
def test_every_tuned_value_is_a_setting_that_its_learner_takes(name: str) -> None:
    cls: Any = SPECS[name].load_settings()
    for env_id, values in TUNED[name].items():
        chosen = filled(cls(), name, env_id, {})
        for key, value in values.items():
            if key != "timesteps":
                assert getattr(chosen, key) == value, (env_id, key)
        other = {"n_envs": 3, "learning_rate": 0.5}
        assert filled(cls(**other), name, env_id, {}).learning_rate == 0.5
        assert filled(cls(**other, tuned=False), name, env_id, {}).net_arch is None


def test_dqn_for_mountain_car_is_the_zoos() -> None:
    algorithm = make_tuned("sb3/dqn", "MountainCar-v0").algorithm
    assert (algorithm.buffer_size, algorithm.batch_size, algorithm.gamma) == (10_000, 128, 0.98)
    assert (algorithm.train_freq.frequency, algorithm.gradient_steps) == (16, 8)
    assert (algorithm.target_update_interval, algorithm.exploration_final_eps) == (600, 0.07)
    assert [layer.out_features for layer in algorithm.q_net.q_net if hasattr(layer, "out_features")] == [
        256,
        256,
        3,
    ]


def test_ars_normalises_observations_only() -> None:
    car = make_tuned("contrib/ars", "MountainCar-v0")
    normalize = car.get_vec_normalize_env()
    assert (normalize.norm_obs, normalize.norm_reward) == (True, False)
    assert (car.algorithm.n_delta, car.algorithm.n_top, car.algorithm.zero_policy) == (8, 1, False)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("sb3/ppo", {"n_step": 5}, "here n_step: unknown key 'n_step'. Did you mean 'n_steps'?"),
        ("sb3/dqn", {"gamma": 1.5}, "'gamma': gamma is 1.5; it must be between 0 and 1."),
        ("sb3/a2c", {"n_envs": 0}, "'n_envs': n_envs is 0; it must be at least 1."),
        ("contrib/ars", {"n_delta": 2, "n_top": 4}, "n_top is 4; it must be at most n_delta, 2."),
        ("sb3/ppo", {"batch_size": 1}, "batch_size is 1; it must be at least 2."),
        ("contrib/trpo", {"ent_coef": 0.1}, "here ent_coef: unknown key 'ent_coef'."),
        ("contrib/recurrent_ppo", {"shared_lstm": True}, "shared_lstm is true; set enable_critic_lstm to"),
    ],
)
def test_settings_that_cannot_work_are_refused(name: str, given: dict[str, Any], words: str) -> None:
    cls: Any = SPECS[name].load_settings()
    with pytest.raises(UserError) as caught:
        build(cls, given, where=lambda key: f"here {key}")
    assert words in str(caught.value)


def test_learning_continues_and_counts_from_the_beginning() -> None:
    made = make("sb3/a2c")
    assert made.learn(64).num_timesteps == 64
    assert made.learn(64).num_timesteps == 64
    assert made.learn(128).num_timesteps == 128
    twice = weights(made)
    assert not same(twice, weights(make("sb3/a2c").learn(64)))


def test_evaluation_uses_the_environments_own_rewards_and_the_trainings_statistics() -> None:
    made = make("sb3/ppo", "MountainCar-v0", normalize=True)
    made.learn(64)
    seen = made.get_vec_normalize_env()
    mean, deviation = evaluate_policy(made, made.evaluation_env(), n_eval_episodes=1)
    assert (mean, deviation) == (-200, 0)
    before = seen.obs_rms.mean.copy()
    env = made.evaluation_env()
    raw = env.venv.reset()
    assert env.normalize_obs(raw) == pytest.approx(seen.normalize_obs(raw))
    assert (seen.obs_rms.mean == before).all()
    made.learn(128)
    assert not (seen.obs_rms.mean == before).any()
    assert (env.obs_rms.mean == seen.obs_rms.mean).all()  # an older evaluation follows the training


@pytest.mark.parametrize("name", ["sb3/ppo", "sb3/dqn"])
def test_an_environment_in_sb3_s_monitor_is_copied_like_any_other(name: str) -> None:
    made = make(name, Monitor(gymnasium.make("CartPole-v1")), n_envs=3)
    assert made.get_env().num_envs == 3
    assert same(weights(made.learn(96)), weights(make(name, n_envs=3).learn(96)))
    assert np.isfinite(evaluate_policy(made, made.evaluation_env(), n_eval_episodes=1)[0])


def test_a_wrapper_that_kept_no_arguments_is_a_sentence() -> None:
    class Scaled(gymnasium.RewardWrapper[Any, Any]):
        def __init__(self, env: Any, factor: float) -> None:
            super().__init__(env)
            self.factor = factor

        def reward(self, reward: Any) -> float:
            return self.factor * float(reward)

    with pytest.raises(UserError, match=r"The environment CartPole-v1 cannot be made: "):
        make("sb3/ppo", Scaled(gymnasium.make("CartPole-v1"), 2.0), n_envs=2)


@pytest.mark.parametrize("name", ["sb3/ppo", "sb3/dqn"])
def test_predicting_does_not_disturb_the_training(name: str) -> None:
    batch = observations("CartPole-v1")
    drawn: list[list[int]] = []

    def predict(learner: Any) -> None:
        drawn.append(learner.predict(batch)[0].tolist())

    disturbed = make(name, seed=5).learn(128, callback=predict)
    assert same(weights(make(name, seed=5).learn(128)), weights(disturbed))
    assert len({tuple(actions) for actions in drawn}) > 1  # it does draw


def test_masked_ppo_plays_legal_actions_only() -> None:
    infos: list[dict[str, Any]] = []

    class Watch(BaseCallback):  # type: ignore[misc] # SB3 is not type-checked here
        def _on_step(self) -> bool:
            infos.extend(self.locals["infos"])
            return True

    made = make("contrib/maskable_ppo")
    made.learn(128, callback=Watch())
    assert len(infos) == 128
    assert not any(info["illegal"] for info in infos)
    batch = observations(CORRIDOR)
    only = np.tile([False, False, True], (len(batch), 1))
    assert (made.predict(batch, action_masks=only)[0] == 2).all()  # type: ignore[call-arg]
    free = make("sb3/ppo", CORRIDOR)
    infos.clear()
    free.learn(128, callback=Watch())
    assert any(info["illegal"] for info in infos)  # without masks they do happen


def test_masked_ppo_needs_masks() -> None:
    with pytest.raises(UserError, match=r"'contrib/maskable_ppo' needs an environment with action_masks\(\), "
                       r"which CartPole-v1 does not have; use 'sb3/ppo'"):  # fmt: skip
        make("contrib/maskable_ppo", "CartPole-v1")


def test_a_recurrent_policy_remembers() -> None:
    made = make("contrib/recurrent_ppo")
    one = observations("CartPole-v1")[:1]
    _, state = made.predict(one, deterministic=True)
    assert [part.shape for part in state] == [(1, 1, 8), (1, 1, 8)]
    _, later = made.predict(one, state, np.array([False]), deterministic=True)
    _, again = made.predict(one, state, np.array([True]), deterministic=True)
    assert not np.allclose(later[0], state[0])
    assert np.allclose(again[0], state[0])


def test_environments_come_as_objects_ids_or_sb3s_own() -> None:
    given = gymnasium.make("CartPole-v1")
    made = make("sb3/a2c", given, n_envs=3)
    assert made.get_env().num_envs == 3
    assert made.env is given
    copies = [env.unwrapped for env in made.get_env().envs]
    assert copies[0] is given.unwrapped
    assert len({id(copy) for copy in copies}) == 3
    starts = made.get_env().reset()
    assert len(np.unique(starts[:, 0])) == 3
    own = DummyVecEnv([lambda: gymnasium.make("CartPole-v1")] * 2)
    chosen = dataclasses.replace(settings("sb3/a2c"), n_envs=None)
    adapted = SPECS["sb3/a2c"].load()(own, chosen)
    assert adapted.settings.n_envs == 2
    assert adapted.learn(32).get_env() is own
    short = gymnasium.make("CartPole-v1", max_episode_steps=5)
    copied = make("sb3/a2c", short, n_envs=2)
    copied.learn(64)
    assert copied.metrics["rollout/ep_len_mean"] == 5  # arguments of gymnasium.make reach all copies


@pytest.mark.parametrize(
    ("env", "changes", "words"),
    [
        (3, {}, "needs a Gymnasium environment or its id, not int"),
        ("CartPol-v1", {}, r"There is no environment 'CartPol-v1': .*Did you mean: `CartPole`"),
        (Corridor(), {"n_envs": 2}, "has no Gymnasium id by which copies of it can be made"),
        (
            gymnasium.make_vec("CartPole-v1", num_envs=2),
            {},
            "not .*VectorEnv; copies are made by the setting",
        ),
        ("Pendulum-v1", {"name": "sb3/dqn"}, r"'sb3/dqn' cannot be built: .*only supports .*Discrete"),
    ],
)
def test_environments_that_cannot_work_are_refused(env: Any, changes: dict[str, Any], words: str) -> None:
    given = dict(changes)
    with pytest.raises(UserError, match=words):
        make(given.pop("name", "sb3/a2c"), env, **given)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_person_beside_it_is_refused_by_name(name: str) -> None:
    cls = SPECS[name].load()
    with pytest.raises(UserError, match=rf"'{name}' has no person beside it; use the learner 'sarsa' or"):
        cls(env_of(name), settings(name), human=object())


def test_rewards_of_other_learners_are_refused_by_name() -> None:
    cls, chosen = SPECS["sb3/ppo"].load(), settings("sb3/ppo")
    spec = RewardSpec(name="kl", target="a:b", summary="s", side="learner")
    source = Source(name="kl", spec=spec, reward=lambda batch: batch.logprobs, weight=1.0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"'sb3/ppo' takes rewards from the environment only, not kl; use"):
        cls("CartPole-v1", chosen, rewards=RewardSum([source]))
    made = cls("CartPole-v1", chosen, rewards=RewardSum([]))
    for arguments in ({"episodes": 3}, {}, {"total_timesteps": 5, "episodes": 3}):
        with pytest.raises(UserError, match=r"'sb3/ppo' counts in steps; give total_timesteps, not episodes"):
            made.learn(**arguments)


@pytest.mark.parametrize("name", [name for name in LEARNERS if name.startswith("contrib/")])
def test_without_sb3_contrib_one_sentence_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "textrl.learners.sb3.contrib", raising=False)
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(UserError, match=rf"^The learner '{name}' needs sb3-contrib, which is not installed; "
                       r"run pip install -e '\.\[contrib\]' in the repository\.$"):  # fmt: skip
        make(name)


def test_records_and_settings_import_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from textrl.learners.sb3.records import sb3_learners\n"
        "for spec in sb3_learners(): spec.load_settings()\n"
        "print(*{'torch', 'gymnasium', 'numpy', 'stable_baselines3', 'sb3_contrib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_settings_share_what_is_common() -> None:
    assert issubclass(RecurrentPPOSettings, PPOSettings)
    names = {item.name: item.help for item in describe(DQNSettings)}
    assert names["learning_rate"] == "Step size of Adam [1e-4]."
    assert names["n_envs"].endswith("side by side [1].")
