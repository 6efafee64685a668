"""Where the pages of docs/examples are followed: an empty folder and a throw-away virtual environment."""

from __future__ import annotations

import os
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from walkthrough import follow

PAGES = Path(__file__).parents[2] / "docs" / "examples"
# No network, and hatchling is installed here: neither an index nor an isolated build.
_PIP = """#!/bin/sh
shift
exec {python} -m pip --python {here} install -q --no-deps --no-build-isolation --no-index "$@"
"""


@pytest.fixture
def reader(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Follow a page: ``reader("learner.md", NAME="value")``; returns what each command printed."""
    made = tmp_path / "venv"
    venv.create(made, with_pip=False, symlinks=True)
    (site,) = made.glob("lib/python*/site-packages")
    outer = next(path for path in sys.path if path.endswith("site-packages"))
    # addsitedir and not a plain path: only it follows this environment's own editable installs.
    (site / "outer.pth").write_text(f"import site; site.addsitedir({outer!r})\n")
    python = made / "bin" / "python"
    scripts = {
        "pip": _PIP.format(python=sys.executable, here=python),
        "textrl": f'#!/bin/sh\nexec {python} -m textrl.cli "$@"\n',
    }
    for name, text in scripts.items():
        (made / "bin" / name).write_text(text)
        (made / "bin" / name).chmod(0o755)
    folder = tmp_path / "reader"
    folder.mkdir()
    hidden = {"TEXTRL_PLUGINS", "TEXTRL_DISABLE", "TEXTRL_STRICT", "PYTEST_CURRENT_TEST"}
    known = {key: value for key, value in os.environ.items() if key not in hidden}
    known |= {
        "PATH": f"{made / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(made),
        "COLUMNS": "110",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # a reader has pytest alone
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        **{
            f"GIT_{who}_{what}": "reader@example.org"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }

    def run(page: str, **more: str) -> dict[str, str]:
        return follow(PAGES / page, folder, known | more)

    return run
