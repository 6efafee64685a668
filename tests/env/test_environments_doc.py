"""Every code block of docs/environments.md runs, and prints what stands below it."""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "environments.md"
BLOCKS = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def run_page(text: str) -> list[tuple[str, str]]:
    """Run the blocks one after the other; return (printed, written in the page)."""
    names: dict[str, object] = {}
    results = []
    for code, written in BLOCKS.findall(text):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(PAGE), "exec"), names)
        results.append((printed.getvalue(), written))
    return results


def test_the_outputs_in_the_page_are_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    results = run_page(text)
    assert len(results) == text.count("```python") == 5
    for printed, written in results:
        assert printed == written


if __name__ == "__main__":  # writes the outputs anew: python tests/env/test_environments_doc.py
    import tempfile

    page = PAGE.read_text(encoding="utf-8")
    os.chdir(tempfile.mkdtemp())
    outputs = iter([printed for printed, _ in run_page(page)])
    PAGE.write_text(
        BLOCKS.sub(lambda block: f"```python\n{block[1]}```\n\n```text\n{next(outputs)}```", page),
        encoding="utf-8",
    )
