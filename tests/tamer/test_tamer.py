"""TAMER as a whole: it finds an H that is known, and its rules for time, ties and unfinished steps."""

import numpy as np
import pytest
from tamer_world import CELLS, ONE_HOT, Corridor, corridor_tamer, fingerprint

from textrl.errors import UserError
from textrl.protocols import Signal
from textrl.tamer import DelaySettings, Tamer, TamerSettings, choose

TRUTH = np.array([[0.5, -1.0], [1.0, 2.0], [-0.25, 0.0], [3.0, -2.0], [0.0, 1.0]])


@pytest.mark.parametrize("model", [{"alpha": 1.0}, {"model": "knn", "neighbours": 1}])
def test_h_is_recovered_from_noiseless_presses_on_slow_steps(model):
    # A press .5 to .7 s after a step of a second began can speak of that step only: its credit is 1.
    tamer = corridor_tamer(delay=DelaySettings(low=0.2, high=0.5), **model)
    rng, t = np.random.default_rng(0), 0.0
    for _ in range(60):
        s, a = int(rng.integers(CELLS)), int(rng.integers(2))
        tamer.show(s, a, t)
        tamer.press(TRUTH[s, a], t + rng.uniform(0.5, 0.7))
        t += 1.0
        tamer.tick(t)
    tamer.end_episode(t)
    tamer.tick(t + 1)
    seen = np.stack([tamer.rate(s) for s in range(CELLS)])
    np.testing.assert_allclose(seen, TRUTH, atol=1e-12)
    assert (tamer.samples, tamer.presses) == (60, 60)


@pytest.mark.parametrize("loss", ["aggregate", "aggregate_rewarded_only", "importance"])
def test_h_is_recovered_from_a_steady_judge(loss):
    """Somebody gives what H says of what is on screen, once a step, and on through the pause.

    Each state is held for two seconds, so that no press speaks of two of them. The credits that a step
    gets from presses a step's length apart sum to 1, so that its label is H itself.
    """
    tamer = corridor_tamer(loss=loss)
    rng, t = np.random.default_rng(1), 0.0
    for _ in range(300):
        s, a = int(rng.integers(CELLS)), int(rng.integers(2))
        for step in range(15):
            if step < 10:
                tamer.show(s, a, t)
            elif step == 10:
                tamer.end_episode(t)
            t += 0.2
            tamer.press(TRUTH[s, a], t)
            tamer.tick(t)
    seen = np.stack([tamer.rate(s) for s in range(CELLS)])
    np.testing.assert_allclose(seen, TRUTH, atol=1e-4)


def test_a_window_finds_the_h_behind_presses_about_several_steps():
    """Each press is worth the sum of credit times H over all the steps of which it speaks."""
    tamer = corridor_tamer(loss="window", alpha=0.3)
    rng, t, shown = np.random.default_rng(1), 0.0, []
    for _ in range(4000):
        s, a = int(rng.integers(CELLS)), int(rng.integers(2))
        tamer.show(s, a, t)
        shown.append((t, s, a))
        t += 0.2
        tamer.press(worth(shown[-6:], t), t)
        tamer.tick(t)
    seen = np.stack([tamer.rate(s) for s in range(CELLS)])
    np.testing.assert_allclose(seen, TRUTH, atol=1e-6)


def worth(shown, t):
    """What a press at `t` is worth: sum of credit times H, for delays uniform over [.2, .8] s."""
    total = 0.0
    for begin, s, a in shown:
        end = min(begin + 0.2, t)
        total += TRUTH[s, a] * (min(max(t - begin - 0.2, 0), 0.6) - min(max(t - end - 0.2, 0), 0.6)) / 0.6
    return total


def test_unfinished_steps_count_until_the_next_step():
    tamer = corridor_tamer(alpha=1.0)
    tamer.show(0, 0, 0.0)
    tamer.show(1, 0, 0.2)
    tamer.press(1.0, 0.6)
    tamer.tick(0.7)
    # Credit 1/3, of which 2/3 is used: the copy has 1/2, the model nothing yet.
    assert tamer.rate(0)[0] == pytest.approx(0.5)
    assert tamer.model.predict(0)[0] == 0
    tamer.press(1.0, 0.72)
    assert tamer.rate(0)[0] > 0.5  # heard at once, though time has not moved on
    tamer.tick(0.75)
    used = np.mean([min((0.75 - s - 0.2) / 0.6, 1) for s in np.linspace(0, 0.2, 2001)])
    assert tamer.rate(0)[0] == pytest.approx(2 / 3 / used, rel=1e-3)
    tamer.show(2, 0, 0.8)
    tamer.tick(1.1)
    assert tamer.rate(0)[0] == tamer.model.predict(0)[0] == pytest.approx(2 / 3)


def test_without_presses_labels_are_0_or_absent():
    for loss, expected in (("aggregate", 0.0), ("aggregate_rewarded_only", 1.0)):
        tamer = corridor_tamer(alpha=1.0, loss=loss)
        tamer.model.weights[:] = 1.0
        tamer.show(0, 1, 0.0)
        tamer.end_episode(0.2)
        tamer.tick(1.2)
        assert tamer.rate(0).tolist() == [1.0, expected]


