"""Opens the page of a reward evaluation in chromium, at phone and desktop width."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import chromium
import numpy as np
import pytest

from textrl.evaluation.reward_models.comparisons import Ranking, TextTable, from_rankings
from textrl.evaluation.reward_models.evaluate import Options, Scored, evaluate
from textrl.evaluation.reward_models.page import render

pytestmark = pytest.mark.browser

_WIDER_THAN_PAGE = """
(() => { const width = document.documentElement.clientWidth, out = [];
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('.scroll') && !e.matches('.scroll')) continue;
    const box = e.getBoundingClientRect();
    if (box.width && (box.right > width + 1 || box.left < -1)) out.push(e.outerHTML.slice(0, 80));
  } return out; })()
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[chromium.Browser]:
    binary = chromium.find()
    if binary is None:
        pytest.skip("no chromium binary on the PATH")
    with chromium.Browser(binary) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    table, rankings = TextTable(), []
    for prompt in range(60):
        texts = [table.index(f"prompt {prompt}", "word " * (1 + i) + f"{prompt} <b>!") for i in range(3)]
        for who in ("annotator-with-a-name-that-is-much-too-long-for-a-phone@example.org", "b"):
            ranks = tuple(float(rank) for rank in rng.permutation(3))
            rankings.append(Ranking(tuple(texts), ranks, annotator=who, shown=True))
    data = from_rankings("a/very/long/path/to/some/rankings-of-people.jsonl", table, rankings)
    scores = [rng.normal(size=len(data.texts)) for _ in range(3)]
    members = [Scored(f"runs/a-long-name/member-{i}/reward_model", "a model", scores[i]) for i in range(2)]
    beside = [Scored("judge", "another scorer, about which much can be said in words", scores[2])]
    found = evaluate(data, members, beside, Options(by=("annotator",), resamples=100))
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(found, "textrl eval reward " + "x" * 200), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [320, 375, 1200])
def test_the_page_fits_the_screen_and_stays_quiet(browser: chromium.Browser, page: Path, width: int) -> None:
    browser.open(page, width=width, dark=width == 375)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate(_WIDER_THAN_PAGE) == []
    assert browser.evaluate("document.querySelectorAll('.bells svg, .area svg').length") > 20
    assert (
        browser.evaluate("Math.min(...[...document.querySelectorAll('.bells svg')].map(e => e.clientWidth))")
        > 150
    )
    assert browser.evaluate("document.scripts.length") == 0
    assert browser.complaints() == []
