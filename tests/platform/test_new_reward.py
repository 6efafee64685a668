"""``textrl new reward``: what it writes installs with pip, is found, conforms and passes its own tests."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from textrl.cli import main
from textrl.cli.new import write_reward
from textrl.errors import UserError


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A virtual environment of its own that also sees everything installed here; runs ``python ARGS``."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    here = next(path for path in sys.path if path.endswith("site-packages"))
    # addsitedir and not a plain path: only it follows this environment's own editable installs.
    (site / "outer.pth").write_text(f"import site; site.addsitedir({here!r})\n")

    def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        python = str(folder / "bin" / "python")
        command = [python, *arguments]
        if arguments[:2] == ("-m", "pip"):
            command = [sys.executable, "-m", "pip", "--python", python, *arguments[2:]]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, cwd=cwd)

    return run


def test_the_package_installs_is_found_and_passes_its_own_tests(
    tmp_path: Path, environment: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """A real ``pip install -e``; costs about 10 s, most of it the import of torch in its tests."""
    made = environment("-m", "textrl.cli", "new", "reward", "very_polite", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    package = tmp_path / "textrl-very-polite"
    assert f"pip install -e {package.name}" in made.stdout
    # No build isolation: the test must pass without a network, and hatchling is among the extras for it.
    pip = environment(
        "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-e", str(package)
    )
    assert pip.returncode == 0, pip.stderr
    listed = environment("-m", "textrl.cli", "rewards", "very_polite", cwd=tmp_path)
    assert "plugin 'very_polite' (textrl-very-polite 0.1.0)" in listed.stdout
    assert "words: tuple[str, ...] = " in listed.stdout
    tests = environment("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=package)
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert "3 passed" in tests.stdout


def test_the_package_names_no_dependency_that_a_stranger_could_publish(tmp_path: Path) -> None:
    project = tomllib.loads((write_reward("kind", tmp_path / "kind") / "pyproject.toml").read_text())
    published = {"hatchling", "pytest"}
    named = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    named += [name for extra in project["project"]["optional-dependencies"].values() for name in extra]
    assert {name.split(">")[0] for name in named} <= published
    assert project["project"]["entry-points"]["textrl"] == {"kind": "textrl_kind"}


def test_what_is_written_is_tidy(tmp_path: Path) -> None:
    folder = write_reward("kind", tmp_path / "a" / "kind")
    assert not [path for path in folder.rglob("*") if path.is_file() and "$" in path.read_text()]
    ruff = [sys.executable, "-m", "ruff"]
    for part in (["check", "--select", "E,F,I,UP,B,SIM,RUF,PT"], ["format", "--check"]):
        command = [*ruff, *part, "--isolated", "--line-length", "110", "."]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["kind"], "no temporary folder is left"


@pytest.mark.parametrize("name", ["Kind", "1st", "two-words", "a b", "", "trailing_", "ünder"])
def test_names_that_cannot_be_packages(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name of a reward"):
        write_reward(name, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["new", "reward", "kind", "--dir", str(tmp_path)]) == 2
    assert "exists already and is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert main(["new", "reward", "kind", "--dir", str(tmp_path / "notes.txt" / "sub")]) == 2
    assert "cannot be written: " in capsys.readouterr().err


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    assert (write_reward("kind", tmp_path / "here") / "pyproject.toml").is_file()
