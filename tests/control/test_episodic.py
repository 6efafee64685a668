"""The loop and the surface of episodic learners: resume, callbacks, evaluation, the person, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from control_learners import same
from control_world import Grid, OneState, Person, Rule, Spaces, mountain_car
from gymnasium.spaces import Discrete
from stable_baselines3.common.callbacks import (
    BaseCallback,
)
from stable_baselines3.common.logger import KVWriter, Logger

from textrl import checkpoint
from textrl.advice import EligibilitySettings, Guidance, GuidanceSettings
from textrl.errors import UserError
from textrl.features import FeatureSettings
from textrl.learners.sarsa import Sarsa, SarsaSettings

SMALL = FeatureSettings(per_dimension=8)
ELIGIBILITY = EligibilitySettings(features=SMALL, decay=0.99)


def short_car(
    folder: Path | None = None,
    *,
    technique: str | None = None,
    person: Person | None = None,
    env: Any = None,
    **changes: Any,
) -> Sarsa:
    base: dict[str, Any] = {"features": SMALL, "epsilon": 0.2, "checkpoint_every": 2}
    env = env or mountain_car(60)
    guidance = None
    if technique is not None:
        settings = GuidanceSettings(
            technique=technique, source="rule", beta=0.5, anneal=0.9,  # type: ignore[arg-type]
            eligibility=ELIGIBILITY if technique in ("action_biasing", "control_sharing") else None,
        )  # fmt: skip
        guidance = Guidance(settings, Rule(), env.observation_space, 3, seed=5)
    return Sarsa(
        env, SarsaSettings(**(base | changes)), guidance=guidance, human=person, checkpoint_dir=folder
    )


@pytest.mark.parametrize("technique", [None, "reward_shaping", "action_biasing", "control_sharing"])
def test_resume_repeats_the_run_bit_for_bit(tmp_path: Path, technique: str | None) -> None:
    straight = short_car(technique=technique, person=Person(4)).learn(episodes=7)

    def interrupt(made: Sarsa) -> None:
        if made.episodes == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        short_car(tmp_path, technique=technique, person=Person(4)).learn(episodes=7, callback=interrupt)
    newest = checkpoint.latest(tmp_path)
    assert newest is not None
    assert newest.name == "episode_000004"
    assert len(list(tmp_path.iterdir())) == 2  # keep_checkpoints
    resumed = short_car(tmp_path, technique=technique, person=Person(4)).restore(newest)
    assert resumed.episodes == 4
    same(resumed.learn(episodes=7), straight)
    assert resumed.metrics.keys() == straight.metrics.keys()
    changing = {"time/fps"}
    for name in resumed.metrics.keys() - changing:
        assert resumed.metrics[name] == straight.metrics[name]


def test_an_interrupt_in_the_middle_of_an_episode_loses_that_episode_only(tmp_path: Path) -> None:
    made = short_car()

    class Interrupt(BaseCallback):  # type: ignore[misc] # SB3 is not type-checked here
        def _on_step(self) -> bool:
            if self.num_timesteps == 90:
                raise KeyboardInterrupt
            return True

    with pytest.raises(KeyboardInterrupt):
        made.learn(episodes=3, callback=Interrupt())
    assert made.episodes == 1
    assert made.learn(episodes=2).episode_lengths == [60, 60]


@pytest.mark.parametrize("technique", [None, "control_sharing"])
def test_a_run_in_pieces_is_the_run_in_one(technique: str | None) -> None:
    """Timesteps may end within an episode; the next `learn` continues it."""
    pieces = short_car(technique=technique)
    for steps in (1, 17, 60, 61, 130):
        assert pieces.learn(total_timesteps=steps).num_timesteps == steps
    pieces.learn(episodes=4)
    same(pieces, short_car(technique=technique).learn(episodes=4))
    assert pieces.learn(total_timesteps=10).num_timesteps == 240  # already done


def test_a_saved_learner_is_rebuilt_from_its_folder_alone(tmp_path: Path) -> None:
    made = short_car(alpha=0.1, features=FeatureSettings(kind="tiles", low=(-1.0, -0.05)), epsilon=0.0)
    made.learn(episodes=2).save(tmp_path / "model")
    loaded = Sarsa.load(tmp_path / "model", mountain_car(60))
    assert loaded.settings == made.settings
    same(loaded, made)
    assert sorted(path.suffix for path in (tmp_path / "model").iterdir()) == [
        ".json", ".json", ".safetensors", ".safetensors", ".yaml"
    ]  # fmt: skip
    same(loaded.learn(episodes=4), made.learn(episodes=4))


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    short_car(technique="action_biasing").learn(episodes=1).save(tmp_path / "saved")
    with pytest.raises(UserError, match=r"other settings \(alpha\)"):
        short_car(technique="action_biasing", alpha=0.3).restore(tmp_path / "saved")
    with pytest.raises(
        UserError, match="written with guidance, but the learner runs without guidance or a person"
    ):
        short_car().restore(tmp_path / "saved")
    with pytest.raises(UserError, match="runs with guidance and human"):
        short_car(technique="action_biasing", person=Person()).restore(tmp_path / "saved")
    with pytest.raises(UserError, match="other settings of the advice"):
        short_car(technique="control_sharing").restore(tmp_path / "saved")
    weights = tmp_path / "saved" / "learner.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"learner\.safetensors"):
        short_car(technique="action_biasing").restore(tmp_path / "saved")


@pytest.mark.parametrize("technique", [None, "control_sharing", "action_biasing"])
def test_predicting_in_between_changes_nothing(technique: str | None) -> None:
    watched = short_car(technique=technique, person=Person(4))
    states = np.array([[-0.5, 0.01], [-0.4, -0.02]], np.float32)

    def look(made: Sarsa) -> None:
        for deterministic in (False, True):
            actions, state = made.predict(states, deterministic=deterministic)
            assert actions.shape == (2,)
            assert actions.dtype == np.int64
            assert state is None
            assert made.predict(states[0], deterministic=deterministic)[0].shape == ()

    watched.learn(episodes=4, callback=look)
    plain = short_car(technique=technique, person=Person(4)).learn(episodes=4)
    assert np.array_equal(watched.linear.weights, plain.linear.weights)
    assert watched.episode_returns == plain.episode_returns
    assert watched.rng.bit_generator.state == plain.rng.bit_generator.state
    assert {**watched.metrics, "time/fps": 0} == {**plain.metrics, "time/fps": 0}


def test_prediction_without_chance_takes_the_best_action() -> None:
    one_hot = FeatureSettings(kind="one_hot")
    made = short_car(env=Grid(2, 2), features=one_hot, epsilon=1.0, epsilon_decay=1.0)
    made.linear.weights[:] = [[0, 1, 2, 9], [5, 0, 0, 0], [0, 3, 0, 0], [0, 0, 4, 0]]
    assert made.predict(np.arange(4), deterministic=True)[0].tolist() == [1, 2, 3, 0]
    drawn = {int(made.predict(0)[0]) for _ in range(100)}
    assert drawn == {0, 1, 2, 3}  # epsilon is 1


class Shifted(OneState):
    """Its actions are 3 and 4, as Gymnasium allows, and 4 pays nothing."""

    def __init__(self) -> None:
        super().__init__("terminated")
        self.action_space = Discrete(2, start=3)

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(np.int64(action))
        return 0, float(action == 3), True, False, {}


def test_actions_are_numbered_as_the_environment_has_them() -> None:
    made = short_car(env=Shifted(), features=FeatureSettings(kind="one_hot"), epsilon=0.5).learn(episodes=50)
    assert made.predict(0, deterministic=True)[0] == 3
    assert made.linear.weights[0, 0] > 0.9


class Rows(KVWriter):  # type: ignore[misc] # SB3 is not type-checked here
    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, Any]]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        self.rows.append((step, dict(key_values)))

    def close(self) -> None: ...


def test_each_episode_is_logged_under_the_usual_names() -> None:
    writer, made = Rows(), short_car(technique="reward_shaping", person=Person())
    made.set_logger(Logger(folder=None, output_formats=[writer]))
    made.learn(episodes=3)
    assert [step for step, _ in writer.rows] == [1, 2, 3]
    last = writer.rows[-1][1]
    assert last["rollout/ep_rew_mean"] == -60.0  # the environment's reward, not the shaped one
    assert last["rollout/ep_len_mean"] == 60.0
    assert last["rollout/epsilon"] == pytest.approx(0.2 * 0.99**2)
    assert last["advice/beta"] == pytest.approx(0.5 * 0.9**2)
    assert last["human/signals_per_min"] == 180.0
    assert last["time/total_timesteps"] == 180.0
    assert last["time/fps"] > 0


def test_the_person_sees_each_step_before_it_is_taken() -> None:
    person = Person()
    env = Grid(2, 2)
    made = short_car(env=env, features=FeatureSettings(kind="one_hot"), epsilon=1.0, person=person)
    order = person.calls
    step, next_ = env.step, made.next
    env.step = lambda action: order.append(f"step {action}") or step(action)  # type: ignore[func-returns-value]
    made.next = lambda *seen: order.append("learn") or next_(*seen)  # type: ignore[func-returns-value]
    made.learn(episodes=1)
    assert order[-1] == "end"
    for at in range(0, len(order) - 1, 4):
        shown, taken, advanced, learnt = order[at : at + 4]
        assert shown.startswith("shown ")
        assert (taken, advanced, learnt) == (f"step {shown.split()[-1]}", "advance", "learn")


def test_the_module_grows_while_the_person_trains() -> None:
    """Trained for two of four episodes: the weight of advice rises, then decays."""
    weights: list[float] = []
    short_car(technique="action_biasing", person=Person(2)).learn(
        episodes=4, callback=lambda made: weights.append(made.metrics["advice/beta"])
    )
    assert 0 < weights[0] < weights[1]
    assert weights[3] < weights[2] < weights[1]
    never: list[float] = []
    short_car(technique="action_biasing").learn(
        episodes=2, callback=lambda made: never.append(made.metrics["advice/beta"])
    )
    assert never == [0.0, 0.0]


def test_agents_that_act_differently_meet_the_same_start_states() -> None:
    def starts(made: Sarsa) -> list[list[float]]:
        seen: list[list[float]] = []
        inner = made.first

        def first(observation: Any) -> int:
            seen.append(observation.tolist())
            return inner(observation)

        made.first = first  # type: ignore[method-assign]
        made.learn(episodes=4)
        return seen

    one, two = starts(short_car(epsilon=0.0)), starts(short_car(epsilon=1.0))
    assert one == two
    assert len({tuple(state) for state in one}) == 4
    assert starts(short_car(seed=1)) != one


def test_a_bar_shows_the_return(capsys: pytest.CaptureFixture[str]) -> None:
    short_car().learn(episodes=2, progress_bar=True)
    shown = capsys.readouterr().out
    assert "sarsa" in shown
    assert "2/2" in shown
    assert "return -60.0" in shown


class NotANumber(OneState):
    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return 0, float("nan"), True, False, {}


def test_wrong_input_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"learn\(\) needs total_timesteps or episodes"):
        short_car().learn()
    one_hot = FeatureSettings(kind="one_hot")
    with pytest.raises(UserError, match="Episode 1 has the return nan"):
        short_car(env=NotANumber(), features=one_hot).learn(episodes=1)
    vector = gymnasium.vector.SyncVectorEnv([mountain_car])
    with pytest.raises(UserError, match="steps one environment, not SyncVectorEnv"):
        short_car(env=vector)
    vector.close()
    with pytest.raises(UserError, match="Discrete action space, not MultiDiscrete"):
        short_car(env=Spaces(Discrete(2), gymnasium.spaces.MultiDiscrete([2, 2])))


def test_a_checkpoint_is_plain_json_and_tensors(tmp_path: Path) -> None:
    short_car(technique="control_sharing").learn(episodes=1).save(tmp_path / "saved")
    state = json.loads((tmp_path / "saved" / "state.json").read_text())
    assert state["episodes"] == 1
    assert state["rng"]["actions"]["bit_generator"] == "PCG64"
    tensors = checkpoint.load(tmp_path / "saved").tensors
    assert tensors["learner"]["weights"].shape == (3, 65)
    assert [tensor.shape for tensor in tensors["guidance"].values()] == [(1, 64)]
