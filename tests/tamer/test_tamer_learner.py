"""TAMER as a learner: it solves what it is taught, follows SB3's surface, and resumes bit for bit."""

import json

import gymnasium
import numpy as np
import pytest
from tamer_world import CELLS, ONE_HOT, Corridor, Scripted, corridor_tamer, corridor_truth, fingerprint
from textrl_human.simulated import SimulatedTrainer
from textrl_human.trainers import PRESETS, Trainer

from textrl.advice.guidance import Guidance, GuidanceSettings
from textrl.errors import UserError
from textrl.features import FeatureSettings
from textrl.learners.tamer import TamerLearner, TamerLearnerSettings
from textrl.settings import build
from textrl.tamer import DelaySettings, Human, HumanSettings, Tamer, TamerSettings


def learner(seed=0, human=True, trainer=None, checkpoint_dir=None, **settings):
    person = None
    if human:
        feedback = SimulatedTrainer(trainer or Trainer(seed=seed, truth=corridor_truth, p_press=0.6))
        person = Human(feedback, corridor_tamer())
    tamer = TamerSettings(features=ONE_HOT) if person is None else None
    given = TamerLearnerSettings(**{"seed": seed, "tamer": tamer, **settings})
    return TamerLearner(Corridor(), given, human=person, checkpoint_dir=checkpoint_dir)


def test_it_does_what_it_is_taught():
    taught = learner().learn(episodes=40)
    assert [taught.predict(s, deterministic=True)[0] for s in range(CELLS - 1)] == [1] * (CELLS - 1)
    assert np.mean(taught.episode_returns[-10:]) > -4.1
    assert taught.metrics["human/signals"] == taught.human.signals > 40
    assert taught.metrics["tamer/samples"] == taught.tamer.samples > 100
    # Taught the contrary, it never arrives.
    contrary = learner(trainer=Trainer(truth=corridor_truth, p_error=1.0)).learn(episodes=20)
    assert contrary.episode_returns[-1] == -12


def test_mountain_car_is_learnt_from_a_simulated_person():
    env = gymnasium.make("MountainCar-v0", max_episode_steps=500)
    tamer = Tamer(TamerSettings(), env.observation_space, 3)
    human = Human(SimulatedTrainer(PRESETS["oracle"]), tamer)
    taught = TamerLearner(env, TamerLearnerSettings(seed=0), human=human).learn(total_timesteps=3000)
    assert np.mean(taught.episode_returns[-5:]) > -200


def test_the_environment_s_reward_is_not_learnt_from():
    taught = learner(human=False).learn(episodes=10)
    np.testing.assert_array_equal(taught.tamer.model.weights, 0)
    assert len(taught.episode_returns) == 10


def test_actions_are_greedy_with_ties_as_published():
    alone = learner(human=False)
    alone.tamer.model.weights[:] = [[0, 0, 0, 0, 0], [0, 0, -1, 0, 0]]
    for seed in range(10):
        alone.rng = np.random.default_rng(seed)
        first = alone.first(0)
        assert alone.next(0, first, -1.0, 1, False, False) == first  # a tie keeps it
        assert alone.next(1, 1, -1.0, 2, False, False) == 0
        assert alone.next(1, 1, -1.0, CELLS - 1, True, False) is None
    assert {learner(seed=s, human=False).first(0) for s in range(10)} == {0, 1}


def test_unfinished_steps_act_too():
    tamer = corridor_tamer(alpha=1.0)
    taught = TamerLearner(Corridor(), TamerLearnerSettings(), human=Human(Scripted(), tamer))
    tamer.show(3, 0, 0.0)
    tamer.show(2, 1, 0.2)
    tamer.press(-1.0, 0.6)
    tamer.tick(0.7)
    assert tamer.model.predict(3)[0] == 0
    assert taught.first(3) == 1


@pytest.mark.parametrize("model", ["linear", "knn", "network"])
def test_a_resume_is_bit_exact(tmp_path, model):
    def begin(folder=None):
        trainer = Trainer(seed=5, truth=corridor_truth, p_press=0.7, p_error=0.1, multi_press=0.2)
        tamer = corridor_tamer(model=model, hidden=(8,), delay=DelaySettings(high=1.4))
        human = Human(SimulatedTrainer(trainer), tamer, HumanSettings(schedule=((0, 7), (9, 30))))
        settings = TamerLearnerSettings(seed=2, checkpoint_every=6, keep_checkpoints=1)
        return TamerLearner(Corridor(), settings, human=human, checkpoint_dir=folder)

    whole = begin(tmp_path).learn(episodes=12)
    resumed = begin()
    early = begin(tmp_path / "early").learn(episodes=6)
    resumed.restore(tmp_path / "early" / "episode_000006").learn(episodes=12)
    assert early.episodes == 6
    assert resumed.episode_returns == whole.episode_returns
    np.testing.assert_array_equal(
        resumed.tamer.model.predict_batch(np.arange(CELLS)), whole.tamer.model.predict_batch(np.arange(CELLS))
    )
    np.testing.assert_array_equal(resumed.tamer.rate(1), whole.tamer.rate(1))
    assert resumed.metrics.keys() == whole.metrics.keys()
    assert resumed.metrics["human/signals"] == whole.metrics["human/signals"]


