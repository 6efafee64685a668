"""``textrl new reward NAME``: a package that installs, is found by textrl and passes its own tests."""

from __future__ import annotations

import os
import re
import tempfile
from importlib import resources
from pathlib import Path
from string import Template

from cyclopts import App, Group

from textrl.errors import UserError
from textrl.registry import get_registry

#: Template -> where it goes in the new package.
_FILES = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "README.md.tmpl": "README.md",
    "__init__.py.tmpl": "src/$package/__init__.py",
    "settings.py.tmpl": "src/$package/settings.py",
    "reward.py.tmpl": "src/$package/reward.py",
    "test_reward.py.tmpl": "tests/test_$name.py",
}


def add_to(app: App, group: Group) -> None:
    """Add ``new`` and its sub-commands to the app."""
    new = App(
        name="new",
        help="Write a plugin of your own from a template.",
        help_epilogue="Example: `textrl new reward politeness`",
        group=group,
    )
    new.command(new_reward, name="reward", help_epilogue="Example: `textrl new reward politeness`")
    app.command(new)


def new_reward(name: str, /, *, dir: Path | None = None) -> None:
    """Write a package with a working reward: entry point, settings, code, tests.

    Args:
        name: The reward's name: lower-case letters, digits and underscores.
        dir: The folder to make; textrl-NAME in the current one by default.
    """
    folder = write_reward(name, dir)
    print(f"Wrote {folder}. Next:\n")
    print(f"    pip install -e {folder}")
    print(f"    textrl check {name}")
    print(f"    python -m pytest {folder}")


def write_reward(name: str, folder: Path | None = None) -> Path:
    """Write the package and return its folder; either all of it appears or nothing.

    Raises:
        UserError: When the name cannot be one, is taken, or the folder exists already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name.endswith("_"):
        raise UserError(
            f"'{name}' cannot be the name of a reward; use lower-case letters, digits and underscores, "
            "beginning with a letter, for example 'politeness'."
        )
    registry = get_registry()
    if name in registry.specs("reward"):
        raise UserError(
            f"The reward '{name}' exists already, in {registry.owner('reward', name)}; choose another name."
        )
    folder = folder or Path(f"textrl-{name.replace('_', '-')}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"'{folder}' exists already and is not empty; name another folder with --dir.")
    words = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "package": f"textrl_{name}",
        "camel": "".join(part.capitalize() for part in name.split("_")),
    }
    templates = resources.files("textrl") / "templates" / "reward"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".textrl-new-") as temporary:
            made = Path(temporary) / "package"
            for source, destination in _FILES.items():
                path = made / Template(destination).substitute(words)
                path.parent.mkdir(parents=True, exist_ok=True)
                text = (templates / source).read_text(encoding="utf-8")
                path.write_text(Template(text).substitute(words), encoding="utf-8")
            os.replace(made, folder)
    except OSError as error:
        raise UserError(f"'{folder}' cannot be written: {error.strerror}; choose another --dir.") from error
    return folder
