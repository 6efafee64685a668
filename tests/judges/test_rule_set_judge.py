"""`rule_set`: the weighted share of checks, by hand."""

from __future__ import annotations

import pytest
from judge_world import episodes, judge, rate

from textrl.errors import UserError
from textrl.testing import check_reward

CHECKS = {
    "short": {"use": "length", "settings": {"unit": "words", "max": 3}, "at_least": 0.0, "weight": 2.0},
    "polite": {"use": "keyword", "settings": {"words": ["please"]}, "at_least": 1.0},
    "fresh": {"use": "repetition", "settings": {"n": 1}},
}


def test_the_weighted_mean_by_hand() -> None:
    texts = ["please go", "go go", "please please go on now", "one two three four"]
    # short, polite, fresh: the last is a value, -1/2 and -1/5 where words come back.
    wanted = [(2 + 1 + 0) / 4, (2 + 0 - 0.5) / 4, (0 + 1 - 0.2) / 4, 0.0]
    assert rate("rule_set", texts, checks=CHECKS) == pytest.approx(wanted)


def test_all_or_nothing() -> None:
    checks = {name: check for name, check in CHECKS.items() if name != "fresh"}
    texts = ["please go", "go", "please go on now"]
    assert rate("rule_set", texts, checks=checks, all_or_nothing=True) == [1.0, 0.0, 0.0]


def test_each_check_is_logged() -> None:
    rules = judge("rule_set", checks=CHECKS)
    figures = rules.metrics(episodes(["please go", "one two three four"]))
    assert figures == pytest.approx({"check_short": 0.5, "check_polite": 0.5, "check_fresh": 0.0})


def test_a_check_may_read_the_record() -> None:
    checks = {"right": {"use": "exact_answer", "at_least": 1.0}}
    batch = episodes(["42", "41"], records=[{"answer": "42"}, {"answer": "42"}])
    assert judge("rule_set", checks=checks)(batch).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"checks": {}}, "checks is empty"),
        (
            {"checks": {"lenght": {}}},
            "the check 'lenght': There is no reward 'lenght'. Did you mean 'length'?",
        ),
        ({"checks": {"kl": {}}}, "the check 'kl' uses 'kl', which gives no single value to a text"),
        ({"checks": {"a": {"use": "length"}}}, "the check 'a'"),
        ({"checks": {"a": {"use": "length", "settings": {"mx": 3}}}}, "unknown key 'mx'"),
        ({"checks": {"a": {"use": "repetition", "weight": 0.0}}}, "weight is 0.0"),
        ({"checks": {"a": {"use": "repetition"}}, "all_or_nothing": True}, "give 'a' an at_least"),
    ],
)
def test_wrong_settings_are_one_sentence(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError) as error:
        judge("rule_set", **settings)
    assert said in str(error.value)


def test_variants_conform() -> None:
    checks = {"long": {"use": "length", "settings": {"min": 3}, "at_least": 0.0}}
    results = check_reward("rule_set", {"checks": checks, "all_or_nothing": True})
    assert [result for result in results if not result.ok] == []
