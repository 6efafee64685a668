"""A new learner, from `textrl new learner` to a known optimum, as the page has it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytestmark = pytest.mark.timeout(900)  # a dozen processes, on a machine that others may use


def test_the_page_can_be_followed(reader: Callable[..., dict[str, str]]) -> None:
    printed = reader("learner.md")
    assert "after 50 episodes: -13" in printed["python grade.py"], "the optimum of the cliff"
