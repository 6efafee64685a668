"""The other losses in training; LoRA, encoders, ties, ratings, warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors
from trainers_kit import demonstrations, make_scorer, make_tokenizer, rankings, silent, spread
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from textrl.data.rankings import RankingGroup
from textrl.errors import UserError
from textrl.mdp.ranking import rao_kupper_loss
from textrl.reward_model import (
    RewardModelResult,
    RewardModelSettings,
    as_pairs,
    train_reward_model,
)
from textrl.reward_model.backbones import reward_backbone
from textrl.reward_model.scoring import score_examples
from textrl.sft import SFTExample

TOKENIZER = make_tokenizer()
TEXTS = ("is good", "is bad", "was very dull and not bright", "hated it", "liked the plot")


def train(
    model: PreTrainedModel, groups: list[RankingGroup], tokenizer: Any = TOKENIZER, **settings: Any
) -> tuple[RewardModelResult, list[dict[str, float]]]:
    figures: list[dict[str, float]] = []

    def log(step: int, metrics: Mapping[str, float]) -> None:
        figures.append(dict(metrics))

    held_out, demos = settings.pop("held_out", ()), settings.pop("demos", ())
    whole = RewardModelSettings(**{"lr": 1e-3, "batch_size": 4, **settings})
    return train_reward_model(model, tokenizer, groups, demos, whole, log=log, held_out=held_out), figures


def rated(count: int, seed: int = 0) -> list[RankingGroup]:
    """The kit's rankings with ratings: 3 + the kind words less the unkind ones."""
    return [
        RankingGroup(g.prompt, g.completions, g.ranks, ratings=tuple(3 - rank for rank in g.ranks))
        for g in rankings(count, seed=seed)
    ]


def scores_of(model: PreTrainedModel, tokenizer: Any = TOKENIZER) -> list[float]:
    examples = [SFTExample("the film", text) for text in TEXTS]
    return score_examples(model, tokenizer, examples, RewardModelSettings()).tolist()


@pytest.mark.parametrize("loss", ["bradley_terry", "rao_kupper", "regression", "best_of_k"])
def test_each_loss_learns_what_people_prefer(loss: str) -> None:
    result, figures = train(
        make_scorer("llama"), rated(80), loss=loss, held_out=rated(40, 5), epochs=4, lr=1e-2, batch_size=10
    )
    assert figures[0]["train/accuracy"] < 0.8
    assert result.val_accuracy > 0.8
    assert result.val_loss < figures[0]["train/loss"]


def test_regression_gives_the_ratings_scale_without_demonstrations() -> None:
    model = make_scorer("gpt2")
    groups = rated(80)
    result, _ = train(model, groups, loss="regression", epochs=4, lr=1e-2, batch_size=10)
    mean = [r for g in groups for r in g.ratings or ()]
    assert result.offset == pytest.approx(-sum(mean) / len(mean))
    texts = [SFTExample(g.prompt, completion) for g in groups for completion in g.completions]
    scores = score_examples(model, TOKENIZER, texts, RewardModelSettings())
    assert scores.mean() == pytest.approx(sum(mean) / len(mean), abs=0.3)
    good, bad = scores_of(model)[:2]
    assert good > 3 > bad


def test_a_head_that_was_fitted_to_ratings_goes_on_at_their_level() -> None:
    model, groups = make_scorer("llama"), rated(80)
    fitted, _ = train(model, groups, loss="regression", mode="linear", l2=(1e-3,))
    before = scores_of(model)
    result, figures = train(model, groups, loss="regression", lr=1e-9, batch_size=80)
    # The fit's loss, not that of scores that are all off by a constant.
    assert figures[0]["train/loss"] == pytest.approx(fitted.loss, rel=1e-3)
    assert result.offset == pytest.approx(model.config.textrl_reward_offset)
    assert scores_of(model) == pytest.approx(before, abs=1e-4)


def test_a_margin_widens_the_gap() -> None:
    pair = [RankingGroup("the film is", ("good", "bad"), (1, 2), margin=4.0)] * 8
    gaps = []
    for scale in (0.0, 1.0):
        model = make_scorer("llama")
        train(model, pair, loss="bradley_terry", margin_scale=scale, epochs=20, lr=1e-2)
        good, bad = scores_of_pair(model)
        gaps.append(good - bad)
    assert gaps[1] > gaps[0] + 1


def scores_of_pair(model: PreTrainedModel) -> tuple[float, float]:
    examples = [SFTExample("the film is", word) for word in ("good", "bad")]
    good, bad = score_examples(model, TOKENIZER, examples, RewardModelSettings()).tolist()
    return good, bad


