"""VADER through the plugin equals VADER alone."""

import pytest
import torch
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from textrl.protocols import Batch
from textrl.registry import get_registry
from textrl.rewards import build_reward

TEXTS = ["A wonderful, moving film!", "Dull and awful.", "The film is two hours long.", ""]


def pay(settings, prompts=("", "", "", "")):
    ones = torch.ones(len(TEXTS), 1, dtype=torch.int64)
    made = Batch(
        prompt_ids=ones,
        prompt_mask=ones.bool(),
        response_ids=ones,
        response_mask=ones.bool(),
        prompt_text=list(prompts),
        text=TEXTS,
    )
    return build_reward(get_registry().find("reward", "sentiment"), settings)(made).tolist()


def test_compound_of_the_response():
    paid = pay({})
    assert paid[0] > 0.5
    assert paid[1] < -0.4
    assert paid[2:] == [0.0, 0.0]


@pytest.mark.parametrize("measure", ["compound", "pos", "neg", "neu"])
def test_every_measure_is_the_librarys(measure):
    library = [SentimentIntensityAnalyzer().polarity_scores(text)[measure] for text in TEXTS]
    assert pay({"measure": measure}) == pytest.approx(library)


def test_the_prompt_counts_only_where_asked():
    prompts = ["not ", "not ", "Horrible: ", "Great"]
    assert pay({}, prompts) == pay({})
    both = pay({"scope": "prompt+response"}, prompts)
    assert both[2] < 0 < both[3]
