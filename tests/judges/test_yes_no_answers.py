"""Yes or no by token probabilities: against transformers' own logits, one token and several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from textrl_judges.answers import YesNo
from transformers import AutoModelForCausalLM, AutoTokenizer

from textrl.errors import UserError
from textrl.models.tiny import tiny_gpt2

CONTEXTS = ["Was it good?", "The film was long and sad. Was it good? Answer:", "A", "Was it good?"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gpt2(
        folder=tmp_path_factory.mktemp("yesno") / "model", width=24, layers=2, heads=2, context=48
    )


def probability_of(folder: Path, context: str, word: str) -> float:
    """P(word | context), token by token, each from a forward pass of its own."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer(context)["input_ids"]
    chance = 1.0
    for token in tokenizer(word, add_special_tokens=False)["input_ids"]:
        with torch.no_grad():
            chance *= float(model(torch.tensor([ids])).logits[0, -1].double().softmax(0)[token])
        ids = [*ids, token]
    return chance


@pytest.mark.parametrize(("yes", "no"), [((" yes",), (" no",)), ((" yes", "Yes!"), (" no", " never at all"))])
def test_the_probability_is_that_of_the_words_alone(folder: Path, yes: tuple[str], no: tuple[str]) -> None:
    asked = YesNo.load(str(folder), yes, no, micro_batch_size=2)
    found = asked.probabilities(CONTEXTS)
    for context, answer in zip(CONTEXTS, found, strict=True):
        said_yes = sum(probability_of(folder, context, word) for word in yes)
        said_no = sum(probability_of(folder, context, word) for word in no)
        assert answer == pytest.approx(said_yes / (said_yes + said_no), abs=1e-5)
    assert found[0] == pytest.approx(found[3], abs=1e-6)


def test_swapping_the_words_gives_the_rest_to_one(folder: Path) -> None:
    one = YesNo.load(str(folder), (" yes",), (" no",)).probabilities(CONTEXTS)
    other = YesNo.load(str(folder), (" no",), (" yes",)).probabilities(CONTEXTS)
    assert [a + b for a, b in zip(one, other, strict=True)] == pytest.approx([1.0] * 4, abs=1e-6)


def test_what_cannot_be_asked_is_one_sentence(folder: Path) -> None:
    with pytest.raises(UserError, match="' yes' means both yes and no"):
        YesNo.load(str(folder), (" yes",), (" no", " yes"))
    asked = YesNo.load(str(folder), (" yes",), (" no",))
    with pytest.raises(UserError, match=r"has \d+ tokens and the model reads \d+; shorten"):
        asked.probabilities(["a long text " * 40])
    with pytest.raises(UserError, match="empty text"):
        asked.probabilities([""])