class TestTies:
    GROUPS = (RankingGroup("the film", ("is good", "is bad", "was bad"), (1, 2, 2)),) * 4

    def test_the_first_loss_is_the_formula(self) -> None:
        model = make_scorer("llama")
        scores = torch.tensor([scores_of(model)[:3]])[:, [0, 1]]
        pair = [RankingGroup("the film", TEXTS[:2], (1, 1))]
        _, figures = train(model, pair, loss="rao_kupper", theta=2.0, max_steps=1)
        mask = torch.ones(1, 2, dtype=torch.bool)
        wanted = rao_kupper_loss(scores, torch.ones(1, 2), mask, torch.tensor(math.log(2.0)))
        assert figures[0]["train/loss"] == pytest.approx(wanted.item(), rel=1e-5)

    def test_theta_is_learned_and_saved_and_leaves_no_weight_behind(self, tmp_path: Path) -> None:
        model = make_scorer("llama")
        names = {name for name, _ in model.named_parameters()}
        # Only ties: theta has to grow, by about theta_lr a step.
        tied = [RankingGroup("the film", TEXTS[:2], (1, 1))] * 8
        result, figures = train(
            model, tied, loss="rao_kupper", theta=1.5, theta_lr=0.1, final_lr_fraction=1.0
        )
        assert {name for name, _ in model.named_parameters()} == names
        assert result.theta is not None
        assert result.theta > 1.5
        assert figures[-1]["train/theta"] == pytest.approx(result.theta, rel=1e-6)
        # softplus^-1(log theta) moves by theta_lr a step of Adam while the gradient keeps its sign.
        moved = [math.log(math.expm1(math.log(theta))) for theta in (1.5, result.theta)]
        assert moved[1] - moved[0] == pytest.approx(0.2, rel=1e-2)
        model.save_pretrained(tmp_path)
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
        assert loaded.config.textrl_tie_theta == result.theta

    def test_a_fixed_theta_stays(self) -> None:
        result, figures = train(
            make_scorer("gpt2"), list(self.GROUPS), loss="rao_kupper", theta=3.0, learn_theta=False
        )
        assert result.theta == pytest.approx(3.0)
        assert "train/theta" not in figures[0]


