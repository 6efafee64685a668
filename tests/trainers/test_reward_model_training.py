"""Reward-model training against transformers' own scores and a loop over pairs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from trainers_kit import (
    assert_close,
    demonstrations,
    make_lm,
    make_scorer,
    make_tokenizer,
    rankings,
    silent,
    weights,
)
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from textrl.batching import Row, pad
from textrl.data.rankings import RankingGroup
from textrl.errors import UserError
from textrl.models.loading import blocks
from textrl.reward_model import RewardModelResult, RewardModelSettings, score_rows, train_reward_model
from textrl.sft import SFTExample, rows_of

ARCHITECTURES = pytest.mark.parametrize("kind", ["gpt2", "llama"])
TOKENIZER = make_tokenizer()


def train(
    kind: str, groups: list[RankingGroup], held_out: list[RankingGroup] | None = None, **settings: Any
) -> tuple[PreTrainedModel, RewardModelResult, list[dict[str, float]]]:
    model = make_scorer(kind)
    figures: list[dict[str, float]] = []

    def log(step: int, metrics: Mapping[str, float]) -> None:
        figures.append(dict(metrics))

    whole = RewardModelSettings(**{"lr": 1e-3, "batch_size": 4, **settings})
    result = train_reward_model(
        model, TOKENIZER, groups, demonstrations(5), whole, log=log, held_out=held_out or ()
    )
    return model, result, figures


def plain_score(model: PreTrainedModel, prompt: str, completion: str) -> torch.Tensor:
    """transformers' own score of one sequence without padding."""
    ids = TOKENIZER(prompt).input_ids + TOKENIZER(completion).input_ids + [TOKENIZER.eos_token_id]
    return model(input_ids=torch.tensor([ids])).logits[0, 0]


def plain_loss(model: PreTrainedModel, group: RankingGroup, divide: str = "all") -> torch.Tensor:
    scores = [plain_score(model, group.prompt, completion) for completion in group.completions]
    pairs = list(itertools.permutations(range(len(scores)), 2))
    decided = [(i, j) for i, j in pairs if group.ranks[i] < group.ranks[j]]
    total = sum((-torch.sigmoid(scores[i] - scores[j]).log() for i, j in decided), torch.zeros(()))
    return total / (len(pairs) / 2 if divide == "all" else len(decided))


@torch.no_grad()
def normalised(model: PreTrainedModel, result: RewardModelResult) -> list[float]:
    texts = ("is good", "is bad", "was very dull and not bright")
    return [plain_score(model, "the film", text).item() - result.offset for text in texts]


