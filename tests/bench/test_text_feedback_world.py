"""The worlds of made words: the optimum is the one that enumeration gives, and measurements are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from textrl.bench.text_feedback_trial import fitted_values, h_quality, prior_texts, word_counts
from textrl.bench.text_feedback_world import Optimum, World, WorldSettings, made_words
from textrl.evaluation import optimum as enumerated
from textrl.tamer.text.head import TokenHead

SMALL = WorldSettings(words=5, horizon=3, prompts=2, beta=0.7)


@pytest.fixture(scope="module")
def world() -> World:
    return World.make(SMALL, 3)


def test_dynamic_programming_gives_the_optimum_of_enumeration(world: World) -> None:
    every = enumerated.Optimum.of(world.task([world.score_source()]), world.prior, SMALL.beta)
    found = world.optimum()
    best = every.standing_of(every.log_best)
    plain = every.standing_of(every.log_ref)
    assert found.best_objective == pytest.approx(every.best_objective, rel=1e-5)
    assert found.best_score == pytest.approx(best.reward, rel=1e-5)
    assert found.best_kl == pytest.approx(best.kl, rel=1e-5)
    assert found.prior_score == pytest.approx(plain.objective, abs=1e-5)
    assert found.closed(found.best_objective) == 1.0
    assert found.closed(found.prior_score) == 0.0


def test_the_optimum_of_a_world_by_hand() -> None:
    """One word to write, two to choose from, values 1 and 0, each as likely: Z = (e + 1) / 2."""
    found = Optimum.of(np.full((1, 2, 2), 0.5), np.array([1.0, 0.0]), 1.0, 2)
    assert found.prior_score == 0.5
    assert found.best_objective == pytest.approx(np.log((np.e + 1) / 2))
    assert found.best_score == pytest.approx(np.e / (np.e + 1))
    assert found.best_kl == pytest.approx(found.best_score - found.best_objective)


def test_the_prior_looks_at_the_place_and_the_word_before_alone(world: World) -> None:
    ids = torch.tensor([[0, 1, 2, 4], [1, 3, 2, 4], [0, 0, 2, 4]])
    with torch.no_grad():
        p = world.prior(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.double().softmax(-1)
    table = torch.from_numpy(world.transitions())
    for row in range(3):
        torch.testing.assert_close(p[row, 2], table[2, 2], atol=1e-6, rtol=0)
        torch.testing.assert_close(p[row, 1], table[1, ids[row, 1]], atol=1e-6, rtol=0)
    assert float((table[0, 0] - table[0, 1]).abs().max()) > 0.01, "contexts matter"


def test_texts_of_the_prior_are_drawn_from_it(world: World) -> None:
    ids = prior_texts(world, 20_000, np.random.default_rng(0))
    assert ids.shape == (20_000, 4)
    assert set(ids[:, 0]) == {0, 1}
    scores = world.values[ids[:, 1:]].sum(1)
    error = scores.std() / np.sqrt(len(scores))
    assert abs(scores.mean() - world.optimum().prior_score) < 4 * error


def test_a_reward_model_of_many_pairs_is_nearly_the_truth_and_one_of_few_is_not() -> None:
    world = World.make(WorldSettings(words=12, horizon=6), 1)
    counts = word_counts(world, 2_000, np.random.default_rng(5))
    truth = counts @ world.values
    many, few = (np.corrcoef(truth, counts @ fitted_values(world, pairs))[0, 1] for pairs in (3_000, 25))
    assert many > 0.98
    assert few < many


def test_lexicons_have_a_third_of_each_kind_and_differ_by_seed() -> None:
    first, second = (World.make(WorldSettings(words=30), seed) for seed in (0, 1))
    for one in (first, second):
        assert sum(value > 0 for value in one.lexicon.values()) == 10
        assert sum(value < 0 for value in one.lexicon.values()) == 10
    assert first.lexicon != second.lexicon
    assert first.tokenizer.decode([0, 7]) == f"{first.words[0]} {first.words[7]}"
    assert len(set(made_words(200))) == 200


def test_what_h_knows_is_measured_on_every_word(world: World) -> None:
    def knows(values: Any) -> dict[str, float]:
        embeddings = world.prior.get_input_embeddings().weight.detach().numpy()
        head = TokenHead(embeddings, rank=8, alpha=0.1, seed=0)
        head.b[:] = values
        return h_quality(head.snapshot(), world)

    assert knows(0.0)["correlation"] == 0.0
    known = knows(world.values)
    assert known["correlation"] == pytest.approx(1.0)
    assert known["good"] == pytest.approx(world.values[world.values > 0].mean())
    assert knows(-world.values)["correlation"] == pytest.approx(-1.0)
