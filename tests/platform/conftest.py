"""Fixtures: plugins that are really installed, as a directory with dist-info on the path."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from installing import HEADER, write_distribution

from textrl import registry


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install packages for one test: ``install("my-plugin", code)``."""
    site = tmp_path / "site"
    site.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(site))
    registry.refresh()

    def do(name: str, code: str, **more: str) -> None:
        write_distribution(site, name, code, **more)
        registry.refresh()

    yield do
    for module in set(sys.modules) - before:
        file = getattr(sys.modules[module], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[module]
    registry.refresh()


@pytest.fixture
def plugin_file(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Write a plugin file and return its path: ``plugin_file("mine", code)``."""
    before = set(sys.modules)

    def do(name: str, code: str) -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(HEADER + code, encoding="utf-8")
        return str(path)

    registry.refresh()
    yield do
    for module in set(sys.modules) - before:
        file = getattr(sys.modules[module], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[module]
    registry.refresh()


def textrl_process(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``textrl`` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "textrl.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env={**os.environ, **env},
    )


@pytest.fixture
def run_process() -> Callable[..., subprocess.CompletedProcess[str]]:
    return textrl_process
