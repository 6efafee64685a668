"""Credit against numbers worked out by hand, and against brute-force integration."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.tamer.credit import CreditAssigner, Labelled, Windowed, credit, used_credit
from textrl.tamer.delays import Empirical, Gamma, PreviousStep, Uniform

UNIFORM = Uniform(0.2, 0.8)


def density(delay, t):
    """The delay's density, written out apart from its distribution function."""
    if isinstance(delay, Uniform):
        return ((t >= delay.low) & (t < delay.high)) / (delay.high - delay.low)
    if isinstance(delay, Gamma):
        x = np.maximum(t, 1e-300) / delay.scale
        return np.where(t > 0, x ** (delay.shape - 1) * np.exp(-x) / math.gamma(delay.shape) / delay.scale, 0)
    slopes = np.diff(delay.values) / np.diff(delay.times)
    piece = np.searchsorted(delay.times, t, side="right") - 1
    inside = (piece >= 0) & (piece < len(slopes))
    return np.where(inside, slopes[np.clip(piece, 0, len(slopes) - 1)], 0.0)


DELAYS = st.one_of(
    st.builds(lambda low, width: Uniform(low, low + width), st.floats(0, 1), st.floats(0.1, 2)),
    st.builds(Gamma, st.floats(1, 4), st.floats(0.1, 0.5)),
    st.just(Empirical((0.1, 0.3, 0.4, 1.5), (0.0, 0.2, 0.8, 1.0))),
)


@settings(deadline=None)
@given(DELAYS, st.floats(0, 3), st.floats(0, 2), st.floats(0.01, 2))
def test_credit_is_the_density_over_the_time_on_screen(delay, press, shown, length):
    s = shown + (np.arange(40_000) + 0.5) * length / 40_000
    expected = density(delay, press - s).mean() * length
    assert float(credit(delay, press, shown, shown + length)) == pytest.approx(expected, abs=2e-3)


@settings(deadline=None)
@given(DELAYS, st.floats(0, 4), st.floats(0, 2), st.floats(0.01, 2))
def test_used_credit_is_the_mean_over_the_time_on_screen(delay, now, shown, length):
    hidden = shown + length
    end = max(min(hidden, now), shown)
    s = shown + (np.arange(20_000) + 0.5) * (end - shown) / 20_000
    expected = delay.cdf(now - s).mean()
    assert float(used_credit(delay, now, shown, hidden)) == pytest.approx(expected, abs=1e-4)


@given(DELAYS, st.lists(st.floats(0.01, 1), min_size=1, max_size=12), st.floats(0, 100))
def test_the_credits_of_steps_that_cover_every_delay_sum_to_1(delay, lengths, press):
    edges = press - np.concatenate([[0.0], np.cumsum(lengths), [1e3]])[::-1]
    assert credit(delay, press, edges[:-1], edges[1:]).sum() == pytest.approx(1)
    # A step that is still on screen takes what falls after it as well.
    edges[-1] = np.inf
    assert credit(delay, press, edges[:-1], edges[1:]).sum() == pytest.approx(1)


def test_a_step_shown_for_no_time_is_a_moment():
    assert float(used_credit(UNIFORM, 0.5, 0.0, 0.0)) == pytest.approx(0.5)
    assert float(used_credit(UNIFORM, 0.0, 0.0, np.inf)) == 0.0


def played(loss="aggregate", presses=((0.5, 1.0), (0.95, -1.0)), delay=UNIFORM, steps=6, step_s=0.15):
    """Show steps of .15 s from t = 0 and press; returns the assigner and what was to be learnt at once."""
    assigner, at_once = CreditAssigner(delay, loss), []
    events = [(i * step_s, 0, i) for i in range(steps)] + [(t, 1, value) for t, value in presses]
    for t, kind, what in sorted(events):
        if kind:
            at_once += assigner.press(what, t)
        else:
            assigner.show(what, t)
    return assigner, at_once


def test_the_worked_example():
    # +1 at .50 s rates what was on screen from -.3 to .3 s; -1 at .95 s what was from .15 to .75 s.
    assigner, at_once = played()
    assert at_once == []
    assigner.end_episode(0.9)
    samples = assigner.collect(1.7)
    assert [sample.step for sample in samples] == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(
        [sample.label for sample in samples], [0.25, 0, -0.25, -0.25, -0.25, 0], atol=1e-12
    )
    assert len(assigner) == 0


def test_steps_without_a_press_are_left_out_where_asked():
    assigner, _ = played("aggregate_rewarded_only")
    assigner.end_episode(0.9)
    samples = assigner.collect(1.7)
    # Step 1 got +.25 and -.25: it was rated, and its label is 0.
    assert [sample.step for sample in samples] == [0, 1, 2, 3, 4]
    assert samples[1].label == pytest.approx(0, abs=1e-12)


def test_window_and_importance_learn_at_once():
    assigner, at_once = played("window")
    assert at_once == [
        Windowed((0, 1), pytest.approx((0.25, 0.25)), 1.0),
        Windowed((1, 2, 3, 4), pytest.approx((0.25,) * 4), -1.0),
    ]
    assert assigner.unfinished(0.95) == []
    assigner.end_episode(0.9)
    assert assigner.collect(5.0) == []
    assert len(assigner) == 0

    _, at_once = played("importance")
    assert at_once == [Labelled(step, value, pytest.approx(0.25)) for step, value in
                       ((0, 1.0), (1, 1.0), (1, -1.0), (2, -1.0), (3, -1.0), (4, -1.0))]  # fmt: skip


