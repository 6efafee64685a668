"""A new environment, from `textrl new env` to two trained learners, as the page has it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.timeout(900)  # a dozen processes, on a machine that others may use


def test_the_page_can_be_followed(reader: Callable[..., dict[str, str]]) -> None:
    printed = reader("environment.md")
    rows = re.findall(r"^(.+?) +(-[\d.]+)$", printed["python compare.py"], re.M)
    returns = {name: float(value) for name, value in rows}
    assert set(returns) == {"never heat", "below 20", "sarsa", "sb3/ppo"}
    assert (
        min(returns["sarsa"], returns["sb3/ppo"]) > 1.25 * returns["below 20"] > 0.25 * returns["never heat"]
    )
