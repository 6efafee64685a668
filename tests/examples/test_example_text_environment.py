"""A text environment in one file, as the page has it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = pytest.mark.timeout(900)  # a dozen processes, on a machine that others may use


def test_the_page_can_be_followed(reader: Callable[..., dict[str, str]]) -> None:
    printed = reader("text_environment.md")
    solved = printed["python play.py"].splitlines()[-1]
    assert solved.count(": 1.0") == 5, "all five prompts"
