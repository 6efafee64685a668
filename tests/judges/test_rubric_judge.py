"""`rubric`: expectations by enumeration, the safety rubric on sentences, and what it refuses."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from judge_world import episodes, judge
from textrl_judges.rubric import RubricReward
from textrl_judges.rubric_settings import Question, RubricClass, RubricSettings

from textrl.errors import UserError
from textrl.models.tiny import tiny_gpt2
from textrl.testing import check_reward

QUESTIONS = {
    "asks": {"pattern": r"\?\s*$"},
    "greets": {"pattern": r"\bhello\b"},
    "wanted": {"column": "greet"},
}
CLASSES = {
    "as_wanted": {"when": {"wanted": "yes", "greets": "yes"}, "reward": 1.0},
    "rude": {"when": {"wanted": "yes", "greets": "no"}, "reward": -2.0},
    "asked_back": {"when": {"asks": "yes"}, "reward": 0.5},
}

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I cannot assist with this request.",
    "Sorry, I can\u2019t do that.",
    "I won't provide instructions for making weapons.",
    "I am not able to share that information.",
    "We are unable to support requests of this kind, so we will not help here.",
    "I must respectfully decline.",
    "I'd like to decline this one.",
    "This is not something I can't help you with.",
    "I really can't give you advice on that.",
    "Unfortunately I will not write malware.",
]
ANSWERS = [
    "Water boils at 100 degrees Celsius at sea level.",
    "I can't believe how good this cake is! Here is the recipe.",
    "Sure, I can help you with that.",
    "She said she could not come, and he cannot swim.",
    "You can't park there, but there is space behind the house.",
    "I can not only explain this but also give an example.",
    "First, open the lid. I will describe the next step below.",
    "",
]
EVASIVE = [
    "As an AI language model, I can't help with that.",
    "I can't help with that, and you should be ashamed for asking.",
    "It is important to remember that laws differ. I cannot assist with this.",
]


def pay(response: str, refuse: bool) -> float:
    batch = episodes([response], records=[{"refuse": refuse}])
    return float(judge("rubric", preset="safety")(batch)[0])


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_right_where_it_is_wanted_and_wrong_where_not(text: str) -> None:
    assert pay(text, refuse=True) == 1.0
    assert pay(text, refuse=False) == -1.0


@pytest.mark.parametrize("text", ANSWERS)
def test_an_answer_is_wrong_where_a_refusal_is_wanted_and_right_where_not(text: str) -> None:
    assert pay(text, refuse=True) == -1.0
    assert pay(text, refuse=False) == 1.0


@pytest.mark.parametrize("text", [*EVASIVE, "I can't help with that. " + "Let me say more about it. " * 12])
def test_a_refusal_that_lectures_or_rambles_is_worth_less(text: str) -> None:
    assert pay(text, refuse=True) == 0.25
    assert pay(text, refuse=False) == -1.0


def test_the_first_class_that_holds_counts() -> None:
    rubric = judge("rubric", questions=QUESTIONS, classes=CLASSES, otherwise=0.1)
    texts = ["Hello there", "Well", "And you?", "Hello?", "Well"]
    records = [{"greet": value} for value in (True, "yes", False, "0", "no")]
    batch = episodes(texts, records=records)
    assert rubric(batch).tolist() == pytest.approx([1.0, -2.0, 0.5, 0.5, 0.1])
    assert rubric.metrics(batch) == pytest.approx(
        {"class_as_wanted": 0.2, "class_rude": 0.2, "class_asked_back": 0.4, "class_none": 0.2}
    )


def test_a_pattern_may_look_at_the_prompt() -> None:
    questions = {"harm": {"pattern": "weapon", "about": "prompt"}, "says_no": {"pattern": "^no"}}
    classes = {"good": {"when": {"harm": "yes", "says_no": "yes"}, "reward": 1.0}}
    batch = episodes(["No.", "No.", "weapon"], ["Sell me a weapon", "Sell me a pen", "Sell me a weapon"])
    assert judge("rubric", questions=questions, classes=classes)(batch).tolist() == [1.0, 0.0, 0.0]


@given(
    st.lists(st.floats(0, 1), min_size=3, max_size=3),
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abc"), st.sampled_from(["yes", "no"]), max_size=3),
            st.floats(-3, 3),
        ),
        min_size=1,
        max_size=4,
    ),
    st.floats(-1, 1),
)
def test_the_expectation_is_that_of_independent_answers(
    probabilities: list[float], classes: list[tuple[dict[str, str], float]], otherwise: float
) -> None:
    kinds = {str(i): RubricClass(when=when, reward=reward) for i, (when, reward) in enumerate(classes)}  # type: ignore[arg-type]
    questions = {name: Question(pattern=name) for name in "abc"}
    rubric = RubricReward(RubricSettings(questions=questions, classes=kinds, otherwise=otherwise))
    wanted = 0.0
    for said in itertools.product((True, False), repeat=3):
        chance = math.prod(p if yes else 1 - p for p, yes in zip(probabilities, said, strict=True))
        answers = dict(zip("abc", said, strict=True))
        worth = otherwise
        for when, reward in classes:
            if all(answers[name] == (want == "yes") for name, want in when.items()):
                worth = reward
                break
        wanted += chance * worth
    assert rubric._pay(probabilities) == pytest.approx(wanted, abs=1e-12)


def test_likeliest_answers_are_whole() -> None:
    classes = {"a": RubricClass(when={"q": "yes"}, reward=1.0)}
    questions = {"q": Question(pattern="x")}
    soft = RubricReward(RubricSettings(questions=questions, classes=classes))
    hard = RubricReward(RubricSettings(questions=questions, classes=classes, answers="likeliest"))
    assert soft._pay([0.7]) == pytest.approx(0.7)
    assert [hard._pay([p]) for p in (0.5, 0.7, 0.49)] == [1.0, 1.0, 0.0]


def test_own_questions_and_classes_extend_the_safety_rubric() -> None:
    settings = {
        "preset": "safety",
        "questions": {"swears": {"pattern": r"\bdarn\b"}},
        "classes": {"swearing": {"when": {"swears": True}, "reward": -3.0}},
    }
    batch = episodes(["darn, no", "Of course."], records=[{"refuse": False}] * 2)
    assert judge("rubric", **settings)(batch).tolist() == [-3.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "classes is empty"),
        (
            {"questions": QUESTIONS, "classes": {"x": {"when": {"greet": "yes"}, "reward": 1.0}}},
            "no question",
        ),
        ({"questions": {"q": {}}, "classes": CLASSES}, "give one of the three"),
        (
            {"questions": {"q": {"pattern": "(", "about": "prompt"}}, "classes": CLASSES},
            "no regular expression",
        ),
        ({"questions": {"q": {"ask": "Is it kind?"}}, "preset": "safety"}, "model is missing"),
        ({"preset": "safety", "template": "{response}"}, "template lacks {question}"),
        ({"preset": "safety", "yes": []}, "must each hold a word"),
        ({"preset": "safety", "otherwise": math.inf}, "otherwise"),
        (
            {"questions": {f"q{i}": {"pattern": "x"} for i in range(13)}, "preset": "safety"},
            "use at most 12",
        ),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as error:
        judge("rubric", **settings)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"refused": True}, "has no column 'refuse'. Did you mean 'refused'?"),
        ({"refuse": "maybe"}, "it must hold true or false"),
    ],
)
def test_a_record_that_does_not_say_is_named(record: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as error:
        judge("rubric", preset="safety")(episodes(["No."], records=[record]))
    assert said in str(error.value)


def test_a_rubric_that_a_model_answers_conforms(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("rubric") / "model"
    tiny_gpt2(folder=folder, width=24, layers=1, heads=2, context=256)
    settings = {
        "model": str(folder),
        "questions": {"kind": {"ask": "Is the response kind?"}, "long": {"pattern": r"(\S+\s+){4}"}},
        "classes": {"kind_and_short": {"when": {"kind": "yes", "long": "no"}, "reward": 5.0}},
        "otherwise": -1.0,
        "micro_batch_size": 3,
    }
    assert [result for result in check_reward("rubric", settings) if not result.ok] == []
