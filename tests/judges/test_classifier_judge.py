"""`classifier`: the numbers of transformers and scikit-learn, whatever pads, and labels by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from judge_world import episodes, judge, rate
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from textrl_judges.conformance import tiny_classifier
from textrl_judges.tfidf import TfidfModel
from textrl_reward_model.conformance import tiny_scorer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from textrl.errors import UserError
from textrl.testing import check_reward
from textrl.testing.batches import EOS, PAD

TEXTS = ["good film", "the plot was not very bad", "", "dull", "happy happy happy fun", "good film"]
GOOD = ["a wonderful film", "wonderful and warm", "so warm a story", "I was happy", "happy and wonderful"]
BAD = ["a dreadful film", "dreadful and cold", "so cold a story", "I was bored", "bored and dreadful"]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("three") / "model", labels=("bad", "fair", "good"))


def logits_by_hand(folder: Path, text: str) -> torch.Tensor:
    """One text alone, by transformers: no padding, no batch."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**tokenizer(text, return_tensors="pt")).logits[0].double()


def test_the_three_values_are_those_of_transformers(three: Path) -> None:
    for value, wanted in {
        "probability": lambda x: x.softmax(0)[2],
        "log_odds": lambda x: x[2] - x[:2].logsumexp(0),
        "score": lambda x: x[2],
    }.items():
        found = rate("classifier", TEXTS, model=str(three), label="good", value=value, micro_batch_size=2)
        by_hand = [float(wanted(logits_by_hand(three, text))) for text in TEXTS]
        assert found == pytest.approx(by_hand, abs=1e-5)


def test_probabilities_of_all_labels_sum_to_one(three: Path) -> None:
    rows = [rate("classifier", TEXTS, model=str(three), label=label) for label in ("bad", "fair", "good")]
    assert np.sum(rows, axis=0) == pytest.approx(np.ones(len(TEXTS)), abs=1e-6)


def test_labels_that_do_not_exclude_each_other_have_probabilities_of_their_own(three: Path) -> None:
    file = three.parent / "multi"
    model = AutoModelForSequenceClassification.from_pretrained(three)
    model.config.problem_type = "multi_label_classification"
    model.save_pretrained(file)
    AutoTokenizer.from_pretrained(three).save_pretrained(file)
    found = rate("classifier", ["good film"], model=str(file), label="fair")
    assert found == pytest.approx([float(logits_by_hand(file, "good film")[1].sigmoid())], abs=1e-6)


@pytest.mark.parametrize("pad", [PAD, EOS])
def test_a_decoder_is_read_at_its_last_token_whatever_it_pads_with(tmp_path: Path, pad: int) -> None:
    folder = tiny_scorer(tmp_path / "decoder", pad=pad)
    texts = ["good film", "good film <eos>", "a good film was", "dull"]
    found = rate("classifier", texts, model=str(folder), micro_batch_size=3)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text, score in zip(texts, found, strict=True):
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            hidden = model.transformer(ids).last_hidden_state[0, -1]
            assert score == pytest.approx(float(model.score(hidden)), abs=1e-5)


def test_long_texts_lose_their_beginning(three: Path) -> None:
    long, end = "bad " * 30 + "good happy fun", "good happy fun"
    whole = rate("classifier", [long, end], model=str(three), label="good", max_tokens=5)
    assert whole[0] == pytest.approx(whole[1], abs=1e-6)  # 5 tokens: the two special ones and three words


