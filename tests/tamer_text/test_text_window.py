"""The loss `window` with words of several tokens: where it ends, by hand, and that it never diverges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tamer_text_world as world
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.tamer.text.head import TokenHead, unit
from textrl.tamer.text.lessons import Lessons, Replay
from textrl.tamer.text.teaching import Teaching, Token

EMBEDDINGS = np.random.default_rng(4).standard_normal((30, 16)).astype(np.float32)
#: Contexts that have nothing in common.
APART = list(np.eye(16, dtype=np.float32))


class Reader:
    """Shows words of several tokens and gives each one press that speaks of it alone."""

    def __init__(self, alpha: float, replay: Replay | None = None, loss: Any = "window") -> None:
        head = TokenHead(EMBEDDINGS, rank=8, alpha=alpha, seed=1)
        self.teaching = Teaching(head, world.DELAY, loss, replay)
        self.now_s = 0.0

    def word(self, tokens: list[Token], value: float) -> None:
        """A word for 1 s, all of whose tokens are there at once, and 1.2 s after it appeared the press."""
        teaching, first = self.teaching, len(self.teaching.tokens)
        teaching.tokens += tokens
        for place in range(len(tokens)):
            teaching.show(first + place + 1, self.now_s, joins=place > 0)
        teaching.end(self.now_s + 1.0)
        # U(.2, 1.2): F(1.2) - F(.2) = 1.
        teaching.press(f"{first}", value, self.now_s + 1.2)
        self.now_s += 20.0
        teaching.tick(self.now_s)

    def ratings(self, tokens: list[Token]) -> list[float]:
        return [self.teaching.head.value(one.state, one.token) for one in tokens]


def apart(count: int) -> list[Token]:
    return [Token(APART[i], i) for i in range(count)]


@pytest.mark.parametrize("count", range(1, 13))
def test_a_press_takes_the_same_share_of_the_error_from_each_token_of_a_word(count: int) -> None:
    """H of a word is the mean over its n tokens; the square of its gradient is 2 / n: 2 alpha / n goes."""
    reader, tokens, left = Reader(0.4), apart(count), 1.0
    for _ in range(5):
        reader.word(tokens, 3.0)
        left *= 1 - 0.8 / count
        assert reader.ratings(tokens) == pytest.approx([3.0 * (1 - left)] * count, abs=1e-5)


@pytest.mark.parametrize("alpha", [0.3, 0.99])
@pytest.mark.parametrize("count", range(1, 13))
def test_a_word_that_is_rewarded_ends_with_that_rating(count: int, alpha: float) -> None:
    reader, tokens = Reader(alpha, Replay(4)), apart(count)
    for _ in range(40 if alpha == 0.3 else 250):
        reader.word(tokens, -2.0)
    # By symmetry of tokens that have nothing in common the mean is reached by each of them.
    assert reader.ratings(tokens) == pytest.approx([-2.0] * count, abs=0.01)


@pytest.mark.parametrize("count", [1, 4, 12])
def test_repeated_tokens_are_learnt_like_one(count: int) -> None:
    """ "hahaha": the gradient of the mean over equal tokens is that of one, whose square is 2."""
    reader = Reader(0.4)
    tokens = [Token(APART[0], 7)] * count
    reader.word(tokens, 1.0)
    assert reader.ratings(tokens) == pytest.approx([0.8] * count, abs=1e-5)
    reader.word(tokens, 1.0)
    assert reader.ratings(tokens) == pytest.approx([0.96] * count, abs=1e-5)


@pytest.mark.parametrize("count", [1, 4, 12])
def test_importance_teaches_each_token_the_press_as_before(count: int) -> None:
    reader, tokens = Reader(0.4, loss="importance"), apart(count)
    reader.word(tokens, 1.0)
    assert reader.ratings(tokens) == pytest.approx([0.8] * count, abs=1e-5)


def test_two_words_share_a_press_by_their_credit_and_not_by_their_tokens() -> None:
    """Three tokens for .5 s and one for .5 s, a press at 1.2 s: .5 for each word, .5 / 3 for the tokens."""
    reader = Reader(0.4)
    teaching = reader.teaching
    teaching.tokens += apart(4)
    for number, at_s in ((1, 0.0), (2, 0.2), (3, 0.4)):
        teaching.show(number, at_s, joins=number > 1)
    teaching.show(4, 0.5, joins=False)
    teaching.end(1.0)
    teaching.press("one", 1.0, 1.2)
    assert reader.ratings(apart(4)) == pytest.approx([0.4 * 2 / 6] * 3 + [0.4 * 2 / 2], abs=1e-5)


def token(rng: np.random.Generator, alike: float) -> Token:
    """Return a token in a context, from among few and nearly equal ones where they are `alike`."""
    state = unit(APART[0] * alike + rng.standard_normal(16) * (1 - alike + 1e-3))
    return Token(state, int(rng.integers(1 + int(29 * (1 - alike)))))


def distance(head: TokenHead, truth: TokenHead) -> float:
    return float(np.sqrt(((head.w - truth.w) ** 2).sum() + ((head.b - truth.b) ** 2).sum()))


@settings(max_examples=60, deadline=None)
@given(
    alpha=st.floats(0.001, 0.999), lengths=st.lists(st.integers(1, 12), min_size=1, max_size=25),
    replay=st.integers(0, 6), alike=st.floats(0, 1), seed=st.integers(0, 99),
)  # fmt: skip
def test_no_press_takes_h_further_from_a_truth_that_it_can_express(
    alpha: float, lengths: list[int], replay: int, alike: float, seed: int
) -> None:
    """Every step is a projection, cut short or overshooting by less than it was long: it cannot diverge."""
    rng = np.random.default_rng(seed)
    reader = Reader(alpha, Replay(replay, 10, seed))
    truth = TokenHead(EMBEDDINGS, rank=8, alpha=alpha, seed=1)
    truth.w[:], truth.b[:] = rng.standard_normal(truth.w.shape), rng.standard_normal(truth.b.shape)
    far = distance(reader.teaching.head, truth)
    for length in lengths:
        tokens = [token(rng, alike) for _ in range(length)]
        reader.word(tokens, float(np.mean([truth.value(one.state, one.token) for one in tokens])))
        now = distance(reader.teaching.head, truth)
        assert now <= far * (1 + 1e-6) + 1e-6
        far = now


@settings(max_examples=20, deadline=None)
@given(alpha=st.floats(0.5, 0.999), length=st.integers(1, 12), alike=st.floats(0, 1), seed=st.integers(0, 9))
def test_presses_that_contradict_each_other_do_not_add_up(
    alpha: float, length: int, alike: float, seed: int
) -> None:
    rng, reader = np.random.default_rng(seed), Reader(alpha, Replay(4, 50, seed))
    tokens = [token(rng, alike) for _ in range(length)]
    for press in range(60):
        reader.word(tokens, 1.0 if press % 2 else -1.0)
    # A step leaves at most |1 - 2 alpha| of the error: the rating stays within 2 of what was pressed last.
    assert abs(np.mean(reader.ratings(tokens))) < 3.0
    assert np.abs(reader.teaching.head.b).max() < 50.0


def test_lessons_of_older_states_are_scaled_to_a_whole_credit() -> None:
    """There each token of a word had all of its credit: .5 for two tokens and .5 for one make 1.5."""
    old = {"learnt": 3, "kept": [[[1, 2, 3], [0.5] * 3, 1.0, True], [[4], [0.6], -1.0, True],
                                 [[1, 2], [1.0, 1.0], 2.0, False]]}  # fmt: skip
    read = Lessons.from_state(old, Replay(2))
    assert [one.shares for one in read.kept] == [pytest.approx((1 / 3,) * 3), (0.6,), (1.0, 1.0)]
    again = Lessons.from_state(world.through_files(read.state_dict({i: i for i in range(5)})), Replay(2))
    assert again.kept == read.kept
