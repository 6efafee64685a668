"""Finding plugins: isolation, clashes, unknown hooks, record checks, switches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from installing import COIN

from textrl.errors import UserError
from textrl.registry import get_registry

GOOD = """
@hookimpl
def textrl_rewards():
    yield RewardSpec(name="swear", target="third_swear:Swear", summary="counts swear words")

class Swear: ...
"""
Install = Callable[..., None]
PluginFile = Callable[[str, str], str]


def reward(name: str = "x", **fields: str) -> str:
    """Return the code of a plugin with one reward; fields are Python source."""
    merged = {"name": repr(name), "target": '"a:b"', "summary": '"s"', **fields}
    inner = ", ".join(f"{key}={value}" for key, value in merged.items())
    return f"@hookimpl\ndef textrl_rewards():\n    yield RewardSpec({inner})\n"


def error_of(plugin: str) -> str:
    return {problem.plugin: problem.error for problem in get_registry().problems}[plugin]


def test_a_third_party_plugin_is_found_beside_the_built_in_ones(install: Install) -> None:
    install("third-swear", GOOD, version="2.3")
    registry = get_registry()
    spec = registry.find("reward", "swear")
    assert spec.summary == "counts swear words"
    assert registry.owner("reward", "swear") == "plugin 'third_swear' (third-swear 2.3)"
    assert spec.load().__name__ == "Swear"
    assert "ppo_ptx" in registry.specs("learner")
    assert registry.problems == ()


def test_listing_a_plugin_does_not_import_its_targets(install: Install) -> None:
    install("lazy", reward(target='"lazy_target_that_is_not_there:X"'))
    spec = get_registry().find("reward", "x")
    with pytest.raises(UserError, match=r"'x' cannot be loaded: importing lazy_target_that_is_not_there"):
        spec.load()


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("", "implements no hook; it needs one of textrl_rewards"),
        ("def textrl_rewards(): return []", "textrl_rewards lacks the marker; write @hookimpl"),
        ("@hookimpl\ndef textrl_reward(): return []", "unknown hook 'textrl_reward'. Did you mean"),
        ("def textrl_rewardz(): return []", "unknown hook 'textrl_rewardz'. Did you mean 'textrl_rewards'"),
        ("@hookimpl(specname='textrl_nope')\ndef f(): return []", "unknown hook 'textrl_nope'"),
        ("@hookimpl(wrapper=True)\ndef textrl_rewards():\n    yield", "is a hook wrapper"),
        ("@hookimpl\ndef textrl_rewards(registry): return []", "a hook takes no arguments"),
        ("@hookimpl\ndef textrl_rewards(): return None", "returned None; yield RewardSpec records"),
        ("@hookimpl\ndef textrl_rewards(): return 'abc'", "returned 'abc' (str); yield RewardSpec"),
        ("@hookimpl\ndef textrl_rewards(): yield 3", "yielded 3 (int); yield RewardSpec"),
        ("@hookimpl\ndef textrl_rewards(): 1 / 0\n", "ZeroDivisionError"),
        (
            "@hookimpl\ndef textrl_envs(): yield RewardSpec(name='x', target='a:b', summary='s')",
            "textrl_envs yielded",
        ),
        ("@hookimpl\ndef textrl_rewards(): yield RewardSpec(name='x')", "TypeError"),
        (reward() + "    yield RewardSpec(name='x', target='a:b', summary='s')", "offers 'x' twice"),
        (reward(api_version="2"), "written for record format 2 and this textrl reads 1; upgrade textrl-mdp"),
        (reward(api_version="0"), "upgrade the plugin"),
        (reward("a b"), "has a name with other characters"),
        (reward().replace("name='x'", "name=3"), "has a name with other characters"),
        (reward(target='"a.b.C"'), "has the target 'a.b.C'; write it as 'module:attribute'"),
        (reward(target="None"), "has the target None"),
        (reward(settings='"nope"'), "has the settings 'nope'"),
        (reward(summary='""'), "needs a summary of one line"),
        (reward(summary='"a\\nb"'), "needs a summary of one line"),
        (reward(granularity='"word"'), "has granularity 'word'. Known: episode, token."),
        (reward(granularity='"tokens"'), "has granularity 'tokens'. Did you mean 'token'?"),
        (reward(side='"lerner"'), "has side 'lerner'. Did you mean 'learner'?"),
        (reward(needs='frozenset({"txt"})'), "has needs 'txt'. Did you mean 'text'?"),
        (reward(needs='"text"'), "has needs='text'; write it as frozenset"),
        (reward(causal="True"), "is causal, which only granularity 'token' can be"),
        (
            "@hookimpl\ndef textrl_learners(): yield LearnerSpec(name='l', target='a:b', summary='s', "
            "accepts=frozenset({'rewards'}))",
            "has accepts 'rewards'. Did you mean 'reward'?",
        ),
        (
            "@hookimpl\ndef textrl_envs(): "
            "yield EnvSpec(name='E-v0', target='a:b', summary='s', vector_target='c')",
            "has the vector_target 'c'",
        ),
        (
            "@hookimpl\ndef textrl_envs(): "
            "yield EnvSpec(name='E-v0', target='a:b', summary='s', max_episode_steps='500')",
            "has max_episode_steps='500'; write a whole number of at least 1",
        ),
    ],
)
def test_a_broken_plugin_is_reported_and_harms_no_other(install: Install, code: str, says: str) -> None:
    install("aaa-broken", code)
    install("third-swear", GOOD)
    registry = get_registry()
    assert registry.find("reward", "swear")
    assert registry.find("learner", "ppo_ptx")
    assert says in error_of("aaa_broken")
    assert "\n" not in error_of("aaa_broken")
    assert "x" not in registry.specs("reward"), "a broken plugin offers nothing at all"


def test_an_unknown_name_suggests_the_nearest_and_mentions_broken_plugins(install: Install) -> None:
    install("third-swear", GOOD)
    install("oops", "import no_such_module")
    with pytest.raises(UserError) as caught:
        get_registry().find("reward", "swaer")
    assert str(caught.value) == (
        "There is no reward 'swaer'. Did you mean 'swear'? It may be in a plugin that is broken: "
        "oops (ModuleNotFoundError: No module named 'no_such_module')."
    )


def test_an_unknown_name_mentions_disabled_plugins(install: Install) -> None:
    install("third-swear", GOOD)
    with pytest.raises(UserError, match=r"There is no reward 'swear'\..* disabled: third_swear\."):
        get_registry(disable=["third_swear"]).find("reward", "swear")


def test_a_clash_refuses_to_start_and_names_both_owners(install: Install) -> None:
    install("third-swear", GOOD)
    install("other-swear", GOOD)
    with pytest.raises(UserError) as caught:
        get_registry()
    assert str(caught.value) == (
        "The reward 'swear' is offered by plugin 'other_swear' (other-swear 1.0) and by plugin 'third_swear' "
        "(third-swear 1.0); uninstall one of them or leave it out with --disable third_swear."
    )
    registry = get_registry(disable=["third_swear"])
    assert registry.owner("reward", "swear") == "plugin 'other_swear' (other-swear 1.0)"


def test_a_clash_with_a_built_in_name_advises_to_leave_out_the_newcomer(install: Install) -> None:
    install("aaa", reward("ppo_ptx").replace("RewardSpec", "LearnerSpec").replace("_rewards", "_learners"))
    with pytest.raises(UserError, match=r"The learner 'ppo_ptx' is offered by .*'builtin'.*--disable aaa\."):
        get_registry()


def test_the_same_name_in_two_kinds_is_no_clash(install: Install) -> None:
    install(
        "both",
        reward("twin")
        + "\n@hookimpl\ndef textrl_models(): yield ModelSpec(name='twin', target='a:b', summary='s')",
    )
    assert get_registry().owner("reward", "twin") == get_registry().owner("model", "twin")


def test_two_plugins_of_one_name_are_refused_before_they_are_imported(install: Install) -> None:
    install("one", "raise SystemExit('imported')", entry="same")
    install("two", "raise SystemExit('imported')", entry="same")
    with pytest.raises(UserError, match=r"called 'same', one from one 1\.0 and one from two 1\.0"):
        get_registry()
    assert "one" not in sys.modules
    assert get_registry(disable=["two:same"]).plugin("same").status in ("broken", "disabled")


def test_a_disabled_plugin_is_not_imported(install: Install) -> None:
    install("oops", "raise SystemExit('imported')")
    registry = get_registry(disable=["oops"])
    assert registry.plugin("oops").status == "disabled"
    assert registry.problems == ()
    assert "oops" not in sys.modules


def test_a_whole_distribution_can_be_disabled() -> None:
    registry = get_registry(disable=["textrl-mdp"])
    assert not registry.specs("reward")
    assert not registry.specs("learner")


def test_disabling_what_is_not_there_is_an_error() -> None:
    with pytest.raises(UserError, match=r"no plugin 'builtim' to disable\. Did you mean 'builtin'\?"):
        get_registry(disable=["builtim"])


def test_strict_refuses_any_broken_plugin(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("oops", "import no_such_module")
    with pytest.raises(UserError, match=r"'oops' is broken and --strict is on: Module.*--disable oops"):
        get_registry(strict=True)
    assert get_registry(strict=True, disable=["oops"]).specs("learner")
    monkeypatch.setenv("TEXTRL_STRICT", "1")
    with pytest.raises(UserError, match="strict is on"):
        get_registry()


def test_a_file_is_a_plugin_and_its_records_find_their_own_module(plugin_file: PluginFile) -> None:
    path = plugin_file("my_rude", GOOD.replace("third_swear:", "my_rude:"))
    registry = get_registry(plugins=[path])
    assert registry.owner("reward", "swear") == f"plugin 'my_rude' ({path})"
    assert registry.find("reward", "swear").load().__name__ == "Swear"
    assert "swear" not in get_registry().specs("reward")


def test_a_file_plugin_may_come_from_the_environment(
    plugin_file: PluginFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTRL_PLUGINS", plugin_file("my_rude", GOOD))
    assert "swear" in get_registry().specs("reward")
    monkeypatch.setenv("TEXTRL_DISABLE", "my_rude")
    assert "swear" not in get_registry().specs("reward")


def test_a_module_is_a_plugin(install: Install, tmp_path: Path) -> None:
    (tmp_path / "site" / "quiet_module.py").write_text(
        "from textrl.hookspecs import hookimpl\nfrom textrl.specs import *\n" + GOOD
    )
    assert "swear" in get_registry(plugins=["quiet_module"]).specs("reward")
    assert "ModuleNotFoundError" in get_registry(plugins=["no.such"]).plugin("no.such").error


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.py", r"There is no plugin file '.*missing\.py'"),
        ("not-a-name.py", r"cannot be imported under the name 'not-a-name'; rename it"),
    ],
)
def test_a_plugin_file_that_cannot_be_used(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "not-a-name.py").write_text(GOOD)
    with pytest.raises(UserError, match=says):
        get_registry(plugins=[str(tmp_path / name)])


def test_a_plugin_file_must_not_hide_another_module(plugin_file: PluginFile) -> None:
    path = plugin_file("json", GOOD)
    registry = get_registry(plugins=[path])
    assert "hides the module 'json'" in registry.plugin("json").error
    path = plugin_file("antigravity", GOOD)  # in the standard library, and imported by nobody
    assert "hides the module" in get_registry(plugins=[path]).plugin("antigravity").error
    assert "antigravity" not in sys.modules


def test_a_broken_file_leaves_no_half_module_behind(plugin_file: PluginFile) -> None:
    path = plugin_file("half_done", "1 / 0")
    assert "ZeroDivisionError" in get_registry(plugins=[path]).plugin("half_done").error
    assert "half_done" in get_registry(plugins=[path]).plugin("half_done").trace
    assert "half_done" not in sys.modules


def test_what_a_plugin_prints_on_import_stays_off_stdout(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("chatty", "print('hello')\n" + reward())
    get_registry()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello" in captured.err


def test_the_registry_is_cached_for_the_same_switches() -> None:
    assert get_registry() is get_registry()
    assert get_registry(disable=["kl"]) is not get_registry()


def test_an_unknown_kind_is_a_mistake_of_the_programmer() -> None:
    with pytest.raises(ValueError, match=r"no kind of record is called 'rewards'\. Did you mean 'reward'\?"):
        get_registry().specs("rewards")


ENV = (
    """
