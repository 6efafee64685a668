"""Supervised fine-tuning against transformers' own loss and a plain training loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from trainers_kit import assert_close, demonstrations, make_lm, make_tokenizer, silent, weights
from transformers import PreTrainedModel

import textrl.sft
from textrl.batching import Row, pad
from textrl.errors import UserError
from textrl.mdp.order import visit
from textrl.models.loading import freeze_below
from textrl.sft import SFTExample, SFTSettings, nll_sum, rows_of, train_sft
from textrl.training import TrainSettings, learning_rate, make_optimizer, progress

ARCHITECTURES = pytest.mark.parametrize("kind", ["gpt2", "llama"])
TOKENIZER = make_tokenizer()


def train(
    kind: str, examples: list[SFTExample], pretrain: tuple[str, ...] = (), **settings: Any
) -> tuple[PreTrainedModel, list[dict[str, float]]]:
    model = make_lm(kind)
    figures: list[dict[str, float]] = []

    def log(step: int, metrics: Mapping[str, float]) -> None:
        assert step == len(figures) + 1
        figures.append(dict(metrics))

    whole = SFTSettings(**{"lr": 1e-3, "batch_size": 8, "dropout": 0.0, **settings})
    train_sft(model, TOKENIZER, examples, whole, log=log, pretrain=pretrain)
    return model, figures


def reference_loss(model: PreTrainedModel, rows: list[Row]) -> torch.Tensor:
    """transformers' own loss, row by row without padding: the sum over rows."""
    total = torch.zeros(())
    for row in rows:
        ids = torch.tensor([row.ids])
        labels = ids.clone()
        labels[:, : row.first] = -100
        if row.targets:
            total = total + model(input_ids=ids, labels=labels).loss * row.targets
    return total


@ARCHITECTURES
def test_loss_and_gradient_equal_transformers_loss(kind: str) -> None:
    model = make_lm(kind)
    rows = rows_of(model, TOKENIZER, demonstrations(12), SFTSettings(), "Example")
    loss = nll_sum(model, pad([[row] for row in rows], TOKENIZER.pad_token_id))
    loss.backward()
    ours = {name: param.grad.clone() for name, param in model.named_parameters()}
    model.zero_grad()
    expected = reference_loss(model, rows)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    size = math.sqrt(sum(param.grad.norm().item() ** 2 for param in model.parameters()))
    for name, param in model.named_parameters():
        assert (param.grad - ours[name]).norm() <= 2e-6 * size, name


