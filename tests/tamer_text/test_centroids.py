"""Soft assignment to centroids, and the eligibility module on it."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.advice.betas import Eligibility, EligibilitySettings
from textrl.errors import UserError
from textrl.features import Features
from textrl.features.centroids import LEAST_SHARE, Centroids, sharpness
from textrl.models.loading import load_causal_lm
from textrl.rewards import join_tensors, split_tensors

RNG = np.random.default_rng(0)
#: Five directions in twelve dimensions, and forty states around each.
DIRECTIONS = np.linalg.qr(RNG.standard_normal((12, 12)))[0][:5]
PLANTED = np.concatenate([4.0 * one + 0.5 * RNG.standard_normal((40, 12)) for one in DIRECTIONS])


def brute_force(states: Any, centroids: Centroids) -> Any:
    """Shares number by number: softmax of the cosines, without what is below LEAST_SHARE of the largest."""
    rows = []
    for state in states:
        length = math.sqrt(sum(x * x for x in state))
        cosines = [
            sum(x * c for x, c in zip(state, one, strict=True)) / length for one in centroids.centroids
        ]
        shares = [math.exp((cosine - max(cosines)) / centroids.tau) for cosine in cosines]
        shares = [share if share >= LEAST_SHARE * max(shares) else 0.0 for share in shares]
        rows.append([share / sum(shares) for share in shares])
    return np.array(rows)


@functools.cache
def written() -> Any:
    """Hidden states of the built-in tiny model before tokens that it wrote on five prompts, (5, 64, D)."""
    model, tokenizer = load_causal_lm("tiny-gpt2")
    prompts = ("The film begins", "What I remember best", "Dear neighbour,", "I hated", "It was the")
    states = []
    for seed, prompt in enumerate(prompts):
        ids = torch.tensor([tokenizer(prompt)["input_ids"]] * 4)
        first = ids.shape[1]
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for _ in range(16):
                drawn = torch.multinomial(model(ids).logits[:, -1].softmax(-1), 1, generator=generator)
                ids = torch.cat([ids, drawn], dim=1)
            hidden = model.base_model(ids).last_hidden_state[:, first - 1 : -1]
        states.append(hidden.reshape(-1, hidden.shape[-1]))
    return torch.stack(states).numpy()


def test_planted_directions_are_found() -> None:
    found = Centroids.fit(PLANTED, 5, 0)
    assert isinstance(found, Features)
    cosines = DIRECTIONS @ found.centroids.T
    assert cosines.max(axis=1) == pytest.approx(np.ones(5), abs=0.02)
    assert sorted(cosines.argmax(axis=1)) == [0, 1, 2, 3, 4]
    assert np.linalg.norm(found.centroids, axis=1) == pytest.approx(np.ones(5), abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    k=st.integers(1, 9), seed=st.integers(0, 50), tau=st.one_of(st.none(), st.floats(0.01, 1.0)),
    scale=st.floats(1e-3, 1e3),
)  # fmt: skip
def test_shares_are_the_formula_sum_to_1_and_know_no_length(
    k: int, seed: int, tau: float | None, scale: float
) -> None:
    features = Centroids.fit(PLANTED, k, seed, tau)
    states = np.random.default_rng(seed).standard_normal((6, 12)) * scale
    shares = features.batch(states)
    assert shares.shape == (6, features.size) == (6, k)
    assert features.unit_interval
    assert features.constant == 0
    assert (shares >= 0).all()
    assert (shares <= 1).all()
    assert shares.sum(axis=1) == pytest.approx(np.ones(6), abs=1e-12)
    np.testing.assert_allclose(shares, brute_force(states, features), atol=1e-9)
    np.testing.assert_allclose([features(state) for state in states], shares, atol=1e-12)


def test_the_measured_temperature_leaves_a_state_to_one_or_two_centroids() -> None:
    states = written().reshape(-1, written().shape[-1])
    features = Centroids.fit(states, 64, 0)
    units = states.astype(np.float64) / np.linalg.norm(states, axis=1, keepdims=True).astype(np.float64)
    assert features.tau == pytest.approx(sharpness(units, features.centroids), rel=1e-6)
    shares = np.sort(features.batch(states), axis=1)
    # The third nearest has no share in three quarters of the states; far ones have none at all.
    assert (shares[:, -3] == 0).mean() == pytest.approx(0.75, abs=0.01)
    assert (shares[:, :32] < 1e-3).all()


def test_contexts_whose_centroids_were_never_active_have_beta_0() -> None:
    """Real hidden states: a person trains while one text is read, ten times over."""
    texts = written()
    states, trained = texts.reshape(-1, texts.shape[-1]), texts[0][:16]
    features = Centroids.fit(states, 64, 0)

    def taught(of: Centroids) -> Eligibility:
        module = Eligibility(of, EligibilitySettings(), scale=2.0, n_actions=None)
        for state in np.tile(trained, (10, 1)):
            module.step(state, 0, training=True)
            assert 0 <= module.e.min() <= module.e.max() <= 1
        return module

    module, shares = taught(features), features.batch(states)
    betas = module.betas(states)[:, 0]
    active = features.batch(trained).max(axis=0) > 0
    on_active = shares[:, active].sum(axis=1)
    # A weight comes from active centroids alone, and without a share in them it is 0.
    assert (betas <= 2.0 * on_active + 1e-12).all()
    untouched = on_active == 0
    assert untouched.mean() > 0.1
    assert (betas[untouched] == 0).all()
    assert module.betas(trained).mean() > 1.9
    # Contexts whose nearest centroid was nobody's nearest while training are next to untouched; with a
    # softer assignment less so.
    others = ~np.isin(shares.argmax(axis=1), features.batch(trained).argmax(axis=1))
    assert others.mean() > 0.3
    assert betas[others].mean() < 0.1
    softer = taught(Centroids(features.centroids, 2 * features.tau)).betas(states)[:, 0]
    assert softer[others].mean() > 3 * betas[others].mean()


def test_shares_that_are_kept_would_add_up() -> None:
    """Why small shares are 0: with growth .2 and decay .9998 a share of .001 ends at full eligibility."""
    e = 0.0
    for _ in range(40_000):
        e = min(1.0, e + 0.2 * 0.001) * 0.9998
    assert e > 0.99
    features = Centroids(np.eye(3), tau=0.05)
    module = Eligibility(features, EligibilitySettings(), scale=1.0, n_actions=None)
    for _ in range(2_000):
        module.step(np.array([1.0, 0.6, 0.0]), 0, training=True)
    assert module.beta(np.array([0.0, 0.0, 1.0])) == 0.0
    assert module.beta(np.array([1.0, 0.0, 0.0])) == pytest.approx(1.0, abs=1e-3)


def test_the_state_comes_back_bit_for_bit() -> None:
    old = Centroids.fit(PLANTED, 4, 3)
    tensors, rest = split_tensors(old.state_dict())
    new = Centroids.from_state(join_tensors(tensors, rest))
    assert np.array_equal(new.centroids, old.centroids)
    assert (new.tau, new.size) == (old.tau, 4)
    assert np.array_equal(new.batch(PLANTED), old.batch(PLANTED))


def test_the_same_seed_finds_the_same_centroids() -> None:
    assert np.array_equal(Centroids.fit(PLANTED, 7, 1).centroids, Centroids.fit(PLANTED, 7, 1).centroids)


def test_fewer_directions_than_centroids_make_fewer() -> None:
    few = np.repeat(np.eye(4)[:3], 10, axis=0)
    few = np.concatenate([few, 5.0 * few, np.zeros((2, 4))])
    features = Centroids.fit(few, 8, 0, 0.1)
    assert features.size == 3
    assert features.batch(np.zeros((1, 4)))[0] == pytest.approx(np.full(3, 1 / 3))


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (np.zeros((0, 4)), "without hidden states; give at least one"),
        (np.zeros((3, 4)), "without hidden states; give at least one"),
        (np.full((3, 4), np.nan), "a hidden state is not finite; look at the model"),
    ],
)
def test_states_that_say_nothing_are_refused(states: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Centroids.fit(states, 2, 0)


def test_values_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tau is 0\.0; it must be above 0"):
        Centroids(np.eye(2), 0.0)
    with pytest.raises(ValueError, match="k is 0; there must be at least 1 centroid"):
        Centroids.fit(PLANTED, 0, 0)
