"""Simulated trainers: what each knob does, the presets, and what they know."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textrl_human.mountain_car import MountainCarSolution, solved
from textrl_human.settings import Preset, SimulatedSettings
from textrl_human.simulated import REPEAT_S, SimulatedTrainer
from textrl_human.trainers import PRESETS, ReactionSettings, Trainer
from textrl_human.truths import find_truth, push_under_the_pole, push_with_the_velocity

from textrl.errors import UserError
from textrl.settings import build, to_plain
from textrl.tamer.delays import make_delay

RIGHT = np.array([-0.5, 0.01], np.float32)


def presses(steps=2000, action=2, step_s=0.2, **trainer):
    """Show the same step again and again; returns (value, latency) of every press."""
    simulated = SimulatedTrainer(Trainer(**trainer))
    for i in range(steps):
        simulated.watch(RIGHT, action, step_s * i)
    return [(s.value, s.time_s) for s in simulated.poll(math.inf)]


def latencies(**trainer):
    """Return delays; the steps are far enough apart to know which one a press speaks of."""
    return np.array([t % 1000 for _, t in presses(steps=4000, step_s=1000.0, **trainer)])


class TestPresets:
    def test_every_preset_has_a_name_in_the_settings(self):
        assert set(Preset.__args__) == set(PRESETS)

    @pytest.mark.parametrize("preset", PRESETS)
    def test_every_preset_can_be_changed_and_comes_back_from_a_config(self, preset):
        given = build(
            SimulatedSettings, {"preset": preset, "p_press": 0.25, "seed": 9}, where=lambda key: key
        )
        assert given.trainer() == dataclasses.replace(PRESETS[preset], p_press=0.25, seed=9)
        assert build(SimulatedSettings, to_plain(given), where=lambda key: key) == given

    def test_an_oracle_rates_every_step_rightly(self):
        assert [value for value, _ in presses(50, seed=1)] == [1.0] * 50
        assert [value for value, _ in presses(50, action=1)] == [-1.0] * 50

    @pytest.mark.parametrize(
        ("preset", "pressed", "right"),
        [
            ("reference", 0.6, 1.0),
            ("stoc", 1.0, 1 / (1 + math.exp(-1))),
            ("mistake10", 1.0, 0.9),
            ("skip10", 0.9, 1.0),
            ("adversarial", 1.0, 0.0),
            ("loop_maze_human", 0.79, 1.0),
        ],
    )
    def test_rates_and_errors(self, preset, pressed, right):
        given = presses(**vars(PRESETS[preset]))
        assert len(given) / 2000 == pytest.approx(pressed, abs=0.03)
        assert np.mean([value > 0 for value, _ in given]) == pytest.approx(right, abs=0.03)

    def test_the_recorded_person_s_latencies(self):
        # tamer.md, from a real session: median .508 s, 10th and 90th percentile .417 and .670 s.
        measured = latencies(**vars(PRESETS["loop_maze_human"]))
        low, median, high = np.quantile(measured, [0.1, 0.5, 0.9])
        assert (low, median, high) == pytest.approx((0.417, 0.508, 0.670), abs=0.008)
        # And in closed form: the quantiles of a standard normal are 0 and +-1.2816.
        delay = PRESETS["loop_maze_human"].delay
        spread = [(delay.median - delay.shift) * math.exp(delay.sigma * z) for z in (-1.2816, 0, 1.2816)]
        assert [delay.shift + part for part in spread] == pytest.approx([0.417, 0.508, 0.670], abs=1e-3)

    def test_late_is_half_a_second_later_than_assumed(self):
        shift = latencies(**vars(PRESETS["late"])).mean() - latencies(**vars(PRESETS["reference"])).mean()
        assert shift == pytest.approx(0.5, abs=0.02)


class TestKnobs:
    def test_the_same_seed_gives_the_same_presses(self):
        noisy = {"p_press": 0.5, "p_error": 0.2, "multi_press": 0.3, "lapse": 0.1, "fatigue": 0.1}
        assert presses(seed=4, **noisy) == presses(seed=4, **noisy)
        assert presses(seed=4, **noisy) != presses(seed=5, **noisy)

    def test_trainers_with_one_seed_have_the_same_luck(self):
        # A trainer who errs errs in some of the presses that one who does not err makes too.
        careful, careless = presses(seed=2, p_press=0.5), presses(seed=2, p_press=0.5, p_error=0.3)
        assert [t for _, t in careful] == [t for _, t in careless]

    def test_a_dead_zone_swallows_small_judgements(self):
        graded = {"truth": lambda observation, action: 0.1 * action}
        assert presses(20, dead_zone=0.2, **graded) == []
        assert len(presses(20, dead_zone=0.19, **graded)) == 20
        assert presses(20, action=0, **graded) == []  # indifferent

    def test_a_strict_trainer_wants_more(self):
        graded = {"truth": lambda observation, action: 0.1 * action}
        assert {value for value, _ in presses(20, strictness=0.15, **graded)} == {1.0}
        assert {value for value, _ in presses(20, strictness=0.25, **graded)} == {-1.0}

    def test_rationality(self):
        # exp(0) = 1: either key; and large judgements do not overflow.
        assert np.mean([v > 0 for v, _ in presses(rationality=0.0)]) == pytest.approx(0.5, abs=0.03)
        assert {v for v, _ in presses(rationality=1e6)} == {1.0}
        assert {v for v, _ in presses(rationality=1e300, truth=lambda observation, action: -1e8)} == {-1.0}

    def test_a_lapse_is_a_key_at_random_whatever_was_seen(self):
        given = presses(lapse=1.0, dead_zone=5.0)
        assert len(given) == 2000
        assert np.mean([v > 0 for v, _ in given]) == pytest.approx(0.5, abs=0.03)

    @pytest.mark.parametrize(("means", "left"), [("nothing", {1.0, -1.0}), ("good", {-1.0}), ("bad", {1.0})])
    def test_silence_may_mean_something(self, means, left):
        simulated = SimulatedTrainer(Trainer(silence_means=means))
        for i in range(30):
            simulated.watch(RIGHT, i % 3, 0.2 * i)
        assert {s.value for s in simulated.poll(math.inf)} == left

    def test_some_press_more_than_once(self):
        given = presses(step_s=1000.0, multi_press=0.5)
        # 1 + 1/2 + 1/4 + ... = 2 presses a step.
        assert len(given) / 2000 == pytest.approx(2.0, abs=0.1)
        gaps = np.diff(sorted(t for _, t in given))
        np.testing.assert_allclose(gaps[gaps < 100], REPEAT_S, atol=1e-6)

    def test_fatigue_takes_its_share_every_minute(self):
        given = presses(steps=6000, step_s=0.1, fatigue=0.25)
        minutes = np.floor(np.array([t for _, t in given]) / 60)
        counts = [int((minutes == m).sum()) for m in range(8)]
        expected = [600 * (1 - 0.75) / -math.log(0.75) * 0.75**m for m in range(8)]
        np.testing.assert_allclose(counts, expected, rtol=0.15)

    def test_a_trainer_leaves(self):
        assert len(presses(stop_after=7)) == 7
        assert len(presses(stop_after=7, multi_press=0.9)) == 7
        assert presses(stop_after=0) == []

    def test_a_press_comes_when_its_time_has_come(self):
        simulated = SimulatedTrainer(Trainer(delay=ReactionSettings(low=0.5, high=0.500001)))
        simulated.watch(RIGHT, 2, 1.0)
        assert simulated.poll(1.49) == []
        assert [s.value for s in simulated.poll(1.51)] == [1.0]
        assert simulated.poll(9.0) == []

    def test_a_restored_trainer_goes_on_alike(self):
        settings = SimulatedSettings(preset="loop_maze_human", multi_press=0.2, fatigue=0.1, stop_after=150)
        old, new = SimulatedTrainer(settings), SimulatedTrainer(settings)
        for i in range(100):
            old.watch(RIGHT, i % 3, 0.2 * i)
        old.poll(10.0)
        new.load_state_dict(json.loads(json.dumps(old.state_dict())))
        for i in range(100, 250):
            for simulated in (old, new):
                simulated.watch(RIGHT, i % 3, 0.2 * i)
        assert old.poll(math.inf) == new.poll(math.inf)
        assert old.presses == new.presses == 150


class TestReactions:
    KINDS = (
        ReactionSettings(),
        ReactionSettings(kind="lognormal"),
        ReactionSettings(kind="gamma"),
        ReactionSettings(kind="outcome_wait"),
        ReactionSettings(kind="outcome_wait", low=0.1, high=2.0, wait=0.5),
    )

    @pytest.mark.parametrize("reaction", KINDS, ids=str)
    def test_the_matched_delay_is_the_distribution_that_is_drawn_from(self, reaction):
        rng = np.random.default_rng(0)
        drawn = np.array([reaction.draw(rng) for _ in range(20_000)])
        matched = make_delay(reaction.matched())
        for t in np.quantile(drawn, [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98]):
            assert float(matched.cdf(t)) == pytest.approx((drawn <= t).mean(), abs=0.012)

    def test_who_waits_for_an_outcome_takes_up_to_four_seconds(self):
        rng = np.random.default_rng(0)
        drawn = [ReactionSettings(kind="outcome_wait").draw(rng) for _ in range(5000)]
        assert min(drawn) >= 0.2
        assert max(drawn) <= 4.0
        assert max(drawn) > 3.8


@pytest.mark.parametrize("name", ["p_press", "p_error", "multi_press", "fatigue", "lapse"])
@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_a_probability_outside_0_and_1_is_one_clear_error(name, value):
    with pytest.raises(UserError) as caught:
        build(SimulatedSettings, {name: value}, where=lambda key: f"run.yaml, line 3 ({key})")
    expected = f"'{name}': {name} is {value}; it must be between 0 and 1."
    assert str(caught.value) == f"run.yaml, line 3 ({name}): {expected}"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"multi_press": 1.0}, "never lets go of the key"),
        ({"dead_zone": -1.0}, "dead_zone is -1.0"),
        ({"strictness": math.inf}, "strictness is inf"),
        ({"rationality": -1.0}, "rationality is -1.0"),
        ({"stop_after": -1}, "stop_after is -1"),
        ({"myopia": 1.0, "truth": "solved"}, "myopia is 1.0"),
        ({"myopia": 0.1}, "only 'solved' looks ahead"),
        ({"delay": {"low": 0.9}}, "low is 0.9 and high 0.8"),
        ({"delay": {"kind": "lognormal", "shift": 0.6}}, "median is 0.508 and shift 0.6"),
        ({"delay": {"kind": "gamma", "scale": 0.0}}, "scale is 0.0"),
        ({"preset": "orakel"}, "'oracle'"),
        ({"silence_means": "gold"}, "'nothing', 'good', 'bad'"),
    ],
)
def test_settings_that_cannot_work_are_refused(section, message):
    with pytest.raises(UserError, match=message):
        build(SimulatedSettings, section, where=lambda key: f"here, {key}")


class TestTruths:
    def test_pushing_with_the_velocity(self):
        table = {0.01: [-1, -1, 1], -0.01: [1, -1, -1], 0.0: [1, -1, -1]}
        for velocity, expected in table.items():
            assert [push_with_the_velocity((0.0, velocity), a) for a in range(3)] == expected

    def test_pushing_under_the_pole(self):
        assert [push_under_the_pole((0, 0, 0.1, 0.0), a) for a in (0, 1)] == [-1, 1]
        assert [push_under_the_pole((0, 0, 0.1, -1.0), a) for a in (0, 1)] == [1, -1]

    def test_a_function_in_a_file_or_a_module(self, tmp_path):
        file = tmp_path / "mine.py"
        file.write_text("def good(observation, action):\n    return 1.0 if action else -1.0\n")
        assert find_truth(Trainer(truth=f"{file}:good"))(None, 1) == 1.0
        assert find_truth(Trainer(truth="textrl_human.truths:push_under_the_pole")) is push_under_the_pole

    @pytest.mark.parametrize(
        ("truth", "message"),
        [
            ("rules", "write one of rule, .*Did you mean 'rule'"),
            ("no_such_module:f", "cannot be imported .ModuleNotFoundError"),
            ("math:pi", "is no function"),
            ("math:nothing", "is no function"),
            ("none.py:f", "cannot be imported"),
        ],
    )
    def test_an_unknown_truth_is_refused(self, truth, message):
        with pytest.raises(UserError, match=message):
            SimulatedTrainer(Trainer(truth=truth))

    @pytest.mark.parametrize("truth", ["rule", "solved"])
    def test_a_truth_for_another_task_is_refused(self, truth):
        with pytest.raises(UserError, match=f"The truth '{truth}' is for Mountain Car"):
            SimulatedTrainer(Trainer(truth=truth)).watch(np.zeros(4), 0, 0.0)
        with pytest.raises(UserError, match="'pole_rule' is for Cart Pole"):
            SimulatedTrainer(Trainer(truth="pole_rule")).watch(RIGHT, 0, 0.0)

    def test_a_truth_must_give_numbers(self):
        with pytest.raises(UserError, match="truth gave nan for action 2"):
            presses(1, truth=lambda observation, action: math.nan)


class TestSolvedMountainCar:
    def test_a_solution_plays_nearly_as_well_as_can_be(self):
        import gymnasium

        env = gymnasium.make("MountainCar-v0")
        solution, lengths, promised = solved(), [], []
        for seed in range(20):
            observation, _ = env.reset(seed=seed)
            promised.append(-solution.q(observation).max())
            over, steps = False, 0
            while not over:
                observation, _, terminated, truncated, _ = env.step(int(solution.q(observation).argmax()))
                over, steps = terminated or truncated, steps + 1
            lengths.append(steps)
        assert max(lengths) < 130
        assert np.mean(lengths) < 105
        assert np.mean(lengths) == pytest.approx(np.mean(promised), abs=4)

    def test_by_hand_next_to_the_goal(self):
        # At .49 with .05 every push ends the episode in one step; the advantages are 0.
        np.testing.assert_array_equal(solved().q((0.49, 0.05)), [-1, -1, -1])
        assert solved().advantage((0.49, 0.05), 2) == 0
        # Half a step short of it, only pushing right arrives now: the others need one step more.
        position = 0.5 - (0.03 + 0.0005 - 0.0025 * math.cos(3 * 0.47))
        q = solved().q((position, 0.03))
        assert q[2] == -1
        assert q[0] == pytest.approx(-2, abs=1e-6)

    def test_advantages_sum_to_nothing(self):
        rolling_right, rolling_left = (-0.9, 0.02), (-0.5, -0.03)
        for state in (rolling_right, rolling_left):
            assert sum(solved().advantage(state, a) for a in range(3)) == pytest.approx(0, abs=1e-12)
        assert solved().advantage(rolling_right, 2) > 0 > solved().advantage(rolling_right, 0)
        assert solved().advantage(rolling_left, 0) > 0 > solved().advantage(rolling_left, 2)

    def test_the_short_sighted_do_not_see_the_goal_from_afar(self):
        near, far = (0.35, 0.03), (-0.5, 0.0)
        short = MountainCarSolution(0.9)
        assert abs(short.advantage(far, 2)) < 1e-2 * abs(solved().advantage(far, 2))
        assert short.advantage(near, 2) > 0.01
        trainer = SimulatedTrainer(SimulatedSettings(preset="myopic"))
        trainer.watch(np.array(near), 2, 0.0)
        assert [s.value for s in trainer.poll(9.0)] == [1.0]

    def test_the_wall_stops_the_car(self):
        # Left of the wall's edge at speed: the next state stands still at the wall, whatever was pushed.
        q = solved().q((-1.19, -0.06))
        assert q[0] == q[1] == q[2]


@given(st.floats(-1.2, 0.49), st.floats(-0.07, 0.07), st.integers(0, 2))
def test_our_mountain_car_moves_like_gymnasium_s(position, velocity, action):
    from gymnasium.envs.classic_control.mountain_car import MountainCarEnv
    from textrl_human.mountain_car import _step

    env = MountainCarEnv()
    env.reset(seed=0)
    env.state = (position, velocity)
    observation, _, terminated, _, _ = env.step(action)
    ours = _step(np.float64(position), np.float64(velocity), action)
    np.testing.assert_allclose(ours, observation, atol=1e-7)
    assert terminated == bool(ours[0] >= 0.5)