@ARCHITECTURES
def test_training_equals_a_plain_loop(kind: str) -> None:
    """AdamW, cosine and clipping written out again, with transformers' loss on one row at a time."""
    examples, steps, peak, clip = demonstrations(16), 6, 2e-3, 0.5
    model, figures = train(kind, examples, epochs=3, lr=peak, clip_norm=clip)
    plain = make_lm(kind)
    rows = rows_of(plain, TOKENIZER, examples, SFTSettings(), "Example")
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in plain.named_parameters()}
    for step in range(steps):
        batch = [rows[visit((0,), i, 16)] for i in range(8 * step, 8 * step + 8)]
        plain.zero_grad()
        loss = reference_loss(plain, batch) / sum(row.targets for row in batch)
        loss.backward()
        norm = math.sqrt(sum(p.grad.double().pow(2).sum().item() for p in plain.parameters()))
        rate = peak * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / (steps - 1))))
        assert figures[step]["train/loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert figures[step]["train/grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert figures[step]["train/learning_rate"] == pytest.approx(rate, rel=1e-12)
        with torch.no_grad():
            for name, param in plain.named_parameters():
                grad = param.grad * min(1.0, clip / (norm + 1e-6))
                first, second = moments[name]
                first.mul_(0.9).add_(grad, alpha=0.1)
                second.mul_(0.95).add_(grad**2, alpha=0.05)
                scale = first / (1 - 0.9 ** (step + 1))
                param -= rate * scale / ((second / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8)
    assert len(figures) == steps
    # Biases that start at 0 and have small gradients: Adam enlarges their rounding.
    assert_close(weights(plain), weights(model), rtol=3e-4)


@ARCHITECTURES
@pytest.mark.parametrize("change", [{"micro_batch_tokens": 1}, {"micro_batch_tokens": 40}, {"packing": True}])
def test_micro_batches_and_packing_do_not_change_the_result(kind: str, change: dict[str, Any]) -> None:
    """With dropout on: its noise belongs to the rows."""
    examples = demonstrations(24)
    model, figures = train(kind, examples, epochs=2, dropout=0.2)
    other, others = train(kind, examples, epochs=2, dropout=0.2, **change)
    for one, two in zip(figures, others, strict=True):
        assert one["train/loss"] == pytest.approx(two["train/loss"], rel=1e-6)
    assert_close(weights(model), weights(other), rtol=2e-6)


def test_the_order_of_rows_in_a_batch_does_not_change_the_result() -> None:
    examples = demonstrations(8)
    model, (figures,) = train("llama", examples, dropout=0.2)
    other, (others,) = train("llama", examples[::-1], dropout=0.2)
    assert figures["train/loss"] == pytest.approx(others["train/loss"], rel=1e-6)
    assert_close(weights(model), weights(other))


@ARCHITECTURES
def test_frozen_parts_have_no_graph_and_do_not_move(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[bool] = []
    real = textrl.sft.hidden_states

    def watched(model: PreTrainedModel, batch: Any) -> torch.Tensor:
        inputs: list[torch.Tensor] = []
        layers = model.base_model.h if kind == "gpt2" else model.base_model.layers
        hook = layers[1].register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
        hidden = real(model, batch)
        hook.remove()
        graphs.append(inputs[0].requires_grad)
        return hidden

    monkeypatch.setattr(textrl.sft, "hidden_states", watched)
    before = weights(make_lm(kind))
    model, _ = train(kind, demonstrations(8), first_trainable=1)
    assert graphs
    assert not any(graphs)
    after = weights(model)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all(".1." in name or "norm" in name or "ln_f" in name for name in moved)
    assert all(param.grad is None for param in model.parameters())


def test_logits_exist_for_counted_positions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = textrl.sft.token_logprobs

    def watched(hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(hidden.shape[0])
        return real(hidden, *args, **kwargs)

    monkeypatch.setattr(textrl.sft, "token_logprobs", watched)
    model = make_lm("llama")
    rows = rows_of(model, TOKENIZER, demonstrations(10), SFTSettings(), "Example")
    nll_sum(model, pad([[row] for row in rows], 0))
    assert seen == [sum(row.targets for row in rows)]


def test_pretraining_text_is_mixed_in_and_all_of_it_counts() -> None:
    examples = demonstrations(18)
    texts = ("the film was good and the plot was dull", "bad")
    settings = SFTSettings(batch_size=5, pretrain_fraction=0.1, max_tokens=6)
    model = make_lm("llama")
    text = textrl.sft._pretrain_rows(model, TOKENIZER, texts, settings)
    # Cut at six tokens; a text of one token predicts nothing.
    assert [(len(row.ids), row.first) for row in text] == [(6, 1), (3, 1)]
    rows = rows_of(model, TOKENIZER, examples, settings, "Example")
    batches = textrl.sft._Batches(rows, text, settings)
    assert batches.steps == 4  # 18 examples at 4.5 a batch
    steps = [batches.at(step) for step in range(4)]
    assert [sum(row in text for row in batch) for batch in steps] == [0, 1, 0, 1]
    assert sorted(row for batch in steps for row in batch if row not in text) == sorted(rows)


def test_every_example_is_seen_once_an_epoch_in_another_order() -> None:
    first = [visit((4,), i, 10) for i in range(10)]
    second = [visit((4,), i, 10) for i in range(10, 20)]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert first != [visit((5,), i, 10) for i in range(10)]


def test_schedule_by_hand() -> None:
    settings = TrainSettings(lr=1.0, warmup_steps=2)
    rates = [learning_rate(step, 7, settings) for step in range(7)]
    eighth = math.sqrt(0.125)  # cos(pi / 4) / 2
    after = [0.1 + 0.9 * (0.5 + part) for part in (0.5, eighth, 0.0, -eighth, -0.5)]
    assert rates == pytest.approx([1 / 3, 2 / 3, *after])
    assert learning_rate(0, 1, TrainSettings(lr=1.0)) == 1.0


def test_only_matrices_decay() -> None:
    model = make_lm("gpt2")
    optimizer = make_optimizer(model.parameters(), TrainSettings(weight_decay=0.1))
    for group in optimizer.param_groups:
        assert group["betas"] == (0.9, 0.95)
        assert {p.ndim >= 2 for p in group["params"]} == {group["weight_decay"] == 0.1}


def test_it_learns_and_reports_the_held_out_loss() -> None:
    model = make_lm("llama")
    examples = [SFTExample("the film is", "very good"), SFTExample("I", "liked it")] * 8
    settings = SFTSettings(lr=1e-2, batch_size=8, epochs=20)
    result = train_sft(model, TOKENIZER, examples, settings, log=silent, held_out=examples[:2])
    rows = rows_of(model, TOKENIZER, examples[:2], SFTSettings(), "Example")
    with torch.no_grad():
        expected = reference_loss(model, rows).item() / sum(row.targets for row in rows)
    assert result.val_loss == pytest.approx(expected, rel=1e-5)
    assert result.val_loss < 0.6  # from about log(22) = 3.1 nats a token
    assert result.steps == 40


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": math.nan}, "lr is nan"),
        ({"pretrain_fraction": 1.0}, "pretrain_fraction is 1.0"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"max_tokens": 1}, "max_tokens"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SFTSettings(**settings)


def test_data_that_cannot_work_is_refused() -> None:
    with pytest.raises(UserError, match="no examples"):
        train("llama", [])
    with pytest.raises(UserError, match="no pretraining text"):
        train("llama", demonstrations(2), pretrain_fraction=0.1)
    with pytest.raises(UserError, match="Example 2 has a prompt of 3 tokens"):
        train("llama", [SFTExample("the", "film"), SFTExample("the film is", "good")], max_tokens=3)
    model = make_lm("llama")
    with torch.no_grad():
        model.base_model.norm.weight.fill_(math.nan)
    with pytest.raises(UserError, match="The gradient of step 1 is nan"):
        train_sft(model, TOKENIZER, demonstrations(2), SFTSettings(), log=silent)


def test_a_model_that_scales_its_logits_is_refused() -> None:
    model = make_lm("llama")
    model.lm_head.register_forward_hook(lambda module, args, output: output / 2)
    with pytest.raises(UserError, match="scales or caps"):
        train_sft(model, TOKENIZER, demonstrations(2), SFTSettings(), log=silent)


def test_weights_of_low_precision_are_refused() -> None:
    model = make_lm("llama").to(torch.bfloat16)
    with pytest.raises(UserError, match=r"is torch\.bfloat16; load the model in float32"):
        train_sft(model, TOKENIZER, demonstrations(2), SFTSettings(precision="fp32"), log=silent)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")  # peft's
def test_lora_trains_its_own_weights_only() -> None:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(make_lm("llama"), config)
    before = weights(model)
    figures: list[float] = []
    settings = SFTSettings(lr=2e-2, batch_size=8, epochs=15, dropout=0.1)
    examples = [SFTExample("the film is", "very good"), SFTExample("I", "liked it")] * 4
    train_sft(model, TOKENIZER, examples, settings, log=lambda step, row: figures.append(row["train/loss"]))
    moved = {name for name, tensor in weights(model).items() if not torch.equal(tensor, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    assert figures[-1] < 0.7 * figures[0]


def test_the_progress_bar_shows_step_and_loss(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("sft") as log:
        log(3, {"train/loss": 1.25, "train/progress": 1.0})
    assert "sft step 3 loss 1.250" in capsys.readouterr().out


def test_freezing_everything_is_refused() -> None:
    model = make_lm("llama")
    freeze_below(model, 2)
    model.base_model.norm.requires_grad_(False)
    with pytest.raises(UserError, match="no trainable parameter"):
        train_sft(model, TOKENIZER, demonstrations(2), SFTSettings(dropout=0.0), log=silent)
