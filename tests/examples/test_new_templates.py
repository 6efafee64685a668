"""``textrl new env | learner``: what is written conforms and passes its own tests; all configs train.

The reward's package is installed with pip and tested in tests/platform/test_new_reward.py.
"""

from __future__ import annotations

import inspect
import json
import os
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

from textrl import registry
from textrl.cli import main
from textrl.cli.new import KINDS, write_package
from textrl.errors import UserError

NAMES = {"reward": "very_kind", "env": "long_walk", "learner": "two_tables"}


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Path]]:
    """One package of each kind, on the path and known to textrl for the length of a test."""
    before = set(sys.modules)
    made = {kind: write_package(kind, name, tmp_path / kind) for kind, name in NAMES.items()}
    sources = [str(folder / "src") for folder in made.values()]
    for source in sources:
        monkeypatch.syspath_prepend(source)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sources))
    monkeypatch.setenv("TEXTRL_PLUGINS", os.pathsep.join(f"textrl_{name}" for name in NAMES.values()))
    # A process imports it once, for plugins that do not change; here an earlier test may have imported it.
    monkeypatch.delitem(sys.modules, "textrl.envs", raising=False)
    monkeypatch.chdir(tmp_path)
    registry.refresh()
    registered = set(gymnasium.registry)
    yield made
    for name in set(gymnasium.registry) - registered:
        del gymnasium.registry[name]
    for module in set(sys.modules) - before:
        if module.startswith(tuple(f"textrl_{name}" for name in NAMES.values())):
            del sys.modules[module]
    registry.refresh()


@pytest.mark.parametrize(("kind", "tests"), [("env", 2), ("learner", 3)])
def test_a_package_passes_its_own_tests(
    packages: dict[str, Path], tmp_path: Path, kind: str, tests: int
) -> None:
    """In this process, where torch is imported already; the pages run such tests as their readers do."""
    found = runpy.run_path(str(packages[kind] / "tests" / f"test_{NAMES[kind]}.py"))
    own = [function for name, function in found.items() if name.startswith("test_")]
    assert len(own) == tests
    for function in own:
        function(*([tmp_path] if "tmp_path" in inspect.signature(function).parameters else []))


@pytest.mark.parametrize(
    ("kind", "short"),
    [
        ("reward", ["--total_timesteps", "200"]),
        ("env", ["--episodes", "60"]),
        ("learner", ["--episodes", "60"]),
    ],
)
def test_its_config_trains(packages: dict[str, Path], kind: str, short: list[str]) -> None:
    assert main(["run", str(packages[kind] / "train.yaml"), *short]) == 0
    rows = [json.loads(line) for line in Path("runs/train/metrics.jsonl").read_text().splitlines()]
    if kind == "reward":
        assert "reward/very_kind" in rows[0]
        return
    returns = [row["rollout/ep_rew"] for row in rows]
    assert sum(returns[-20:]) > 0.8 * sum(returns[:20]), "less is lost than at first"


@pytest.mark.parametrize("kind", ["env", "learner"])
def test_what_is_written_is_tidy_and_names_its_entry_point(tmp_path: Path, kind: str) -> None:
    folder = write_package(kind, "kind", tmp_path / "kind")
    assert not [path for path in folder.rglob("*") if path.is_file() and "$" in path.read_text()]
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["textrl"] == {"kind": "textrl_kind"}
    assert project["dependencies"] == []
    ruff = [sys.executable, "-m", "ruff"]
    for part in (["check", "--select", "E,F,I,UP,B,SIM,RUF,PT"], ["format", "--check"]):
        command = [*ruff, *part, "--isolated", "--line-length", "110", "."]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("env", "Maze", "'Maze' cannot be the name of an env"),
        ("learner", "a-b", "'a-b' cannot be the name of a learner"),
        ("learner", "sarsa", "The learner 'sarsa' exists already, in plugin 'builtin'"),
        ("env", "kl", "A plugin 'kl' is installed already"),
        ("reward", "length", "The reward 'length' exists already"),
    ],
)
def test_names_that_cannot_be(tmp_path: Path, kind: str, name: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        write_package(kind, name, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", kind, "my_own"]) == 0
    said = capsys.readouterr().out
    for line in ("pip install -e textrl-my-own", "textrl check my_own", "textrl run train.yaml"):
        assert f"    {line}\n" in said
    assert (tmp_path / "textrl-my-own" / ".gitignore").is_file()
