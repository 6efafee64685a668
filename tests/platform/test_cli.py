"""The command line: listings, switches, exit codes, and commands that plugins add."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from textrl.cli import main
from textrl.cli.app import split_switches
from textrl.cli.run import find_config, overrides_from
from textrl.errors import UserError
from textrl.registry import get_registry

Install = Callable[..., None]
PluginFile = Callable[[str, str], str]
Capture = pytest.CaptureFixture[str]

REWARD = """
from dataclasses import dataclass

@dataclass(frozen=True)
class SwearSettings:
    '''Settings.

    Attributes:
        words: What is not said.
    '''

    words: tuple[str, ...]
    weight: float = 0.5

class Swear: ...

@hookimpl
def textrl_rewards():
    yield RewardSpec(name="swear", target="my_rude:Swear", settings="my_rude:SwearSettings",
                     summary="counts swear words", needs=frozenset({"text"}))
"""
COMMAND = """
import sys

def act(what: str, *, times: int = 1) -> int:
    '''Act.'''
    if what == "interrupt":
        raise KeyboardInterrupt
    if what == "mistake":
        from textrl.errors import UserError
        raise UserError("one thing\\nis wrong.")
    print(f"acting {what} {times}", len(sys.modules))
    return 7

@hookimpl
def textrl_commands():
    yield CommandSpec(name="act", target="my_act:act", summary="acts")
    yield CommandSpec(name="lost", target="no_such_module_at_all:act", summary="cannot be imported")
