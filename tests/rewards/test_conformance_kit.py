"""Every check of the kit holds for a correct reward and is broken by one that is wrong in that way."""

import subprocess
import sys
import textwrap

import pytest
from faulty_rewards import spec

from textrl.registry import get_registry
from textrl.testing import (
    Violation,
    assert_reward_conforms,
    check_plugin,
    check_record,
    check_reward,
    reward_cases,
)
from textrl.testing.rewards import CHECKS

#: A hook module that imports nothing heavy, for rewards whose own module imports torch.
LIGHT = "textrl_kl"


def failed(reward, settings=None, plugin=LIGHT, **options):
    results = check_reward(reward, settings, plugin=plugin, **options)
    assert [result.name for result in results] == list(CHECKS)
    return {result.name: result.detail for result in results if not result.ok}


SETTINGS = "faulty_rewards:Settings"
CORRECT = {
    "episode": spec("Good"),
    "with settings": spec("Good", settings=SETTINGS),
    "token": spec("GoodTokens", granularity="token", causal=True),
    "stateful": spec("Learns"),
}


@pytest.mark.parametrize("record", CORRECT.values(), ids=CORRECT)
def test_a_correct_reward_passes_every_check(record):
    assert failed(record) == {}
    assert_reward_conforms(record, plugin=LIGHT)


def per_token(target, **fields):
    return spec(target, granularity="token", **fields)


# check, record, what its message says, and whether no other check is broken
VIOLATIONS = [
    ("record", spec("Good", causal=True), "causal", False),
    ("record", spec("Good", needs=frozenset({"mood"})), "needs 'mood'", False),
    ("record", spec("Good", needs=frozenset({"logprobs"})), "side='learner'", False),
    ("record", spec("Good", settings="faulty_rewards:Thawed"), "frozen=True", True),
    ("record", spec("Good", settings="faulty_rewards:Silent"), "'scale'", True),
    ("record", spec("Good", settings="faulty_rewards:Nowhere"), "no attribute 'Nowhere'", False),
    ("builds", spec("CannotBuild"), "RuntimeError: no weights", False),
    ("builds", spec("Good", advises=True), "advise(state)", True),
    ("builds", spec("Missing"), "no attribute 'Missing'", False),
    ("shape", spec("ReturnsList"), "list", False),
    ("shape", spec("Column"), "(6, 1)", False),
    ("shape", spec("PerToken"), "(6, 9)", False),
    ("shape", spec("Raises"), "KeyError", False),
    ("shape", per_token("Good"), "(6,)", False),
    ("dtype", spec("Integers"), "torch.int64", False),
    ("finite", spec("NotANumber"), "nan", False),
    ("finite", spec("Infinite"), "-inf", False),
    ("zero_on_padding", per_token("PaysPadding"), "on padding", False),
    ("batch_equals_rows", spec("ComparesRows"), "alone", True),
    ("batch_equals_rows", spec("DependsOnPlace"), "row 1", True),
    ("extra_padding", spec("MeasuresWidth"), "more padding", False),
    ("garbage_under_mask", spec("ReadsPaddingIds"), "garbage", True),
    (
        "garbage_under_mask",
        spec("ReadsPaddingFloats", side="learner", needs=frozenset({"logprobs"})),
        "garbage",
        True,
    ),
    ("causal_by_truncation", per_token("LooksAhead", causal=True), "truncated", True),
    ("same_answer_twice", spec("Random"), "different answers", False),
    ("inputs_not_mutated", spec("PopsRecords", needs=frozenset({"records"})), "records", True),
    ("inputs_not_mutated", spec("WritesIds"), "response_ids", True),
    ("eos_alone", spec("NeedsWords", needs=frozenset({"text"})), "ZeroDivisionError", True),
    ("eos_alone", per_token("HandlesOnlyWide"), "(2,)", False),
    ("state_round_trip", spec("SavesOnly"), "only one of", True),
    ("state_round_trip", spec("LearnsWithoutState"), "forget", True),
    ("state_round_trip", spec("SavesObjects"), "set", True),
    ("state_round_trip", spec("ForgetsBias"), "after loading", True),
    ("state_round_trip", spec("ForgetsSpeed"), "after observing", True),
    ("state_round_trip", spec("LoadsNothing"), "another state", True),
    ("unknown_setting_refused", spec("Good", settings="faulty_rewards:Greedy"), "accepted", True),
    ("unknown_setting_refused", spec("Good", settings="faulty_rewards:NotADataclass"), "TypeError", False),
]