@ARCHITECTURES
@pytest.mark.parametrize("divide", ["all", "decided"])
def test_first_step_equals_a_loop_over_pairs(kind: str, divide: str) -> None:
    groups = [group for group in rankings(8) if len(set(group.ranks)) > 1][:4]
    assert any(len(set(g.ranks)) < len(g.ranks) for g in groups), "ties are wanted here"
    _, _, figures = train(kind, groups, divide=divide, max_steps=1)
    plain = make_scorer(kind)
    loss = torch.stack([plain_loss(plain, group, divide) for group in groups]).mean()
    loss.backward()
    norm = math.sqrt(sum(p.grad.double().pow(2).sum().item() for p in plain.parameters()))
    assert figures[0]["train/loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert figures[0]["train/grad_norm"] == pytest.approx(norm, rel=1e-5)


@ARCHITECTURES
def test_each_completion_goes_through_the_network_once(kind: str) -> None:
    groups = [RankingGroup("the film", ("is good", "is bad", "was", "was dull"), (1, 2, 3, 4))] * 3
    model = make_scorer(kind)
    rows: list[int] = []
    blocks(model)[0].register_forward_hook(lambda module, args, output: rows.append(output.shape[0]))
    train_reward_model(model, TOKENIZER, groups, (), RewardModelSettings(batch_size=3, epochs=2), log=silent)
    # 12 completions in each of two epochs; the 18 pairs would be 36 rows with two rows a pair.
    assert sum(rows) == 24


@ARCHITECTURES
@pytest.mark.parametrize("change", [{"micro_batch_tokens": 1}, {"micro_batch_tokens": 90}])
def test_micro_batches_do_not_change_the_result(kind: str, change: dict[str, Any]) -> None:
    model, result, figures = train(kind, rankings(16), epochs=2, dropout=0.2)
    other, other_result, others = train(kind, rankings(16), epochs=2, dropout=0.2, **change)
    for one, two in zip(figures, others, strict=True):
        assert one["train/loss"] == pytest.approx(two["train/loss"], rel=2e-6)
    assert_close(weights(model), weights(other), rtol=1e-5)
    assert normalised(model, result) == pytest.approx(normalised(other, other_result), abs=1e-5)


@ARCHITECTURES
def test_cached_frozen_blocks_do_not_change_the_result(kind: str) -> None:
    groups = rankings(10)
    model, result, figures = train(kind, groups, groups, epochs=3, first_trainable=1)
    cached, cached_result, cached_figures = train(
        kind, groups, groups, epochs=3, first_trainable=1, cache_frozen=True
    )
    for one, two in zip(figures, cached_figures, strict=True):
        assert one["train/loss"] == pytest.approx(two["train/loss"], rel=1e-5)
    assert_close(weights(model), weights(cached), rtol=1e-5)
    assert cached_result.val_accuracy == result.val_accuracy
    assert normalised(model, result) == pytest.approx(normalised(cached, cached_result), abs=1e-5)


def test_the_cache_runs_frozen_blocks_once_for_each_distinct_completion() -> None:
    groups = [RankingGroup("", ("good film", other), (1, 2)) for other in ("bad film", "dull")]
    model = make_scorer("llama")
    rows: list[int] = []
    blocks(model)[0].register_forward_hook(lambda module, args, output: rows.append(output.shape[0]))
    settings = RewardModelSettings(batch_size=1, epochs=5, first_trainable=1, cache_frozen=True)
    train_reward_model(model, TOKENIZER, groups, (), settings, log=silent)
    assert sum(rows) == 3


@ARCHITECTURES
def test_the_score_is_read_at_the_last_real_token_whatever_pads(kind: str) -> None:
    model = make_scorer(kind)
    eos = TOKENIZER.eos_token_id
    rows = [Row((5, 6, 7, eos), 1), Row((5, 6, 8, 9, 10, 4, eos), 1)]
    alone = [model(input_ids=torch.tensor([row.ids])).logits[0, 0] for row in rows]
    for pad_id in (eos, 0, 13):
        scores = score_rows(model, pad([[row] for row in rows], pad_id))
        torch.testing.assert_close(scores, torch.stack(alone), rtol=1e-5, atol=1e-6)


@ARCHITECTURES
def test_demonstrations_score_zero_after_the_offset(kind: str, tmp_path: Path) -> None:
    demos = demonstrations(7, seed=9)
    model = make_scorer(kind)
    result = train_reward_model(
        model, TOKENIZER, rankings(6), demos, RewardModelSettings(lr=1e-3), log=silent
    )
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert loaded.config.textrl_reward_offset == result.offset
    assert loaded.config.textrl_append_eos is True, "scorers of text end it as training did"
    with torch.no_grad():
        scores = [plain_score(loaded, d.prompt, d.completion) - result.offset for d in demos]
    assert abs(torch.stack(scores).mean().item()) < 1e-5
    assert torch.stack(scores).std() > 1e-3


def test_held_out_accuracy_counts_decided_pairs_and_reports_ties() -> None:
    held_out = [
        RankingGroup("the film is", ("good", "bad", "dull"), (1, 2, 2)),
        RankingGroup("I", ("liked it", "hated it"), (1, 1)),
    ]
    model, result, _ = train("llama", rankings(6), held_out)
    with torch.no_grad():
        good, bad, dull = (plain_score(model, "the film is", word) for word in ("good", "bad", "dull"))
        expected = plain_loss(model, held_out[0]).item()
    assert (result.val_pairs, result.val_ties) == (2, 2)
    assert result.val_accuracy == (float(good > bad) + float(good > dull)) / 2
    # The group that ties throughout has no loss to take part in the mean.
    assert result.val_loss == pytest.approx(expected, rel=1e-5)


def test_it_learns_what_people_prefer() -> None:
    _, result, figures = train("llama", rankings(200), rankings(40, seed=5), epochs=6, lr=1e-2, batch_size=20)
    assert figures[0]["train/accuracy"] < 0.8
    assert result.val_accuracy > 0.9


def test_early_stopping_keeps_the_best_weights() -> None:
    # What is held out contradicts what is trained, so the first evaluation is the best.
    up = [RankingGroup("the film is", ("good", "bad"), (1, 2))] * 8
    down = [RankingGroup("the film is", ("good", "bad"), (2, 1))]
    model, result, figures = train(
        "llama", up, down, epochs=10, batch_size=2, lr=1e-2, eval_every=2, patience=2
    )
    assert result.stopped_early
    assert (len(figures), result.steps) == (6, 2)
    losses = [row["eval/loss"] for row in figures if "eval/loss" in row]
    assert losses == sorted(losses)
    assert result.val_loss == losses[0]
    with torch.no_grad():
        assert plain_loss(model, down[0]).item() == pytest.approx(losses[0], rel=1e-5)


def test_groups_that_tie_throughout_are_skipped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    tied = [RankingGroup("I", ("liked it", "hated it"), (1, 1))]
    groups = [group for group in rankings(6) if len(set(group.ranks)) > 1]
    _, _, figures = train("llama", groups)
    _, _, others = train("llama", groups + tied)
    assert [f["train/loss"] for f in figures] == [f["train/loss"] for f in others]
    said = f"1 of {len(groups) + 1} groups tie throughout; 'kwise' learns nothing from them."
    assert [record.getMessage() for record in caplog.records] == [said]
    with pytest.raises(UserError, match="None of the 1 groups"):
        train("llama", tied)


def test_models_and_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(UserError, match="cannot be trained as a reward model"):
        train_reward_model(make_lm("llama"), TOKENIZER, rankings(3), (), RewardModelSettings(), log=silent)
    with pytest.raises(UserError, match="Group 1, completion 1 has a prompt"):
        train("llama", [RankingGroup("the film is very", ("good", "bad"), (1, 2))], max_tokens=4)
    with pytest.raises(UserError, match="no held-out group"):
        train("llama", rankings(4), patience=1, eval_every=1)
    with pytest.raises(ValueError, match="eval_every"):
        RewardModelSettings(patience=2)


def test_without_demonstrations_the_offset_is_zero() -> None:
    model = make_scorer("gpt2")
    result = train_reward_model(model, TOKENIZER, rankings(4), (), RewardModelSettings(), log=silent)
    assert result.offset == 0.0 == model.config.textrl_reward_offset
    assert math.isnan(result.val_loss)
    assert rows_of(model, TOKENIZER, [SFTExample("I", "liked it")], RewardModelSettings(), "Demonstration")