"""


def out(capsys: Capture, *argv: str, code: int = 0) -> str:
    """Run a command line in this process and return what it printed."""
    assert main(argv) == code
    captured = capsys.readouterr()
    assert captured.err == "" or code
    return captured.out


def error(capsys: Capture, *argv: str, code: int = 2) -> str:
    """Run a command line that fails and return its one line on stderr."""
    assert main(argv) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.rstrip("\n")


def test_plugins_lists_every_plugin_with_what_it_offers(capsys: Capture) -> None:
    printed = out(capsys, "plugins")
    for plugin in get_registry().plugins:
        assert plugin.name in printed
    rows = json.loads(out(capsys, "plugins", "--json"))
    assert [row["name"] for row in rows] == [plugin.name for plugin in get_registry().plugins]
    builtin = next(row for row in rows if row["name"] == "builtin")
    assert builtin["offers"]["learner"][:2] == ["ppo_ptx", "sarsa"]
    assert builtin["offers"]["model"] == ["smollm2-135m", "tiny-gpt2"]


def test_a_broken_plugin_stands_in_the_listing_with_its_traceback(capsys: Capture, install: Install) -> None:
    install("oops", "def f():\n    import no_such_module\nf()")
    assert "BROKEN: ModuleNotFoundError: No module named 'no_such_module'" in out(capsys, "plugins")
    detail = out(capsys, "plugins", "oops")
    assert "status" in detail
    assert "import no_such_module" in detail
    record = json.loads(out(capsys, "plugins", "oops", "--json"))
    assert record["status"] == "broken"
    assert "Traceback" in record["traceback"]


def test_a_listing_of_records_warns_about_broken_plugins(capsys: Capture, install: Install) -> None:
    install("oops", "import no_such_module")
    assert main(["rewards"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("textrl: warning: plugin 'oops' is broken: ModuleNotFoundError")
    assert "textrl rewards NAME" in captured.out


@pytest.mark.parametrize("kind", ["reward", "env", "learner", "model"])
def test_every_record_is_listed_and_shown(capsys: Capture, kind: str) -> None:
    listing = f"{kind}s"
    rows = json.loads(out(capsys, listing, "--json"))
    specs = get_registry().specs(kind)
    assert [row["name"] for row in rows] == list(specs)
    printed = out(capsys, listing)
    for name, spec in specs.items():
        assert name in printed
        assert spec.summary in printed, "a pipe gets whole rows"
    assert [row["plugin"] for row in rows] == [get_registry().owner(kind, name) for name in specs]


def test_a_listing_of_nothing_says_which_hook_would_fill_it(capsys: Capture) -> None:
    assert "textrl_feedback" in out(capsys, "trainers", "--disable", "human")


def test_one_reward_in_detail_shows_its_settings(capsys: Capture, plugin_file: PluginFile) -> None:
    path = plugin_file("my_rude", REWARD)
    printed = out(capsys, "--plugin", path, "rewards", "swear")
    for part in (
        f"plugin 'my_rude' ({path})",
        "granularity  episode",
        "needs        text",
        "words: tuple[str, ...] required",
        "What is not said.",
        "weight: float = 0.5",
    ):
        assert part in printed
    record = json.loads(out(capsys, "rewards", "swear", "--json", f"--plugin={path}"))
    assert record["fields"][0] == {
        "name": "words",
        "type": "tuple[str, ...]",
        "default": None,
        "required": True,
        "help": "What is not said.",
    }
    assert record["error"] == ""


def test_settings_that_cannot_be_imported_are_an_error_in_the_detail(
    capsys: Capture, plugin_file: PluginFile
) -> None:
    path = plugin_file("my_rude", REWARD.replace("my_rude:SwearSettings", "gone_module:X"))
    assert "ERROR: 'swear' cannot be loaded: importing gone_module" in out(
        capsys, "rewards", "swear", "--plugin", path
    )


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["rewards", "lenth"], "There is no reward 'lenth'. Did you mean 'length'?"),
        (["plugins", "rulez"], "There is no plugin 'rulez'. Did you mean 'rules'?"),
        (["learners", "ppo_pt"], "There is no learner 'ppo_pt'. Did you mean 'ppo_ptx'?"),
        (["rewads"], 'Unknown command "rewads". Did you mean "rewards"?'),
        (["rewards", "--jsn"], "Unknown option: --jsn. Did you mean --json?"),
        (["rewards", "a", "b"], "Unused Tokens: ['b']"),
        (["run"], 'Command "run" parameter CONFIG requires an argument'),
        (["check"], 'Command "check" parameter TARGET requires an argument'),
        (["check", "lenth"], "no plugin and no record called 'lenth'. Did you mean 'length'?"),
        (["check", "nope.py"], "There is no plugin file 'nope.py'"),
        (["--plugin"], "--plugin needs a value, for example --plugin my_reward.py"),
        (["plugins", "--disable", "nope"], "There is no plugin 'nope' to disable"),
        (["new", "reward", "Bad-Name"], "'Bad-Name' cannot be the name of a reward"),
        (["new", "reward", "kl"], "The reward 'kl' exists already, in plugin 'kl' (textrl-mdp"),
        (["run", "nope.yaml"], "There is no config file 'nope.yaml'."),
        (["run", "nope"], "There is no config file 'nope' and no config of that name."),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    message = error(capsys, *argv)
    assert message.startswith("textrl: error: ")
    assert says in message
    assert list(tmp_path.iterdir()) == [], "nothing is written"


def test_an_unknown_command_mentions_broken_plugins(capsys: Capture, install: Install) -> None:
    install("oops", "import no_such_module")
    assert "It may be in a plugin that is broken: oops" in error(capsys, "serve")


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_names_every_command_and_the_switches(
    capsys: Capture, argv: list[str], plugin_file: PluginFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEXTRL_PLUGINS", plugin_file("my_act", COMMAND))
    printed = out(capsys, *argv)
    for word in (
        "run",
        "plugins",
        "rewards",
        "envs",
        "learners",
        "models",
        "trainers",
        "feedback",
        "new",
        "check",
    ):
        assert f" {word} " in printed
    for switch in ("--plugin", "--disable", "--strict", "--version", "textrl run configs/quickstart.yaml"):
        assert switch in printed
    assert "cannot be imported" in printed, "a plugin's command is listed without importing it"


@pytest.mark.parametrize("command", ["run", "plugins", "rewards", "new", "new reward", "check"])
def test_every_command_has_an_example_in_its_help(capsys: Capture, command: str) -> None:
    printed = out(capsys, *command.split(), "--help")
    assert "Example" in printed
    assert f"textrl {command}" in printed


def test_version(capsys: Capture) -> None:
    import textrl

    assert out(capsys, "--version") == f"textrl {textrl.__version__}\n"


def test_a_plugin_adds_a_command(capsys: Capture, plugin_file: PluginFile) -> None:
    path = plugin_file("my_act", COMMAND)
    printed = out(capsys, "act", "now", "--times", "3", "--plugin", path, code=7)
    assert printed.startswith("acting now 3")
    assert "Unknown command" in error(capsys, "act", "now")
    assert "'lost' cannot be loaded: importing no_such_module_at_all" in error(
        capsys, "lost", "--plugin", path
    )


def test_errors_and_interrupts_leave_the_process_as_they_should(
    capsys: Capture, plugin_file: PluginFile
) -> None:
    path = plugin_file("my_act", COMMAND)
    assert error(capsys, "act", "mistake", "--plugin", path) == "textrl: error: one thing is wrong."
    assert error(capsys, "act", "interrupt", "--plugin", path, code=130) == "textrl: interrupted"


def test_a_plugin_cannot_take_the_name_of_a_core_command(capsys: Capture, plugin_file: PluginFile) -> None:
    path = plugin_file("my_act", COMMAND.replace('"act"', '"run"'))
    message = error(capsys, "--help", "--plugin", path)
    assert f"The command 'run' of plugin 'my_act' ({path}) is one of textrl's own" in message


def test_switches_are_taken_from_anywhere_and_leave_no_trace(
    capsys: Capture, plugin_file: PluginFile
) -> None:
    assert split_switches(
        ["--strict", "run", "c", "--plugin=a.py", "--x", "1", "--disable", "k", "--plugin", "b"]
    ) == (
        ["a.py", "b"],
        ["k"],
        True,
        ["run", "c", "--x", "1"],
    )
    assert split_switches(["run", "--", "--strict"]) == ([], [], False, ["run", "--", "--strict"])
    with pytest.raises(UserError, match="--disable needs a value"):
        split_switches(["--disable"])
    before = dict(os.environ)
    out(capsys, "plugins", "--disable", "kl", "--plugin", plugin_file("my_rude", REWARD), "--strict")
    assert dict(os.environ) == before


def test_disable_and_strict_reach_the_listing(capsys: Capture, install: Install) -> None:
    install("oops", "import no_such_module")
    assert "'oops' is broken and --strict is on" in error(capsys, "plugins", "--strict")
    rows = json.loads(out(capsys, "plugins", "--json", "--strict", "--disable", "oops"))
    assert {row["name"]: row["status"] for row in rows}["oops"] == "disabled"


@pytest.mark.parametrize(
    ("tokens", "overrides"),
    [
        ([], []),
        (["--a.b", "3"], ["a.b=3"]),
        (["--a.b=3"], ["a.b=3"]),
        (["--a.b", "-3"], ["a.b=-3"]),
        (["--a.b", "[1, 2]", "--c", "x=y"], ["a.b=[1, 2]", "c=x=y"]),
        (["--a.b=--c"], ["a.b=--c"]),
        (["--a.b="], ["a.b="]),
        (["--sources.rm.model", "some/model"], ["sources.rm.model=some/model"]),
    ],
)
def test_overrides_in_both_spellings(tokens: list[str], overrides: list[str]) -> None:
    assert overrides_from(tokens) == overrides


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        (["--a.b"], "--a.b needs a value, as in --a.b 1."),
        (["--a.b", "--c.d", "1"], "--a.b needs a value"),
        (["--resum"], "--resum needs a value, as in --resum 1. Did you mean '--resume'?"),
        (["stray"], "'stray' is not an override; write --section.key value."),
        (["-n", "x"], "'-n' is not an override"),
    ],
)
def test_overrides_that_are_none(tokens: list[str], says: str) -> None:
    with pytest.raises(UserError) as caught:
        overrides_from(tokens)
    assert says in str(caught.value)


def test_a_config_is_found_by_path_or_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.yaml").write_text("a: 1")
    assert find_config("mine") == Path("configs/mine.yaml")
    assert find_config("configs/mine.yaml") == Path("configs/mine.yaml")
    assert find_config("other.yaml") == Path("other.yaml"), "load_config explains what is wrong with it"
    with pytest.raises(UserError, match=r"no config of that name\. Did you mean 'mine'\?"):
        find_config("mien")


def test_run_checks_the_run_folder_before_anything_heavy(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("a: 1\n")
    assert "There is no run in 'runs/c' to resume" in error(capsys, "run", "c.yaml", "--resume")
    (tmp_path / "runs" / "c").mkdir(parents=True)
    (tmp_path / "runs" / "c" / "config.yaml").touch()
    assert "'runs/c' holds a run already; add --resume" in error(capsys, "run", "c.yaml")
    assert "'../c' cannot be the name of a run" in error(capsys, "run", "c.yaml", "--name", "../c")
    message = error(capsys, "run", "c.yaml", "--name", "x", "--runs-dir", "elsewhere")
    there = "rlhf, frontier, reward_model, online_loop, summarize"
    assert message == f"textrl: error: c.yaml: name a 'pipeline' ({there}) or a 'learner'."
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.yaml", "runs"], "nothing half-written"
    message = error(capsys, "run", "c.yaml", "--name", "x", "--pipeline", "rlfh")
    assert "command line (--pipeline): there is no pipeline 'rlfh'. Did you mean 'rlhf'?" in message


def test_help_of_run_lists_the_keys_of_a_config_and_of_its_plugins(
    capsys: Capture, tmp_path: Path, plugin_file: PluginFile
) -> None:
    path = plugin_file("my_rude", REWARD)
    config = tmp_path / "c.yaml"
    config.write_text("a: 1\nb: {c: [1, x], d: {}}\nsources:\n  bad: {use: swear, weight: 2}\n  kl:\n")
    printed = out(capsys, "run", str(config), "--help", "--plugin", path)
    for line in ("--a 1", '--b.c [1, "x"]', "--b.d {}", "--sources.bad.use swear", "--sources.bad.weight 2"):
        assert f"  {line}\n" in printed
    assert "  --sources.bad.words (required)\n      tuple[str, ...]. What is not said.\n" in printed
    assert "--sources.bad.weight 0.5" not in printed
    assert "  --sources.kl.target 6.0\n" in printed
    config.write_text("learner: ppo_ptx\nsettings: {policy: x}\n")
    assert "--settings.learning_rate" in out(capsys, "run", str(config), "-h")
    config.write_text("sources: {lenth: {}}\n")
    assert main(["run", str(config), "--help"]) == 2
    assert "There is no reward 'lenth'. Did you mean 'length'?" in capsys.readouterr().err


def test_check_passes_a_good_plugin_and_fails_a_bad_one(capsys: Capture, plugin_file: PluginFile) -> None:
    printed = out(capsys, "check", "repetition")
    assert "reward repetition" in printed
    assert "FAIL" not in printed
    path = plugin_file("my_rude", REWARD)  # its reward cannot be built: it takes no settings
    findings: list[dict[str, Any]] = json.loads(out(capsys, "check", path, "--json", code=1))
    assert findings[0]["subject"] == "plugin my_rude"
    assert findings[0]["ok"]
    assert {finding["subject"] for finding in findings[1:]} == {"reward swear"}
    assert not all(finding["ok"] for finding in findings)


def test_check_reports_a_plugin_that_does_not_load(capsys: Capture, plugin_file: PluginFile) -> None:
    path = plugin_file("my_rude", "import no_such_module")
    printed = out(capsys, "check", path, code=1)
    assert "FAIL loads: ModuleNotFoundError" in printed
    assert "0 of 1 checks passed." in printed