def test_the_prompt_is_read_where_the_scope_says_so(three: Path) -> None:
    batch = episodes([" film", " film"], ["good", "awful"])
    both = judge("classifier", model=str(three), label="good")(batch)
    alone = judge("classifier", model=str(three), label="good", scope="response")(batch)
    assert both[0] != both[1]
    assert alone[0] == alone[1]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "label is missing; name one of bad, fair, good"),
        ({"label": "goood"}, "has no label 'goood'. Did you mean 'good'?"),
        ({"label": "good", "value": "odds"}, "value"),
        ({"label": "good", "micro_batch_size": 0}, "micro_batch_size is 0"),
        ({"label": "good", "max_tokens": 0}, "max_tokens is 0"),
    ],
)
def test_wrong_settings_are_one_sentence(three: Path, settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as error:
        judge("classifier", model=str(three), **settings)
    assert said in str(error.value)


def test_a_language_model_is_no_classifier(tmp_path: Path) -> None:
    from textrl.models.tiny import tiny_gpt2

    folder = tiny_gpt2(folder=tmp_path / "gpt2", width=24, layers=1, heads=2, context=32)
    with pytest.raises(UserError, match=r"no classifier: its head is not trained \(score.weight missing\)"):
        judge("classifier", model=str(folder), label="LABEL_0")
    with pytest.raises(UserError, match=r"There is no model 'nowhere'"):
        judge("classifier", model="nowhere")


def pipeline(texts: list[str]) -> np.ndarray:
    """The features of a fitted judge, by scikit-learn's own classes."""
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w[\w']*\b|[!?]")
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    return np.hstack([words.fit_transform(texts).toarray(), letters.fit_transform(texts).toarray()])


def test_a_fitted_judge_is_scikit_learns_regression_and_survives_its_folder(tmp_path: Path) -> None:
    texts, targets = [*GOOD, *BAD], ["good"] * 5 + ["bad"] * 5
    TfidfModel.fit(texts, targets).save(tmp_path / "judge")
    assert sorted(file.name for file in (tmp_path / "judge").iterdir()) == [
        "tfidf_judge.json",
        "tfidf_judge.safetensors",
    ]
    reference = LogisticRegression(max_iter=1000).fit(pipeline(texts), targets)
    wanted = reference.predict_proba(pipeline(texts))[:, list(reference.classes_).index("good")]
    found = rate("classifier", texts, model=str(tmp_path / "judge"), label="good")
    assert found == pytest.approx(wanted, abs=1e-4)
    assert min(found[:5]) > max(found[5:])


def test_a_fitted_judge_of_three_labels_and_one_of_ratings(tmp_path: Path) -> None:
    texts = [*GOOD, *BAD, "it rained", "it rained on Monday"]
    labels = ["good"] * 5 + ["bad"] * 5 + ["neither"] * 2
    TfidfModel.fit(texts, labels).save(tmp_path / "labels")
    reference = LogisticRegression(max_iter=1000).fit(pipeline(texts), labels)
    rows = [
        rate("classifier", texts, model=str(tmp_path / "labels"), label=name) for name in reference.classes_
    ]
    assert np.transpose(rows) == pytest.approx(reference.predict_proba(pipeline(texts)), abs=1e-4)
    ratings = [3.0, 2.5, 2.0, 1.0, 3.0, -3.0, -2.0, -2.5, -1.0, -3.0, 0.0, 0.0]
    TfidfModel.fit(texts, ratings, strength=0.5).save(tmp_path / "ratings")
    ridge = Ridge(alpha=0.5).fit(pipeline(texts), ratings)
    found = rate("classifier", texts, model=str(tmp_path / "ratings"))
    assert found == pytest.approx(ridge.predict(pipeline(texts)), abs=1e-3)


def test_a_damaged_judge_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "judge"
    model = TfidfModel.fit([*GOOD, *BAD], ["good"] * 5 + ["bad"] * 5)
    model.save(folder)
    with pytest.raises(UserError, match="exists already"):
        model.save(folder)
    file = folder / "tfidf_judge.json"
    described = json.loads(file.read_text())
    for broken in ({**described, "labels": ["a", "b", "c"]}, {**described, "format": 2}, {"format": 1}, []):
        file.write_text(json.dumps(broken))
        with pytest.raises(UserError, match=r"The judge in .* cannot be read .*fit it again"):
            TfidfModel.load(folder)
    (folder / "tfidf_judge.safetensors").write_bytes(b"\x00" * 20)
    file.write_text(json.dumps(described))
    with pytest.raises(UserError, match="cannot be read"):
        TfidfModel.load(folder)


def test_nothing_to_tell_apart_is_refused() -> None:
    with pytest.raises(UserError, match="All 2 texts have the same label"):
        TfidfModel.fit(["a film", "a plot"], ["good", "good"])
    with pytest.raises(UserError, match="hold no words"):
        TfidfModel.fit(["", "  "], ["good", "bad"])


@pytest.mark.parametrize(
    "settings", [{"value": "score"}, {"value": "log_odds", "scope": "response"}], ids=str
)
def test_variants_conform(three: Path, settings: dict[str, object]) -> None:
    results = check_reward("classifier", {"model": str(three), "label": "fair", **settings})
    assert [result for result in results if not result.ok] == []


def test_a_fitted_judge_conforms(tmp_path: Path) -> None:
    TfidfModel.fit([*GOOD, *BAD], ["good"] * 5 + ["bad"] * 5).save(tmp_path / "judge")
    results = check_reward("classifier", {"model": str(tmp_path / "judge"), "label": "good"})
    assert [result for result in results if not result.ok] == []
