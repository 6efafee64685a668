"""H over a vocabulary, what teaches it, and the text of tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.data.tokenizers import train_byte_bpe
from textrl.tamer.credit import Loss
from textrl.tamer.settings import DelaySettings
from textrl.tamer.text.head import TokenHead, unit
from textrl.tamer.text.teaching import Teaching, Token
from textrl.tamer.text.words import Pieces, continues

RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.standard_normal((20, 8)).astype(np.float32)
STATES = [unit(row) for row in RNG.standard_normal((30, 8))]


def fresh(loss: Loss = "importance", tokens: int = 30) -> Teaching:
    teaching = Teaching(TokenHead(EMBEDDINGS, rank=6, alpha=0.3, seed=1), DelaySettings(), loss)
    teaching.tokens += [Token(STATES[i], i % 20) for i in range(tokens)]
    return teaching


def test_h_begins_at_0_and_generalises_by_the_kernel() -> None:
    """After one step H(s', a') is alpha err (h . h' p_a . p_a' + [a = a'])."""
    head = TokenHead(EMBEDDINGS, rank=6, alpha=0.3, seed=1)
    assert not head.rate(STATES[0]).any()
    head.learn(STATES[0], 4, 2.0, weight=0.5)
    p = head._p.double().numpy()
    same = np.eye(20)[4]
    for state in STATES[:5]:
        wanted = 0.3 * 0.5 * 2.0 * (float(STATES[0] @ state) * (p @ p[4]) + same)
        assert head.rate(state) == pytest.approx(wanted, abs=1e-5)
    assert np.linalg.norm(p, axis=1) == pytest.approx(np.ones(20), abs=1e-5)


def test_repeated_labels_are_reached() -> None:
    head = TokenHead(EMBEDDINGS, rank=6, alpha=0.3, seed=1)
    for _ in range(40):
        head.learn(STATES[0], 4, 1.0)
        head.learn(STATES[1], 5, -1.0)
    assert head.value(STATES[0], 4) == pytest.approx(1.0, abs=0.01)
    assert head.value(STATES[1], 5) == pytest.approx(-1.0, abs=0.01)


def test_a_window_moves_the_credited_sum() -> None:
    head = TokenHead(EMBEDDINGS, rank=6, alpha=0.2, seed=1)
    states, tokens, credits = STATES[:3], [1, 2, 3], [0.2, 0.5, 0.3]
    for _ in range(60):
        head.learn_window(states, tokens, credits, 1.0)
    total = sum(c * head.value(s, a) for s, a, c in zip(states, tokens, credits, strict=True))
    assert total == pytest.approx(1.0, abs=1e-3)


def test_sub_words_share_the_credit_of_their_word() -> None:
    teaching = fresh()
    teaching.show(1, 0.0, joins=False)
    teaching.show(2, 0.1, joins=True)
    teaching.show(3, 0.2, joins=False)
    assert teaching.press("p", 1.0, 0.5) == [1, 2, 3]
    b = teaching.head.b
    # Uniform in [.2, .8] s: the word of 0 to 0.2 s gets F(.5) - F(.3) = 1/3, that after it F(.3) = 1/6.
    assert b[:3] == pytest.approx([0.3 / 3, 0.3 / 3, 0.3 / 6], rel=0.15)


_operations = st.lists(
    st.one_of(
        st.tuples(st.just("show"), st.floats(0.01, 1), st.booleans()),
        st.tuples(st.just("press"), st.sampled_from([1.0, -1.0, 10.0]), st.booleans()),
        st.tuples(st.just("span"), st.integers(0, 40), st.integers(0, 40), st.booleans()),
        st.tuples(st.just("tick")),
        st.tuples(st.just("end")),
        st.tuples(st.just("training"), st.booleans()),
        st.tuples(st.just("delay"), st.floats(0.3, 2.0)),
    ),
    max_size=30,
)


def teach(teaching: Teaching, operations: list[tuple[Any, ...]], *, keep_undone: bool) -> list[str]:
    """Run operations; the last field of a press or a span says whether it is to be undone."""
    now_s, number, undone = 0.0, 0, []
    for i, operation in enumerate(operations):
        name = operation[0]
        if name in ("press", "span") and operation[-1]:
            if not keep_undone:
                continue
            undone.append(f"u{i}")
        if name == "show":
            now_s += operation[1]
            number += 1
            teaching.show(number, now_s, joins=operation[2])
        elif name == "press":
            teaching.press(f"u{i}", operation[1], now_s + 0.3)
        elif name == "span":
            teaching.span(f"u{i}", *sorted(operation[1:3]), 1.0)
        elif name == "tick":
            teaching.tick(now_s)
        elif name == "end":
            teaching.end(now_s + 1.0)
        elif name == "training":
            teaching.training(operation[1], now_s)
        else:
            teaching.calibrate(DelaySettings(low=0.1, high=operation[1]))
    return undone


@pytest.mark.parametrize("loss", ["importance", "aggregate", "aggregate_rewarded_only", "window"])
@settings(max_examples=15, deadline=None)
@given(operations=_operations, backwards=st.booleans())
def test_what_is_undone_was_never_there(
    loss: Loss, operations: list[tuple[Any, ...]], backwards: bool
) -> None:
    taught, clean = fresh(loss), fresh(loss)
    undone = teach(taught, operations, keep_undone=True)
    for uuid in reversed(undone) if backwards else undone:
        assert taught.undo(uuid) is not None
    teach(clean, operations, keep_undone=False)
    assert np.array_equal(taught.head.w, clean.head.w)
    assert np.array_equal(taught.head.b, clean.head.b)
    assert (taught.samples, taught.head.learnt) == (clean.samples, clean.head.learnt)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = Path(tmp_path_factory.mktemp("tokens"))
    train_byte_bpe(["the film was slow, and the ending made no sense; café, naïve"] * 3, 290, folder)
    return AutoTokenizer.from_pretrained(folder)


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_pieces_are_the_text(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    pieces = Pieces(tokenizer)
    parts = [pieces.add(token, last=i == len(ids) - 1) for i, token in enumerate(ids)]
    whole = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    assert "".join(parts) == pieces.text == whole


def test_half_a_character_waits_for_the_rest(tokenizer: Any) -> None:
    ids = tokenizer("a🙂b")["input_ids"]
    pieces = Pieces(tokenizer)
    parts = [pieces.add(token) for token in ids]
    assert "".join(parts) == "a🙂b"
    assert "" in parts
    broken = Pieces(tokenizer)
    assert [broken.add(token) for token in ids[:2]] == ["a", ""]
    assert broken.flush() == "�"


@pytest.mark.parametrize(
    ("before", "piece", "joined"),
    [("fil", "m", True), ("don", "'t", True), ("film", " was", False), ("film", ".", False), ("", "a", False),
     ("so", "", False), ("…", "and", False), ("well", "-known", True)],
)  # fmt: skip
def test_words(before: str, piece: str, joined: bool) -> None:
    assert continues(before, piece) is joined
