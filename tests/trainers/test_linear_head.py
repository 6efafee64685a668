"""The head on frozen features against scikit-learn, and against the network that it is written into."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from trainers_kit import demonstrations, make_scorer, make_tokenizer, rankings, silent

from textrl.batching import Row
from textrl.data.rankings import RankingGroup
from textrl.errors import UserError
from textrl.reward_model import RewardModelSettings, train_reward_model
from textrl.reward_model.data import Group
from textrl.reward_model.linear import LinearFit, fit_linear
from textrl.reward_model.objective import Objective
from textrl.reward_model.scoring import score_examples
from textrl.sft import SFTExample

WIDTH = 6
GENERATOR = np.random.default_rng(0)
#: Features of 60 rows, on scales from 0.1 to 100, one that never varies, and what people think of them.
VALUES = GENERATOR.normal(size=(60, WIDTH)) * np.array([0.1, 1, 10, 100, 1, 0]) + 3
TASTE = VALUES[:, 0] * 10 - VALUES[:, 2] * 0.1 + GENERATOR.normal(size=60)
FEATURES = {(i,): torch.tensor(row) for i, row in enumerate(VALUES)}
SPREAD = np.where(VALUES.std(0) > 0, VALUES.std(0), np.inf)


def groups(k: int, start: int = 0, stop: int = 60) -> list[Group]:
    return [
        Group(
            tuple(Row((i,), 1) for i in range(first, first + k)),
            tuple(-round(float(TASTE[i])) for i in range(first, first + k)),
            ratings=tuple(float(TASTE[i]) for i in range(first, first + k)),
        )
        for first in range(start, stop, k)
    ]


def fit(
    loss: Any,
    train: list[Group],
    held_out: list[Group] | None = None,
    l2: tuple[float, ...] = (0.1,),
    **more: Any,
) -> LinearFit:
    settings = RewardModelSettings(mode="linear", loss=loss, l2=l2, **more)
    return fit_linear(FEATURES, train, held_out or [], Objective(settings, train), settings, log=silent)


@pytest.mark.parametrize("l2", [0.003, 0.3])
def test_regression_is_ridge(l2: float) -> None:
    fitted = fit("regression", groups(4), l2=(l2,))
    # Ours: mean error^2 + l2/2 |w|^2; theirs: sum of error^2 + alpha |w|^2.
    scaled = (VALUES - VALUES.mean(0)) / SPREAD
    ridge = Ridge(alpha=60 * l2 / 2, tol=1e-12).fit(scaled, TASTE)
    predicted = VALUES @ fitted.weight.numpy() + fitted.bias + TASTE.mean()
    np.testing.assert_allclose(predicted, ridge.predict(scaled), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("l2", [0.01, 1.0])
def test_pairs_are_logistic_regression_on_differences(l2: float) -> None:
    own = [group for group in groups(2) if group.decided]
    fitted = fit("kwise", own, l2=(l2,))
    rows = [[row.ids[0] for row in group.rows] for group in own]
    signs = np.array([1 if group.ranks[0] < group.ranks[1] else -1 for group in own])
    used = VALUES[sorted(i for pair in rows for i in pair)]
    spread = np.where(used.std(0) > 0, used.std(0), np.inf)
    gaps = np.array([VALUES[i] - VALUES[j] for i, j in rows]) / spread
    # Ours: mean loss + l2/2 |w|^2; theirs: C * sum of losses + 1/2 |w|^2.
    theirs = LogisticRegression(C=1 / (len(own) * l2), fit_intercept=False, tol=1e-12, max_iter=10_000)
    theirs.fit(gaps, signs)
    np.testing.assert_allclose(fitted.weight.numpy() * np.where(np.isinf(spread), 0, spread),
                               theirs.coef_[0], rtol=1e-5, atol=1e-8)  # fmt: skip


@pytest.mark.parametrize("loss", ["kwise", "bradley_terry", "rao_kupper", "best_of_k", "regression"])
def test_no_step_from_the_optimum_lowers_the_loss(loss: str) -> None:
    """Convex losses: where every small step is uphill, this is the optimum."""
    own = groups(5)
    fitted = fit(loss, own, l2=(0.05,))
    settings = RewardModelSettings(mode="linear", loss=loss, l2=(0.05,))  # type: ignore[arg-type]
    objective = Objective(settings, own)
    labels = objective.labels(own, torch.device("cpu"), torch.float64)
    table = torch.stack([torch.stack([FEATURES[row.ids] for row in group.rows]) for group in own])
    log_theta = None if fitted.log_theta is None else torch.tensor(fitted.log_theta, dtype=torch.float64)

    def total(weight: torch.Tensor, theta: torch.Tensor | None) -> float:
        # Features are centred, so a step of a weight moves the bias too.
        bias = fitted.bias - float((weight - fitted.weight) @ torch.tensor(VALUES.mean(0)))
        losses = objective(table @ weight + bias, labels, theta)
        scaled = torch.where(torch.tensor(np.isinf(SPREAD)), 0.0, weight * torch.tensor(SPREAD))
        return float(losses.mean() + 0.05 / 2 * scaled.square().sum())

    best = total(fitted.weight, log_theta)
    for feature, sign in itertools.product(range(WIDTH - 1), (-1, 1)):
        step = torch.zeros(WIDTH, dtype=torch.float64)
        step[feature] = sign * 1e-2 / SPREAD[feature]
        assert total(fitted.weight + step, log_theta) > best
    if log_theta is not None:
        assert min(total(fitted.weight, log_theta + sign * 1e-2) for sign in (-1, 1)) > best


def test_the_held_out_loss_chooses_the_penalty() -> None:
    train, held_out = groups(3, 0, 30), groups(3, 30, 60)
    losses = {
        l2: fit("kwise", train, held_out, l2=(l2,)).figures["eval/loss"] for l2 in (1e-4, 1e-2, 1.0, 100.0)
    }
    chosen = fit("kwise", train, held_out, l2=tuple(losses))
    assert chosen.l2 == min(losses, key=lambda l2: losses[l2])
    assert chosen.figures["eval/loss"] == pytest.approx(min(losses.values()), rel=1e-6)
    with pytest.raises(UserError, match="chooses among the penalties"):
        fit("kwise", train, l2=(0.1, 1.0))


def test_ties_have_a_width() -> None:
    fitted = fit("rao_kupper", groups(4), l2=(0.1,), theta=1.2)
    assert fitted.log_theta is not None
    assert fitted.log_theta > 0
    assert fit("rao_kupper", groups(4), theta=1.2, learn_theta=False).log_theta == math.log(1.2)


class TestInAModel:
    TOKENIZER = make_tokenizer()

    def train(self, loss: str, folder: Path | None = None, kind: str = "llama") -> tuple[Any, Any, list[Any]]:
        model, logged = make_scorer(kind), []

        def log(step: int, metrics: Mapping[str, float]) -> None:
            logged.append(dict(metrics))

        def rated(count: int, seed: int) -> list[Any]:
            return [
                RankingGroup(g.prompt, g.completions, g.ranks, ratings=tuple(2 - rank for rank in g.ranks))
                for g in rankings(count, seed=seed)
            ]

        settings = RewardModelSettings(mode="linear", loss=loss)  # type: ignore[arg-type]
        demos = demonstrations(6) if loss == "kwise" else ()
        result = train_reward_model(
            model, self.TOKENIZER, rated(60, 0), demos, settings,
            log=log, held_out=rated(30, 1), checkpoint_dir=folder,
        )  # fmt: skip
        return model, result, logged

    @pytest.mark.parametrize("kind", ["gpt2", "llama"])
    def test_the_networks_scores_are_the_fits(self, kind: str) -> None:
        before = make_scorer(kind)
        model, result, logged = self.train("kwise", kind=kind)
        for (name, new), old in zip(model.named_parameters(), before.parameters(), strict=True):
            assert torch.equal(new, old) == (name != "score.weight"), name
        held_out = [g for g in rankings(30, seed=1) if len(set(g.ranks)) > 1]
        settings = RewardModelSettings()
        right = total = 0.0
        for group in held_out:
            texts = [SFTExample(group.prompt, text) for text in group.completions]
            scores = score_examples(model, self.TOKENIZER, texts, settings)
            for i, j in itertools.permutations(range(len(texts)), 2):
                if group.ranks[i] < group.ranks[j]:
                    right += (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
                    total += 1
        assert result.val_pairs == total
        assert result.val_accuracy == pytest.approx(right / total)
        assert result.val_accuracy > 0.6  # of a network that was never trained
        assert result.l2 in RewardModelSettings().l2
        assert [row["train/progress"] for row in logged] == sorted(row["train/progress"] for row in logged)

    def test_demonstrations_score_zero(self) -> None:
        model, _, _ = self.train("kwise")
        demos = score_examples(model, self.TOKENIZER, demonstrations(6), RewardModelSettings())
        assert demos.mean() == pytest.approx(0, abs=1e-5)

    def test_regression_is_on_the_ratings_scale(self) -> None:
        model, result, _ = self.train("regression")
        texts = [SFTExample(g.prompt, c) for g in rankings(60) for c in g.completions]
        scores = score_examples(model, self.TOKENIZER, texts, RewardModelSettings())
        # An intercept makes the mean prediction the mean rating.
        mean = np.mean([2 - rank for g in rankings(60) for rank in g.ranks])
        assert scores.mean() == pytest.approx(mean, abs=0.1)
        assert result.val_loss < 2.5

    def test_features_are_computed_once_and_kept_for_a_resume(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, _, _ = self.train("kwise", tmp_path)
        files = list(tmp_path.glob("features-*.safetensors"))
        assert len(files) == 1
        monkeypatch.setattr("textrl.reward_model.linear.pooled", None)  # nothing is left to compute
        second, _, _ = self.train("kwise", tmp_path)
        assert torch.equal(first.score.weight, second.score.weight)
        assert list(tmp_path.iterdir()) == files
