"""H over a vocabulary, and the snapshot of it that learners use."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tamer_text_world as world
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.errors import UserError
from textrl.tamer.text.head import TokenHead, fingerprint_of, unit
from textrl.tamer.text.saved import load_head, save_head

RAW = np.random.default_rng(1).standard_normal((12, world.WIDTH)) * 7.0


def taught(**more: Any) -> TokenHead:
    made = world.head(**more)
    for i, raw in enumerate(RAW[:8]):
        made.learn(unit(raw), i % 5, float((-1) ** i), weight=0.5)
    return made


def brute_force(head: TokenHead, raw: Any, token: int) -> float:
    """(W h) . p_a + b_a, number by number."""
    h = [x / sum(y * y for y in raw) ** 0.5 for x in raw]
    p = head._p.double().numpy()
    along = [sum(float(head.w[i, j]) * h[j] for j in range(len(h))) for i in range(head.rank)]
    return sum(along[i] * float(p[token, i]) for i in range(head.rank)) + float(head.b[token])


def test_without_feedback_h_is_0_exactly_and_yet_it_learns() -> None:
    head = world.head()
    frozen = head.snapshot()
    assert frozen.zero
    assert not frozen.rate(torch.from_numpy(RAW)).any()
    head.learn(unit(RAW[0]), 3, 1.0)
    assert not head.snapshot().zero
    # A token's features have length 2: h . h = 1 and the token's own bias.
    assert head.value(unit(RAW[0]), 3) == pytest.approx(2 * head.alpha, abs=1e-6)


def test_a_snapshot_is_h_in_float64_by_brute_force() -> None:
    head = taught()
    frozen = head.snapshot()
    rated = frozen.rate(torch.from_numpy(RAW))
    assert rated.dtype == torch.float32
    wanted = [[brute_force(head, raw, a) for a in range(world.VOCABULARY)] for raw in RAW]
    np.testing.assert_allclose(rated, wanted, atol=2e-6)
    np.testing.assert_allclose([head.rate(unit(raw)) for raw in RAW], wanted, atol=2e-6)
    tokens = torch.arange(len(RAW)) % world.VOCABULARY
    chosen = [brute_force(head, raw, int(a)) for raw, a in zip(RAW, tokens, strict=True)]
    np.testing.assert_allclose(frozen.values(torch.from_numpy(RAW), tokens), chosen, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_length_and_dtype_of_the_states_do_not_matter(dtype: torch.dtype) -> None:
    frozen = taught().snapshot()
    raw = torch.from_numpy(RAW).to(dtype)
    torch.testing.assert_close(frozen.rate(raw), frozen.rate(raw.double() * 4), atol=2e-6, rtol=0)


def test_a_snapshot_stays_while_people_teach_on() -> None:
    head = taught()
    frozen = head.snapshot()
    assert head.snapshot() is frozen
    before = frozen.rate(torch.from_numpy(RAW))
    head.learn(unit(RAW[0]), 3, 5.0)
    assert torch.equal(frozen.rate(torch.from_numpy(RAW)), before)
    assert head.snapshot().learnt == frozen.learnt + 1
    assert not torch.equal(head.snapshot().rate(torch.from_numpy(RAW)), before)
    head.clear()
    assert head.snapshot().zero
    with pytest.raises(dataclasses.FrozenInstanceError):
        frozen.learnt = 0  # type: ignore[misc]


def test_no_gradient_flows_into_h_or_through_it() -> None:
    states = torch.from_numpy(RAW).requires_grad_()
    assert not taught().snapshot().rate(states).requires_grad


def test_a_state_of_length_0_is_rated_by_the_biases_alone() -> None:
    head = taught()
    np.testing.assert_allclose(head.snapshot().rate(torch.zeros(1, world.WIDTH))[0], head.b, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    token=st.integers(0, 19), other=st.integers(0, 19), angle=st.floats(0, 3.1), label=st.floats(-10, 10),
    weight=st.floats(0, 1),
)  # fmt: skip
def test_a_press_moves_like_tokens_in_like_contexts_by_the_kernel(
    token: int, other: int, angle: float, label: float, weight: float
) -> None:
    """H(s', a') moves by alpha err (h . h' p_a . p_a' + [a = a'])."""
    head = world.head()
    here, there = world.APART[0], unit(np.cos(angle) * world.APART[0] + np.sin(angle) * world.APART[1])
    head.learn(here, token, label, weight)
    p = head._p.double().numpy()
    wanted = head.alpha * weight * label * (np.cos(angle) * p[token] @ p[other] + (token == other))
    assert head.value(there, other) == pytest.approx(wanted, abs=2e-6 * (1 + abs(label)))
    rated = head.snapshot().rate(torch.from_numpy(there)[None])[0, other]
    assert float(rated) == pytest.approx(wanted, abs=2e-6 * (1 + abs(label)))


def test_a_state_comes_back_bit_for_bit(tmp_path: Any) -> None:
    old = taught()
    for new in (world.head(), world.head()):
        new.load_state_dict(old.state_dict())
        for one in (old, new):
            one.learn(unit(RAW[9]), 7, -1.0)
        assert np.array_equal(old.w, new.w)
        assert np.array_equal(old.b, new.b)
        assert old.learnt == new.learnt
    kept = old.state_dict()
    old.learn(unit(RAW[9]), 7, -1.0)
    assert not np.array_equal(kept["w"], old.w)
    save_head(old, tmp_path / "h")
    again = world.head()
    load_head(again, tmp_path / "h")
    assert np.array_equal(again.rate(unit(RAW[3])), old.rate(unit(RAW[3])))
    assert again.learnt == old.learnt


def test_half_precision_is_the_same_model_and_other_embeddings_are_another() -> None:
    halved = torch.from_numpy(world.EMBEDDINGS).bfloat16().float().numpy()
    assert fingerprint_of(halved) == fingerprint_of(world.EMBEDDINGS)
    moved = world.EMBEDDINGS.copy()
    moved[3, 2] *= 1.01
    assert fingerprint_of(moved) != fingerprint_of(world.EMBEDDINGS)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"embeddings": world.EMBEDDINGS[:10]}, r"another model, of 20 tokens and width 8 where .* has 10"),
        ({"embeddings": world.EMBEDDINGS * 2}, r"another model, whose token embeddings have the SHA-256 \w+"),
        ({"rank": 5}, r"with rank 6, but rank is 5 here; set rank: 6\.$"),
        ({"seed": 9}, r"with seed 1, but seed is 9 here; set seed: 1\.$"),
    ],
)  # fmt: skip
def test_a_head_for_another_model_is_refused_in_one_sentence(
    other: dict[str, Any], message: str, tmp_path: Any
) -> None:
    here = taught(**other) if other.get("embeddings") is None else world.head(**other)
    before = here.state_dict()
    with pytest.raises(UserError, match=r"^The saved head was learnt .*" + message):
        here.load_state_dict(taught().state_dict())
    save_head(taught(), tmp_path / "mine")
    with pytest.raises(UserError, match=r"^The head .*mine was learnt .*" + message):
        load_head(here, tmp_path / "mine")
    assert np.array_equal(before["w"], here.w)


def test_a_folder_that_holds_no_head_is_refused(tmp_path: Any) -> None:
    from textrl import checkpoint

    with pytest.raises(
        UserError, match=r"There is no head of tamer_text in .*nowhere.*; give the folder of one"
    ):
        load_head(world.head(), tmp_path / "nowhere")
    checkpoint.save(tmp_path / "other", config={}, tensors={"x": {"y": torch.zeros(1)}}, state={})
    with pytest.raises(UserError, match=r"other holds no head of tamer_text; give one that save_head wrote"):
        load_head(world.head(), tmp_path / "other")
    save_head(taught(), tmp_path / "mine")
    file = tmp_path / "mine" / "head.safetensors"
    file.write_bytes(file.read_bytes()[:-8] + b"12345678")
    with pytest.raises(UserError, match=r"head of tamer_text .*mine is damaged: .*; copy it again"):
        load_head(world.head(), tmp_path / "mine")