def test_any_finite_value_can_be_pressed():
    for value in (1.0, -1.0, 10.0, -10.0, 0.3):
        tamer = corridor_tamer(alpha=1.0)
        tamer.show(0, 1, 0.0)
        tamer.press(value, 0.85)
        tamer.end_episode(1.0)
        tamer.tick(2.0)
        assert tamer.rate(0)[1] == pytest.approx(value)
    with pytest.raises(UserError, match="value nan; give a finite number"):
        tamer.press(float("nan"), 3.0)


def test_switched_off_nothing_is_heard():
    tamer = corridor_tamer(alpha=1.0)
    tamer.show(0, 1, 0.0)
    tamer.press(1.0, 0.5)
    tamer.training(False, 0.55)  # (.35 / 2) / .6 of the credit is used
    tamer.press(1.0, 0.6)
    tamer.show(1, 1, 1.0)
    tamer.tick(5.0)
    assert not tamer.is_training
    assert (tamer.samples, tamer.presses) == (0, 1)
    tamer.training(True, 5.0)
    tamer.show(2, 1, 5.0)
    tamer.press(2.0, 5.9)
    tamer.show(3, 1, 6.0)
    tamer.tick(7.0)
    assert tamer.model.weights[:, 2].tolist() == [0.0, 2.0]
    assert tamer.samples == 1


class TestTies:
    def rng(self):
        return np.random.default_rng(0)

    def test_the_last_action_is_kept_if_it_is_among_the_best(self):
        ratings = np.array([1.0, 0.0, 1.0])
        assert {choose(ratings, 2, np.random.default_rng(seed)) for seed in range(20)} == {2}

    def test_otherwise_any_of_the_best(self):
        ratings = np.array([1.0, 0.0, 1.0])
        for last in (1, None):
            chosen = [choose(ratings, last, np.random.default_rng(seed)) for seed in range(200)]
            assert set(chosen) == {0, 2}
            assert 60 < chosen.count(0) < 140

    def test_only_a_tie_takes_a_random_number(self):
        rng = self.rng()
        assert choose(np.array([0.0, 2.0, 1.0]), 0, rng) == 1
        assert choose(np.array([1.0, 0.0, 1.0]), 0, rng) == 0
        assert rng.random() == self.rng().random()

    def test_an_agent_without_feedback_goes_on_as_it_began(self):
        tamer, rng = corridor_tamer(), self.rng()
        first = tamer.greedy(0, rng)
        tamer.show(0, first, 0.0)
        assert {tamer.greedy(s, rng) for s in range(CELLS)} == {first}
        tamer.end_episode(0.2)
        assert tamer.last_action is None


def events():
    yield Signal(kind="training", value=1.0, time_s=0.0)
    for i in range(12):
        payload = {"observation": np.array(i % CELLS), "action": i % 2}
        yield Signal(kind="shown", value=0.0, time_s=0.2 * i, payload=payload)
        yield Signal(value=float(1 - i % 3), time_s=0.2 * i + 0.05)
        yield Signal(kind="speed", value=2.0, time_s=0.2 * i + 0.1)
    yield Signal(kind="end_episode", value=0.0, time_s=2.4)
    yield Signal(kind="tick", value=0.0, time_s=3.4)


def test_a_stream_of_signals_is_as_good_as_calls():
    streamed, called = corridor_tamer(), corridor_tamer()
    streamed.observe(events())
    for i in range(12):
        called.show(i % CELLS, i % 2, 0.2 * i)
        called.press(1 - i % 3, 0.2 * i + 0.05)
    called.end_episode(2.4)
    called.tick(3.4)
    assert fingerprint(streamed) == fingerprint(called)
    assert streamed.samples == 12
    assert np.abs(streamed.model.weights).sum() > 0


def test_a_switch_may_be_turned_over():
    tamer = corridor_tamer()
    turn = Signal(kind="training", value=0.0, time_s=0.0, payload={"toggle": True})
    tamer.observe([turn])
    assert not tamer.is_training
    tamer.observe([turn])
    assert tamer.is_training


def test_what_is_shown_is_copied():
    space = Corridor().observation_space
    tamer = Tamer(TamerSettings(features=ONE_HOT, alpha=1.0), space, 2)
    observation = np.array(1)
    tamer.show(observation, 0, 0.0)
    observation[...] = 4
    tamer.press(1.0, 0.9)
    tamer.end_episode(1.0)
    tamer.tick(2.0)
    assert tamer.model.weights[0].tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("model", ["linear", "knn", "network"])
@pytest.mark.parametrize("cut", [1, 14, 20, 35])
def test_a_restored_tamer_goes_on_alike(model, cut):
    signals = list(events())
    settings = {"model": model, "hidden": (4,)}
    old, new = corridor_tamer(**settings), corridor_tamer(**settings)
    old.observe(signals[:cut])
    new.load_state_dict(old.state_dict())
    for state in range(CELLS):
        np.testing.assert_array_equal(old.rate(state), new.rate(state))
    old.observe(signals[cut:])
    new.observe(signals[cut:])
    assert (old.samples, old.presses, old.last_action) == (new.samples, new.presses, new.last_action)
    for state in range(CELLS):
        np.testing.assert_array_equal(old.rate(state), new.rate(state))


def test_a_diverged_h_is_said_in_a_sentence() -> None:
    with pytest.raises(UserError, match="no longer finite; lower alpha"):
        choose(np.array([np.nan, 0.0]), None, np.random.default_rng(0))