@pytest.mark.parametrize(
    ("check", "record", "message", "alone"),
    VIOLATIONS,
    ids=[f"{check}-{record.name}" for check, record, _, _ in VIOLATIONS],
)
def test_a_wrong_reward_breaks_its_check(check, record, message, alone):
    broken = failed(record)
    assert message in broken[check]
    if alone:
        assert set(broken) == {check}


def test_every_check_has_a_reward_that_breaks_it():
    assert {check for check, *_ in VIOLATIONS} | {"light_import"} == set(CHECKS)


def test_a_hook_module_that_imports_torch_is_found_out():
    broken = failed(spec("Good"), plugin="faulty_rewards")
    assert set(broken) == {"light_import"}
    assert "imports torch" in broken["light_import"]


def test_a_hook_that_imports_gymnasium_when_called_is_found_out(tmp_path, monkeypatch):
    (tmp_path / "late_importer.py").write_text(
        textwrap.dedent(
            """
            from textrl.hookspecs import hookimpl

            @hookimpl
            def textrl_rewards():
                import gymnasium
                return []
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    broken = failed(spec("Good"), plugin="late_importer")
    assert set(broken) == {"light_import"}
    assert "imports gymnasium" in broken["light_import"]


def test_violations_are_listed_in_one_assertion_error():
    with pytest.raises(AssertionError, match=r"'notanumber' does not conform:\n.*finite: .*nan"):
        assert_reward_conforms(spec("NotANumber"), plugin=LIGHT)


def test_cases_are_named_after_their_checks_and_raise():
    cases = reward_cases(spec("Random"), plugin=LIGHT)
    assert [str(case) for case in cases] == list(CHECKS)
    by_name = {case.name: case for case in cases}
    by_name["finite"]()
    with pytest.raises(Violation, match="different answers"):
        by_name["same_answer_twice"]()


def test_records_get_the_columns_that_a_reward_reads():
    record = spec("ReadsStars", needs=frozenset({"records"}))
    assert "KeyError: 'stars'" in failed(record)["finite"]
    assert failed(record, record={"stars": 3}) == {}


FILE_PLUGIN = '''
from textrl.hookspecs import hookimpl
from textrl.specs import RewardSpec


@hookimpl
def textrl_rewards():
    """Two rewards, one of which needs to be told what it is made of."""
    yield RewardSpec(name="vowels", target="{stem}:Vowels", summary="vowels", needs=frozenset({{"text"}}))
    yield RewardSpec(name="stars", target="{stem}:Vowels", summary="stars", needs=frozenset({{"text"}}))


class Vowels:
    def __call__(self, batch):
        import torch

        return torch.tensor([float(sum(c in "aeiou" for c in text)) for text in batch.text])
'''


def test_a_single_file_plugin_conforms_by_name(tmp_path):
    file = tmp_path / "vowel_plugin.py"
    file.write_text(FILE_PLUGIN.format(stem="vowel_plugin"))
    registry = get_registry(plugins=[str(file)])
    assert_reward_conforms("vowels", registry=registry)
    report = check_plugin("vowel_plugin", registry=registry)
    assert set(report) == {"reward vowels", "reward stars"}
    assert all(result.ok for results in report.values() for result in results)


def test_a_broken_plugin_is_a_failed_check_with_its_error(tmp_path):
    file = tmp_path / "broken_plugin.py"
    file.write_text("import a_module_that_is_not_there\n")
    (result,) = check_plugin("broken_plugin", registry=get_registry(plugins=[str(file)]))["plugin"]
    assert not result.ok
    assert "a_module_that_is_not_there" in result.detail


def test_listing_the_builtin_reward_plugins_imports_nothing_heavy():
    program = (
        "import sys, textrl_kl, textrl_reward_model, textrl_rules, textrl_sentiment\n"
        "for plugin in (textrl_kl, textrl_reward_model, textrl_rules, textrl_sentiment):\n"
        "    list(plugin.textrl_rewards())\n"
        "print([m for m in ('torch', 'transformers', 'gymnasium', 'vaderSentiment') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_records_are_refused_by_name():
    from textrl.errors import UserError

    with pytest.raises(UserError, match="Did you mean 'sentiment'"):
        check_record("reward", "sentimant")
