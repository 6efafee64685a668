"""The ranking page in a browser, against the real server: keys, drag, ties, undo, phone, hostile texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import feedback_pages as pages
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.feedback.rank.items import Item, rank_config

pytestmark = pytest.mark.browser
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
ITEMS = [
    Item(
        item="moon",
        prompt=f"Explain the moon landing. {HOSTILE}",
        completions=("long ago", HOSTILE, "a rocket"),
    ),
    Item(item="rain", prompt="Rain", completions=("It rains.", "Wet " * 300)),
    Item(item="sum", prompt="2 + 2?", completions=("4", "5", "6", "7", "8", "9", "four", "IV", "none")),
]


_OPEN = "document.querySelectorAll('details').forEach(one => { one.open = true; })"


def _session() -> Any:
    config = rank_config(ITEMS, overlap=0, instructions="Prefer what is <b>true</b>.")
    return pages.info("order", "rank", config)


def _texts(page: Any) -> list[str]:
    return [one.strip() for one in page.locator(".response-text").all_text_contents()]


def _next_item(page: Any, position: int) -> None:
    page.wait_for_function(
        "n => document.querySelector('#progress-text').textContent.startsWith(`${n} of`)", arg=position
    )
    page.wait_for_selector(".rank:visible")


def test_rank_by_keyboard_undo_and_finish(browser: Any, tmp_path: Path, visits: list[pages.Visit]) -> None:
    store = tmp_path / "sessions.sqlite"
    with pages.serving(store, [_session()]) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("order")
        page.wait_for_selector("dialog >> text=Prefer what is <b>true</b>.")
        page.keyboard.press("Escape")
        judged = {}
        for done in range(3):
            _next_item(page, done)
            texts = _texts(page)
            if done == 0:
                page.keyboard.press("Enter")  # not ranked yet: refused, and said so
                assert page.get_attribute("#submit", "aria-disabled") == "true"
            for digit in range(len(texts), 0, -1):
                page.keyboard.press(str(digit))
            page.keyboard.press("=")  # the first one on the screen was ranked last; it ties with the second
            page.keyboard.press("Shift+Digit6")
            page.keyboard.press("f")
            page.keyboard.press("Space")
            page.keyboard.press("Enter")
            ranks = [*range(len(texts) - 1, 0, -1)]
            judged[texts[1]] = dict(zip(texts, [ranks[0], *ranks], strict=True))
        page.wait_for_selector("#all-done:visible")
        assert page.title() != "taken"
        page.reload()
        page.fill("#name", "ada")
        page.keyboard.press("Enter")
        page.wait_for_selector("#all-done:visible")
        page.keyboard.press("u")
        page.wait_for_selector(".response")
        _next_item(page, 2)
        assert page.locator(".likert input:checked").count() == 1  # what was given stands there again
        page.keyboard.press("s")
        page.wait_for_selector("#all-done:visible")
        visit.check_quiet()
    ranked = pages.stored(store, "order", "ranked")
    assert len(ranked) == 3
    for event in ranked:
        payload = event.payload
        texts = [text.strip() for text in payload["completions"]]
        (mine,) = [ranks for ranks in judged.values() if set(ranks) == set(texts)]
        assert payload["ranks"] == [mine[text] for text in texts]
        assert sorted(score or 0 for score in payload["likert"])[-2:] == [0, 6]
        assert sum(flags["fails_instruction"] for flags in payload["flags"]) == 1
        assert payload["seconds"] > 0
    assert [event.payload["uuid"] for event in pages.stored(store, "order", "undone")] == [ranked[-1].uuid]
    assert len(pages.stored(store, "order", "skipped")) == 1


def test_drag_ranks_and_ties(browser: Any, tmp_path: Path, visits: list[pages.Visit]) -> None:
    with pages.serving(tmp_path / "s.sqlite", [_session()]) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("order")
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Escape")
        size = len(_texts(page))
        for digit in range(1, size + 1):
            page.keyboard.press(str(digit))

        def groups() -> list[str]:
            return [
                " ".join(row.locator(".badge").all_text_contents())
                for row in page.locator(".row-group").all()
            ]

        def drag(chip: str, row: int, share: float) -> None:
            start = page.locator(f".drag-chip[data-index='{chip}']").bounding_box()
            goal = page.locator(".row-group").nth(row).bounding_box()
            page.mouse.move(start["x"] + 20, start["y"] + 12)
            page.mouse.down()
            page.mouse.move(goal["x"] + 40, goal["y"] + goal["height"] * share, steps=4)
            page.mouse.up()

        in_order = [str(digit) for digit in range(1, size + 1)]
        assert groups() == in_order
        drag("1", 0, 0.02)  # before the first
        assert groups() == ["2", "1", *in_order[2:]]
        drag("0", 0, 0.5)  # onto the first
        assert groups() == ["2 1", *in_order[2:]]
        drag("1", len(groups()) - 1, 0.98)  # behind the last
        assert groups() == ["1", *in_order[2:], "2"]
        visit.check_quiet()


def test_accessible_and_fits(browser: Any, tmp_path: Path, visits: list[pages.Visit]) -> None:
    with pages.serving(tmp_path / "s.sqlite", [_session()]) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("order", owner=True)
        page.wait_for_selector("dialog[open]")
        assert visit.axe() == []
        page.keyboard.press("Escape")
        page.evaluate(_OPEN)
        page.click("#response-1")
        page.click("label[for=likert-0-5]")
        visit.check_looks()
        for digit in range(2, len(_texts(page)) + 1):
            page.keyboard.press(str(digit))
        page.keyboard.press("=")
        page.keyboard.press("Enter")
        _next_item(page, 1)
        page.evaluate(_OPEN)  # chromium leaves the colours of what is folded away as they were
        visit.check_looks()
        page.click("#skip")
        _next_item(page, 2)
        page.click("#skip")
        page.wait_for_selector("#all-done:visible")
        visit.check_looks()
        visit.check_quiet()


def test_the_owner_sees_agreement_and_others_do_not(
    browser: Any, tmp_path: Path, visits: list[pages.Visit]
) -> None:
    with pages.serving(tmp_path / "s.sqlite", [_session()]) as server:
        visits += [pages.Visit(browser, server), pages.Visit(browser, server)]
        for visit, name in zip(visits, ("ada", "bob"), strict=True):
            page = visit.join("order", name, owner=name == "ada")
            page.wait_for_selector("dialog[open]")
            page.keyboard.press("Escape")
            for done in range(3):
                _next_item(page, done)
                size = len(_texts(page))
                for text in sorted(_texts(page)):  # both of one mind, whatever stands where
                    page.keyboard.press(str(_texts(page).index(text) + 1))
                assert page.locator(".row-group").count() == size
                page.keyboard.press("Enter")
            page.wait_for_selector("#all-done:visible")
        visits[0].page.wait_for_selector(".agreement:visible >> text=100 %")
        assert not visits[1].page.is_visible(".agreement")


def test_what_is_ranked_without_a_connection_arrives_and_the_owner_ends_the_session(
    browser: Any, tmp_path: Path, visits: list[pages.Visit]
) -> None:
    store, sessions = tmp_path / "s.sqlite", [_session()]
    with pages.serving(store, sessions) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("order", owner=False)
        page.wait_for_selector("dialog[open]")
        page.keyboard.press("Escape")
        _next_item(page, 0)
        page.keyboard.press("1")
    page.wait_for_selector("#link-state[data-state=lost]")
    texts = _texts(page)
    size = len(texts)
    for digit in range(2, size + 1):
        page.keyboard.press(str(digit))
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Waiting for the next item")
    with pages.serving(store, sessions, port=server.port) as again:
        _next_item(page, 1)
        assert page.locator("#finish").count() == 0
        visits.append(owner := pages.Visit(browser, again))
        owner.join("order", "eve").keyboard.press("Escape")
        owner.page.click("#finish")
        owner.page.click("#finish-yes")
        for each in (owner.page, page):
            each.wait_for_selector("#all-done:visible")
            assert not each.is_visible("#undo-last")
    (ranked,) = pages.stored(store, "order", "ranked")
    given = dict(zip(ranked.payload["ranks"], ranked.payload["completions"], strict=True))
    assert [given[rank].strip() for rank in range(1, size + 1)] == texts


_STEP = st.tuples(
    st.sampled_from(["append", "move", "tie", "without", "insert", "join"]),
    st.integers(0, 8),
    st.integers(0, 8),
)
_APPLY = """
async ([size, steps]) => {
  const o = await import('/static/js/order.js');
  let order = []; const kept = [];
  for (const [what, a, b] of steps) {
    const one = a % size, other = b % size, before = JSON.stringify(order);
    const next = what === 'append' ? o.append(order, one)
      : what === 'move' ? o.move(order, one, b % 2 ? 1 : -1)
      : what === 'tie' ? o.toggleTie(order, one) : what === 'without' ? o.without(order, one)
      : what === 'insert' ? o.insert(order, one, b % (order.length + 1)) : o.join(order, one, other);
    if (JSON.stringify(order) !== before) return 'an order was changed in place';
    order = next; kept.push(order);
  }
  return [kept, o.ranks(order, size), o.fromRanks(o.ranks(order, size)), o.say(order)];
}
"""


@pytest.fixture(scope="module")
def blank(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with pages.serving(tmp_path_factory.mktemp("blank") / "s.sqlite", [_session()]) as server:
        visit = pages.Visit(browser, server)
        visit.page.goto(server.link(owner=False))
        yield visit.page
        visit.close()


@settings(max_examples=60, deadline=None)
@given(size=st.integers(2, 9), steps=st.lists(_STEP, max_size=25))
def test_orders_hold_each_response_once(blank: Any, size: int, steps: list[tuple[str, int, int]]) -> None:
    kept, ranks, again, said = blank.evaluate(_APPLY, [size, steps])
    for order in kept:
        flat = [one for group in order for one in group]
        assert len(flat) == len(set(flat))
        assert all(group and min(group) >= 0 and max(group) < size for group in order)
    last = kept[-1] if kept else []
    assert [sorted(group) for group in last] == [sorted(group) for group in again]
    assert [rank for rank in ranks if rank is not None] == [
        next(at + 1 for at, group in enumerate(last) if one in group)
        for one in range(size)
        if ranks[one] is not None
    ]
    assert said