import gymnasium

@hookimpl
def textrl_envs():
    yield EnvSpec(name="Third/Coin-v0", target="third_env:Coin", summary="a coin", kwargs=(("sides", 3),))
"""
    + COIN
)


def test_environments_are_registered_with_gymnasium(install: Install) -> None:
    import gymnasium

    install("third-env", ENV)
    registry = get_registry()
    registry.register_envs()
    registry.register_envs()  # twice is harmless
    try:
        with gymnasium.make("Third/Coin-v0") as env:
            assert env.action_space.n == 3
            env.reset(seed=0)
            assert env.step(1)[1] == 1.0
        taken = gymnasium.registry.pop("Third/Coin-v0")
        gymnasium.register("Third/Coin-v0", entry_point="somebody.else:Coin")
        with pytest.raises(UserError, match=r"'Third/Coin-v0' of plugin 'third_env'.*as somebody\.else:Coin"):
            registry.register_envs()
        assert taken.entry_point == "third_env:Coin"
    finally:
        gymnasium.registry.pop("Third/Coin-v0", None)


def test_one_line_makes_our_environment() -> None:
    import gymnasium

    import textrl.envs  # noqa: F401 - the import is what registers

    for name, spec in get_registry().specs("env").items():
        assert gymnasium.spec(name).entry_point == spec.target


def test_a_file_named_in_two_ways_is_one_plugin(
    plugin_file: PluginFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plugin_file("my_rude", GOOD)
    monkeypatch.chdir(tmp_path)
    registry = get_registry(plugins=["my_rude.py", path, "./my_rude.py"])
    assert [plugin.package for plugin in registry.plugins if plugin.name == "my_rude"] == [path]