def test_a_step_is_finished_when_no_press_can_reach_it():
    assigner, _ = played(presses=())
    # Step 0 left the screen at .15 s: a press up to .95 s may speak of it.
    assert assigner.collect(0.94) == []
    assert [sample.step for sample in assigner.collect(0.9501)] == [0]
    assert [sample.label for sample in assigner.collect(1.1001)] == [0.0]


def test_the_step_on_screen_is_never_finished():
    assigner = CreditAssigner(UNIFORM)
    assigner.show("a", 0.0)
    assert assigner.collect(1e9) == []
    assigner.show("b", 1e9)
    assert [sample.step for sample in assigner.collect(1e9 + 1)] == ["a"]


def test_an_unfinished_step_counts_in_proportion():
    assigner = CreditAssigner(UNIFORM)
    assigner.show("a", 0.0)
    assigner.show("b", 0.2)
    assigner.press(1.0, 0.6)  # rates what was on screen from -.2 to .4 s: a third of it, a
    # The credit used at .6 s, averaged over [0, .2): (.6 - s - .2) / .6 at s = .1, which is 1/2: not above.
    assert assigner.unfinished(0.6) == []
    # At .7 s it is 2/3, and b's, over [.2, .7), is the mean of (.5 - s) / .6 over [.2, .5), and 0 after.
    (sample,) = assigner.unfinished(0.7)
    assert sample == Labelled("a", pytest.approx((1 / 3) / (2 / 3)))
    assert len(assigner) == 2


def test_silence_counts_in_an_unfinished_step_too():
    for loss, samples in (("aggregate", [Labelled("a", 0.0)]), ("aggregate_rewarded_only", [])):
        assigner = CreditAssigner(UNIFORM, loss)
        assigner.show("a", 0.0)
        assigner.show("b", 0.2)
        assert assigner.unfinished(0.7) == samples


def test_switching_off_drops_what_was_rated_too_little():
    assigner, _ = played(presses=((0.5, 1.0),))  # steps at 0, .15, ..., .75
    # At .90 s steps have used: 0: s in [0, .15): F(.9 - s) >= .917 on average .979; 1: .79; the rest less.
    kept = assigner.stop_training(0.9)
    used = float(used_credit(UNIFORM, 0.9, 0.0, 0.15))
    assert kept == [Labelled(0, pytest.approx(0.25 / used))]
    assert used > 0.9 > float(used_credit(UNIFORM, 0.9, 0.15, 0.3))
    # Of the others, only the step on screen since .75 s has no credit used; it may still be trained on.
    assert len(assigner) == 1
    assert assigner.stop_training(0.9) == []
    assert assigner.press(1.0, 0.91) == []


def test_switching_on_counts_only_steps_that_were_not_missed():
    assigner = CreditAssigner(UNIFORM, training=False)
    for i in range(6):
        assigner.show(i, 0.15 * i)
        assert assigner.unfinished(0.15 * i) == []
        assert assigner.press(1.0, 0.15 * i) == []
    assigner.start_training(0.8)
    # Step 4 was shown at .60 s: exactly none of its credit is used at .80 s.
    assigner.end_episode(0.9)
    assert [sample.step for sample in assigner.collect(3.0)] == [4, 5]


def test_steps_that_nobody_trains_are_not_hoarded():
    assigner = CreditAssigner(UNIFORM, training=False)
    for i in range(100):
        assigner.show(i, 0.15 * i)
        assigner.collect(0.15 * i)
    assert len(assigner) <= 3


def test_the_pause_lets_the_last_actions_be_rated():
    assigner = CreditAssigner(UNIFORM)
    for i in range(5):
        assigner.show(i, 0.2 * i)
        assigner.collect(0.2 * i)
    assigner.end_episode(1.0)
    assigner.press(-1.0, 1.5)  # rates .7 to 1.3 s: half of step 3, all of step 4
    samples = assigner.collect(2.0)
    np.testing.assert_allclose([s.label for s in samples[-2:]], [-1 / 6, -1 / 3])
    assert len(assigner) == 0


def test_the_previous_step_gets_the_whole_press():
    assigner = CreditAssigner(PreviousStep())
    for i, at in enumerate((0.0, 3.0, 4.0)):
        assigner.show(i, at)
        assigner.press(10.0 * (i + 1), at + 0.01)
    # The press during step 0 has no step before it.
    assert [(s.step, s.label) for s in assigner.collect(4.5)] == [(0, 20.0)]
    assigner.end_episode(6.0)
    assigner.press(5.0, 6.5)
    assigner.show(3, 7.0)
    assigner.press(7.0, 7.5)  # the pause stood before this step
    assert [(s.step, s.label) for s in assigner.collect(8.0)] == [(1, 30.0), (2, 5.0)]


@pytest.mark.parametrize("loss", ["aggregate", "aggregate_rewarded_only", "window", "importance"])
def test_a_press_that_reaches_nothing_changes_nothing(loss):
    assigner = CreditAssigner(UNIFORM, loss)
    assert assigner.press(1.0, 0.0) == []
    assigner.show("a", 0.0)
    assert assigner.press(1.0, 0.1) == []
    assigner.end_episode(0.2)
    assert assigner.collect(2.0) == ([Labelled("a", 0.0)] if loss == "aggregate" else [])


def test_state_round_trip():
    old, _ = played()
    new = CreditAssigner(UNIFORM)
    new.load_state_dict(old.state_dict(lambda step: [step]), lambda packed: packed[0])
    for assigner in (old, new):
        assigner.press(2.0, 1.0)
        assigner.end_episode(1.1)
    assert old.collect(3.0) == new.collect(3.0)