class TestLora:
    @pytest.mark.parametrize("kind", ["gpt2", "llama"])
    def test_adapters_are_merged_and_the_rest_stays(self, kind: str, tmp_path: Path) -> None:
        pytest.importorskip("peft")
        model, before = make_scorer(kind), make_scorer(kind)
        result, _ = train(model, rankings(20), mode="lora", lora_rank=2, lr=1e-2, demos=demonstrations(4))
        changed = {
            name
            for (name, new), old in zip(model.named_parameters(), before.parameters(), strict=True)
            if not torch.equal(new, old)
        }
        matrices = {n for n, p in before.named_parameters() if p.ndim == 2 and ("layers." in n or ".h." in n)}
        assert changed == matrices | {"score.weight"}
        model.save_pretrained(tmp_path)
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
        assert scores_of(loaded) == pytest.approx(scores_of(model), abs=1e-5)
        assert result.steps == 5

    def test_only_the_top_blocks_get_adapters(self) -> None:
        pytest.importorskip("peft")
        model, before = make_scorer("llama"), make_scorer("llama")
        train(model, rankings(8), mode="lora", lora_rank=2, lr=1e-2, first_trainable=1)
        for (name, new), old in zip(model.named_parameters(), before.parameters(), strict=True):
            if "layers.0." in name or "embed" in name:
                assert torch.equal(new, old), name


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with a language-model head, as one finds them, and a tokenizer with [CLS] and [SEP]."""
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]"})
    tokenizer.backend_tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", tokenizer.sep_token_id), ("[CLS]", tokenizer.cls_token_id)
    )
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=40, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    spread(BertForMaskedLM(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class TestEncoder:
    @pytest.mark.parametrize("settings", [{"mode": "full"}, {"mode": "linear", "l2": (0.01,)}])
    def test_transformers_alone_gives_the_same_scores(
        self, bert: Path, tmp_path: Path, settings: dict[str, Any]
    ) -> None:
        model, tokenizer = reward_backbone(str(bert))
        assert isinstance(model, BertForSequenceClassification)
        train(model, rankings(30), tokenizer, lr=1e-2, demos=demonstrations(5), **settings)
        model.save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
        theirs = PreTrainedTokenizerFast.from_pretrained(tmp_path)
        with torch.no_grad():
            batch = theirs([f"the film {text}" for text in TEXTS], padding=True, return_tensors="pt")
            batch.pop("token_type_ids", None)
            wanted = loaded(**batch).logits[:, 0] - loaded.config.textrl_reward_offset
        examples = [SFTExample("the film ", text) for text in TEXTS]
        ours = score_examples(model, tokenizer, examples, RewardModelSettings())
        assert ours.tolist() == pytest.approx(wanted.tolist(), abs=1e-5)
        assert ours.std() > 1e-3

    def test_dropout_is_off(self, bert: Path) -> None:
        # BERT's own dropout of 0.1 would make two trainings from one start differ at once.
        losses = []
        for _ in range(2):
            model, tokenizer = reward_backbone(str(bert))
            torch.nn.init.normal_(model.classifier.weight, generator=torch.Generator().manual_seed(2))
            losses.append([row["train/loss"] for row in train(model, rankings(12), tokenizer)[1]])
        assert losses[0] == losses[1]

    def test_it_starts_at_zero_and_keeps_fewer_layers(self, bert: Path) -> None:
        model, tokenizer = reward_backbone(str(bert), layers=1)
        assert model.config.num_hidden_layers == 1
        assert scores_of(model, tokenizer) == [0.0] * len(TEXTS)

    def test_long_texts_lose_their_end_and_long_prompts_are_refused(self, bert: Path) -> None:
        model, tokenizer = reward_backbone(str(bert))
        settings = RewardModelSettings(max_tokens=6)
        long = [
            SFTExample("the film ", "is good and bright and"),
            SFTExample("the film ", "is good and dull"),
        ]
        torch.nn.init.normal_(model.classifier.weight)
        # [CLS] the film is good [SEP] is what both come to.
        first, second = score_examples(model, tokenizer, long, settings).tolist()
        assert first == second
        wider = score_examples(model, tokenizer, long, RewardModelSettings(max_tokens=8)).tolist()
        assert wider[0] != wider[1]
        with pytest.raises(UserError, match="Text 1 has a prompt of 7 tokens"):
            score_examples(model, tokenizer, [SFTExample("the film is very good", "x")], settings)
        with pytest.raises(UserError, match="empty completion"):
            score_examples(model, tokenizer, [SFTExample("the film", "")], settings)

    def test_frozen_blocks_cannot_be_cached(self, bert: Path) -> None:
        model, tokenizer = reward_backbone(str(bert))
        with pytest.raises(UserError, match="is an encoder"):
            train(model, rankings(4), tokenizer, cache_frozen=True, first_trainable=1)


def test_a_tokenizer_that_pads_with_eos_is_warned_of() -> None:
    tokenizer, model = make_tokenizer(), make_scorer("llama")
    tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.eos_token_id
    with pytest.warns(UserWarning, match="pads with its EOS token '<eos>'.*one token early"):
        train(model, rankings(4), tokenizer)
    # Ours reads the last token all the same.
    plain = make_scorer("llama")
    train(plain, rankings(4))
    assert scores_of(model, tokenizer) == pytest.approx(scores_of(plain), abs=1e-5)


def test_pairs_of_a_group_can_stand_alone() -> None:
    group = RankingGroup("the film", ("a", "b", "c"), (1, 2, 2), "ann", ratings=(3, 1, 1))
    pairs = as_pairs([group, RankingGroup("x", ("a", "b"), (2, 1), margin=0.5)])
    assert [(pair.completions, pair.ranks) for pair in pairs] == [
        (("a", "b"), (1, 2)),
        (("a", "c"), (1, 2)),
        (("a", "b"), (2, 1)),
    ]
    assert pairs[0].annotator == "ann"
    assert pairs[2].margin == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"theta": 0.5}, "theta is 0.5"),
        ({"loss": "rao_kupper", "theta": 1.0}, "ties teach nothing"),
        ({"l2": ()}, "one or more penalties"),
        ({"l2": (0.0,)}, "one or more penalties"),
        ({"lora_rank": 0}, "lora_rank is 0"),
        ({"margin_scale": -1.0}, "margin_scale"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RewardModelSettings(**settings)


def test_data_that_a_loss_cannot_read_is_refused() -> None:
    for loss, message in (("regression", "has ratings"), ("bradley_terry", "margin or ratings")):
        with pytest.raises(UserError, match=message):
            train(make_scorer("llama"), rankings(4), loss=loss)
    with pytest.raises(UserError, match="held-out group has ratings"):
        train(
            make_scorer("llama"), rated(4), loss="regression", patience=1, eval_every=1, held_out=rankings(2)
        )
    with pytest.raises(UserError, match="ratings; give one rating each"):
        RankingGroup("", ("a", "b"), (1, 2), ratings=(1.0,))


def test_a_single_rated_text_can_be_learned_from() -> None:
    groups = [RankingGroup("the film", (text,), (0.0,), ratings=(2.0,)) for text in TEXTS]
    result = train_reward_model(
        make_scorer("llama"), TOKENIZER, groups, (), RewardModelSettings(loss="regression"), log=silent
    )
    assert result.offset == -2.0
