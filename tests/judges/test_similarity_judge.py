"""`similarity`: cosines by hand and by transformers, references from settings or from records."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from judge_world import episodes, judge, rate
from textrl_judges.conformance import tiny_classifier
from textrl_judges.encoders import LexicalEncoder
from transformers import AutoModel, AutoTokenizer

from textrl.errors import UserError
from textrl.evaluation.judges import minilm_folder
from textrl.testing import check_reward


def cosine(first: str, second: str) -> float:
    encoder = LexicalEncoder()
    return encoder.cosine(*encoder.encode([first, second]))


def test_the_lexical_cosine_by_hand() -> None:
    # "ab" counts itself, " a" "ab" "b " " ab" "ab " " ab ": "ab" twice (the word and a pair of letters).
    # "b" counts itself, " b" "b " " b ". In common: "b " once in each.
    length_ab = math.sqrt(2**2 + 5 * 1**2)
    length_b = math.sqrt(4)
    assert cosine("ab", "b") == pytest.approx(1 / (length_ab * length_b))
    assert cosine("ab", "AB") == pytest.approx(1)
    assert cosine("ab", "") == 0
    assert cosine("xy", "ab") == 0


@given(st.text(max_size=30), st.text(max_size=30))
def test_the_lexical_cosine_is_a_cosine(first: str, second: str) -> None:
    assert cosine(first, second) == pytest.approx(cosine(second, first))
    assert -1e-9 <= cosine(first, second) <= 1 + 1e-9
    if first.split():
        assert cosine(first, first) == pytest.approx(1)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_classifier(tmp_path_factory.mktemp("encoder") / "model")


def vector(folder: Path, text: str) -> torch.Tensor:
    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        states = model(**AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")).last_hidden_state[
            0
        ]
    return torch.nn.functional.normalize(states.mean(0), dim=0)


def test_an_encoders_cosine_is_that_of_its_mean_states(encoder: Path) -> None:
    texts, reference = ["good film", "", "the plot was dull and long"], "a good scene"
    found = rate("similarity", texts, texts=[reference], encoder=str(encoder))
    by_hand = [float(vector(encoder, text) @ vector(encoder, reference)) for text in texts]
    assert found == pytest.approx(by_hand, abs=1e-5)


def test_references_come_from_the_record_one_or_several() -> None:
    records = [{"summary": "a red house"}, {"summary": ["a red house", "a blue car"]}]
    batch = episodes(["a blue car", "a blue car"], records=records)
    best = judge("similarity", column="summary", encoder="lexical")(batch).tolist()
    mean = judge("similarity", column="summary", encoder="lexical", of="mean")(batch).tolist()
    apart = cosine("a blue car", "a red house")
    assert best == pytest.approx([apart, 1.0])
    assert mean == pytest.approx([apart, (1 + apart) / 2])


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"sumary": "x"}, "has no column 'summary'. Did you mean 'sumary'?"),
        ({"summary": 3}, "must hold a text or a list of texts"),
        ({"summary": []}, "must hold a text or a list of texts"),
        ({"summary": ["a", None]}, "must hold a text or a list of texts"),
    ],
)
def test_a_record_without_a_reference_is_named(record: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as error:
        judge("similarity", column="summary", encoder="lexical")(episodes(["a"], records=[record]))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "give one of the two"),
        ({"column": "a", "texts": ["b"]}, "give one of the two"),
        ({"texts": [" "]}, "holds an empty text"),
        ({"texts": ["a"], "encoder": "lexikal"}, "There is no model 'lexikal'"),
        ({"texts": ["a"], "max_tokens": 1}, "max_tokens is 1"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as error:
        judge("similarity", **settings)
    assert said in str(error.value)


def test_variants_conform() -> None:
    settings = {
        "texts": ["good film", "a plot"],
        "encoder": "lexical",
        "of": "mean",
        "scope": "prompt+response",
    }
    assert [result for result in check_reward("similarity", settings) if not result.ok] == []


def _installed() -> bool:
    try:
        minilm_folder()
    except UserError:
        return False
    return True


@pytest.mark.skipif(not _installed(), reason="the MiniLM package is not installed")
def test_minilm_hears_meaning_where_letters_do_not() -> None:
    said = ["The movie was wonderful.", "Stock prices fell on Tuesday."]
    near, far = rate("similarity", said, texts=["I loved that film!"])
    assert near > far + 0.3
