"""A stranger's path from `textrl new reward` to a trained model, as the page has it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.timeout(900)  # a dozen processes, on a machine that others may use


def test_the_page_can_be_followed(reader: Callable[..., dict[str, str]]) -> None:
    printed = reader("reward_plugin.md")
    figures = re.search(r"euphony (\S+) -> (\S+), KL", printed["python listen.py"])
    assert figures
    before, after = map(float, figures.groups())
    assert 0.45 < before < 0.65, "random text takes turns about every other time"
    assert after - before > 0.1
