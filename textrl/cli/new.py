"""``textrl new reward | env | learner NAME``: a package that installs, is found and passes its own tests."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from cyclopts import App, Group

from textrl.errors import UserError
from textrl.registry import get_registry


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What can be written.

    Attributes:
        what: How the package is described.
        comes: What textrl brings that the package needs.
        record: Name of its record in the registry, a template.
        files: Its own templates, beside the shared ones -> where each goes in the package.
    """

    what: str
    comes: str
    record: str
    files: Mapping[str, str]


_SHARED = {"pyproject.toml.tmpl": "pyproject.toml", "gitignore.tmpl": ".gitignore"}
_EACH = {
    "README.md.tmpl": "README.md",
    "train.yaml.tmpl": "train.yaml",
    "__init__.py.tmpl": "src/$package/__init__.py",
}
_SETTINGS = {"settings.py.tmpl": "src/$package/settings.py"}

#: Each kind has a folder of templates of the same name.
KINDS: Mapping[str, Kind] = {
    "reward": Kind(
        what="A source of reward",
        comes="torch comes with it",
        record="$name",
        files={
            **_EACH,
            **_SETTINGS,
            "reward.py.tmpl": "src/$package/reward.py",
            "test_reward.py.tmpl": "tests/test_$name.py",
        },
    ),
    "env": Kind(
        what="An environment",
        comes="Gymnasium comes with it",
        record="Mine/$camel-v0",
        files={**_EACH, "env.py.tmpl": "src/$package/env.py", "test_env.py.tmpl": "tests/test_$name.py"},
    ),
    "learner": Kind(
        what="A learner",
        comes="numpy comes with it",
        record="$name",
        files={
            **_EACH,
            **_SETTINGS,
            "learner.py.tmpl": "src/$package/learner.py",
            "test_learner.py.tmpl": "tests/test_$name.py",
        },
    ),
}


def add_to(app: App, group: Group) -> None:
    """Add ``new`` and its sub-commands to the app."""
    new = App(
        name="new",
        help="Write a plugin of your own from a template.",
        help_epilogue="Examples: `textrl new reward politeness`, `textrl new env maze`",
        group=group,
    )
    new.command(new_reward, name="reward", help_epilogue="Example: `textrl new reward politeness`")
    new.command(new_env, name="env", help_epilogue="Example: `textrl new env maze`")
    new.command(new_learner, name="learner", help_epilogue="Example: `textrl new learner double_q`")
    app.command(new)


def new_reward(name: str, /, *, dir: Path | None = None) -> None:
    """Write a package with a working reward: entry point, settings, code, tests, a config that trains on it.

    Args:
        name: The reward's name: lower-case letters, digits and underscores.
        dir: The folder to make; textrl-NAME in the current one by default.
    """
    _tell(write_package("reward", name, dir), name)


def new_env(name: str, /, *, dir: Path | None = None) -> None:
    """Write a package with a working environment: entry point, code, tests, a config that trains in it.

    Args:
        name: Lower-case letters, digits and underscores; 'maze' makes the environment Mine/Maze-v0.
        dir: The folder to make; textrl-NAME in the current one by default.
    """
    _tell(write_package("env", name, dir), name)


def new_learner(name: str, /, *, dir: Path | None = None) -> None:
    """Write a package with a working learner: entry point, settings, code, tests, a config that trains it.

    Args:
        name: The learner's name: lower-case letters, digits and underscores.
        dir: The folder to make; textrl-NAME in the current one by default.
    """
    _tell(write_package("learner", name, dir), name)


def write_reward(name: str, folder: Path | None = None) -> Path:
    """Write the package of a reward; see `write_package`."""
    return write_package("reward", name, folder)


def write_package(kind: str, name: str, folder: Path | None = None) -> Path:
    """Write the package and return its folder; either all of it appears or nothing.

    Args:
        kind: One of `KINDS`.
        name: Lower-case letters, digits and underscores.
        folder: textrl-NAME in the current one by default.

    Raises:
        UserError: When the name cannot be one, is taken, or the folder exists already.
    """
    article = "an" if kind == "env" else "a"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name.endswith("_"):
        raise UserError(
            f"'{name}' cannot be the name of {article} {kind}; use lower-case letters, digits and "
            "underscores, beginning with a letter, for example 'politeness'."
        )
    words = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "package": f"textrl_{name}",
        "camel": "".join(part.capitalize() for part in name.split("_")),
        "what": KINDS[kind].what,
        "comes": KINDS[kind].comes,
    }
    _check_free(kind, name, Template(KINDS[kind].record).substitute(words))
    folder = folder or Path(f"textrl-{words['dashed']}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"'{folder}' exists already and is not empty; name another folder with --dir.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".textrl-new-") as temporary:
            made = Path(temporary) / "package"
            _fill(made, "shared", _SHARED, words)
            _fill(made, kind, KINDS[kind].files, words)
            os.replace(made, folder)
    except OSError as error:
        raise UserError(f"'{folder}' cannot be written: {error.strerror}; choose another --dir.") from error
    return folder


def _check_free(kind: str, name: str, record: str) -> None:
    """Refuse a name that something has already.

    Raises:
        UserError: Names the owner.
    """
    registry = get_registry()
    if record in registry.specs(kind):
        raise UserError(
            f"The {kind} '{record}' exists already, in {registry.owner(kind, record)}; choose another name."
        )
    if any(plugin.name == name for plugin in registry.plugins):
        raise UserError(f"A plugin '{name}' is installed already; choose another name.")


def _fill(made: Path, templates: str, files: Mapping[str, str], words: Mapping[str, str]) -> None:
    """Write templates into a folder, with their words filled in."""
    folder = resources.files("textrl") / "templates" / templates
    for source, destination in files.items():
        path = made / Template(destination).substitute(words)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (folder / source).read_text(encoding="utf-8")
        path.write_text(Template(text).substitute(words), encoding="utf-8")


def _tell(folder: Path, name: str) -> None:
    print(f"Wrote {folder}. Next:\n")
    print(f"    pip install -e {folder}")
    print(f"    cd {folder}")
    print(f"    textrl check {name}")
    print("    python -m pytest")
    print("    textrl run train.yaml")
