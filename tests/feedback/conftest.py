"""What the page's tests share: one browser a module, and visits that end with their test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import feedback_pages as pages
import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pages.chromium() as running:
        yield running


@pytest.fixture
def visits(browser: Any) -> Iterator[list[pages.Visit]]:
    made: list[pages.Visit] = []
    yield made
    for visit in made:
        visit.close()