def test_a_trained_learner_acts_without_its_person(tmp_path):
    taught = learner().learn(episodes=20)
    taught.save(tmp_path / "model")
    alone = TamerLearner.load(tmp_path / "model", Corridor())
    assert fingerprint(alone.tamer) == fingerprint(taught.tamer)
    assert alone.predict(2, deterministic=True)[0] == 1
    before = fingerprint(alone.tamer)
    alone.learn(episodes=22)
    assert alone.human.signals == taught.human.signals
    assert alone.episodes == 22
    # Nobody rates any more, and silence is a label of 0; the signs stay.
    assert fingerprint(alone.tamer) != before
    assert alone.tamer.rate(2)[1] > 0


def test_an_h_from_a_file_acts_and_is_kept(tmp_path):
    features = FeatureSettings(per_dimension=3, width=0.5)
    weights = np.zeros((3, 10))
    weights[2, -1] = 1.0  # always right
    (tmp_path / "h.json").write_text(json.dumps(weights.ravel().tolist()))
    settings = TamerLearnerSettings(tamer=TamerSettings(features=features), weights=str(tmp_path / "h.json"))
    env = gymnasium.make("MountainCar-v0")
    loaded = TamerLearner(env, settings)
    assert {int(loaded.predict(env.observation_space.sample())[0]) for _ in range(20)} == {2}
    loaded.save(tmp_path / "model")
    again = TamerLearner.load(tmp_path / "model", env)
    np.testing.assert_array_equal(again.tamer.model.weights, weights)


def test_predict_takes_one_observation_or_several():
    taught = learner().learn(episodes=20)
    actions, state = taught.predict(np.arange(CELLS - 1), deterministic=True)
    assert actions.tolist() == [1] * (CELLS - 1)
    assert actions.dtype == np.int64
    assert state is None
    drawn = {int(learner(human=False).predict(0)[0]) for _ in range(3)}
    assert drawn <= {0, 1}


class Right:
    """Advice that likes the second action."""

    def rate(self, observation):
        return np.array([0.0, 1.0])


def guided(technique, beta=1.0):
    given = GuidanceSettings(technique=technique, source="right", beta=beta)
    env = Corridor()
    guidance = Guidance(given, Right(), env.observation_space, 2)
    return TamerLearner(env, TamerLearnerSettings(tamer=TamerSettings(features=ONE_HOT)), guidance=guidance)


@pytest.mark.parametrize("technique", ["action_biasing", "control_sharing"])
def test_further_advice_may_bias_and_share(technique):
    biased = guided(technique).learn(episodes=5)
    assert max(biased.episode_lengths) <= CELLS - 1
    assert biased.predict(0, deterministic=True)[0] == 1
    assert guided(technique, beta=0.0).learn(episodes=5).episode_returns == (
        learner(human=False).learn(episodes=5).episode_returns
    )


@pytest.mark.parametrize("technique", ["reward_shaping", "q_augmentation"])
def test_advice_that_would_do_nothing_is_refused(technique):
    with pytest.raises(UserError, match=f"{technique} would do nothing; use action_biasing"):
        guided(technique)


def test_what_does_not_fit_is_refused():
    person = Human(Scripted(), corridor_tamer())
    with pytest.raises(UserError, match="'tamer' differ from those of the person's"):
        TamerLearner(Corridor(), TamerLearnerSettings(tamer=TamerSettings(alpha=0.5)), human=person)
    env = Corridor()
    three = Human(Scripted(), Tamer(TamerSettings(features=ONE_HOT), env.observation_space, 3))
    with pytest.raises(UserError, match="rates 3 actions, but the environment has 2"):
        TamerLearner(env, TamerLearnerSettings(), human=three)
    with pytest.raises(UserError, match="keep_checkpoints is 0"):
        build(TamerLearnerSettings, {"keep_checkpoints": 0}, where=lambda key: key)


def test_sb3_evaluates_it():
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    taught = learner().learn(episodes=30)
    mean, _ = evaluate_policy(taught, Monitor(Corridor()), n_eval_episodes=5)
    assert mean >= -4
