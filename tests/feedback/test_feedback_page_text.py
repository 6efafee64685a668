"""The text page in a browser, against the real server and a small model: keys, passages, delay, looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import feedback_pages as pages
import pytest

pytestmark = pytest.mark.browser
HOSTILE = "<script>document.title='taken'</script><b>bold</b>"
SETTINGS = {
    "prompts": [f"The film {HOSTILE} was", "Rain"],
    "step_s": 0.05,
    "read_s": 0.1,
    "pause_s": 0.3,
    "max_new_tokens": 40,
}


_RATED_BAD = "n => document.querySelectorAll('.stream .rated-bad').length === n"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    from textrl.feedback.machine import resolve_config

    return resolve_config("text", SETTINGS)


def test_press_mark_undo_reload(
    browser: Any, tmp_path: Path, visits: list[pages.Visit], config: dict[str, Any]
) -> None:
    store = tmp_path / "s.sqlite"
    with pages.joined(browser, store, pages.info("bear", "text", config), visits) as visit:
        page = visit.page
        page.wait_for_function("() => document.querySelectorAll('.token').length > 8")
        assert HOSTILE in page.text_content(".stream .prompt-text")
        page.keyboard.press("+")
        page.wait_for_selector(".chip.good.stored")
        page.keyboard.press("p")
        page.wait_for_selector("#play:has-text('Go on')")
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Shift+ArrowLeft")
        page.keyboard.press("Shift+ArrowLeft")
        assert page.locator(".token.marked").count() == 3
        page.keyboard.press("-")
        page.wait_for_function(_RATED_BAD, arg=3)
        page.wait_for_selector(".chip.bad.stored")
        page.reload()  # the page remembers what it can take back
        page.fill("#name", "ada")
        page.keyboard.press("Enter")
        page.wait_for_selector(".chip.bad.stored")
        page.wait_for_function(_RATED_BAD, arg=3)
        page.keyboard.press("u")
        page.wait_for_selector(".chip.bad.undone")
        page.wait_for_function(_RATED_BAD, arg=0)
        page.click("#scores")
        page.keyboard.press("p")
        page.wait_for_function("() => document.querySelectorAll('.past li').length > 1")
        page.fill("#prompt", "My own")
        page.click("#send-prompt")
        page.wait_for_selector(".stream .prompt-text:has-text('My own')")
        assert page.title() != "taken"
        page.click("#finish")
        page.click("#finish-yes")
        page.wait_for_selector(".finished >> text=All done")
        visit.check_quiet()
    (span,) = pages.stored(store, "bear", "span")
    assert span.payload["end_token"] - span.payload["start_token"] == 2
    assert span.payload["value"] == -1
    (undone,) = pages.stored(store, "bear", "undone")
    assert undone.payload["uuid"] == span.uuid
    (press,) = pages.stored(store, "bear", "press")
    stamps = {
        frame: t for event in pages.stored(store, "bear", "shown") for frame, t in event.payload["frames"]
    }
    assert stamps[press.frame_id] <= press.t_client
    numbers = sorted(stamps)
    assert numbers[: press.frame_id] == list(range(1, press.frame_id + 1))  # every token was stamped
    pages.check_replay(store)


def _pause(page: Any) -> None:
    page.wait_for_function("() => document.querySelectorAll('.token').length > 6")
    page.keyboard.press("p")
    page.wait_for_selector("#play:has-text('Go on')")
    pages.wait_until_stored(page)


def test_a_word_that_is_clicked_while_training_is_off_is_rated_in_the_log_only(
    browser: Any, tmp_path: Path, visits: list[pages.Visit], config: dict[str, Any]
) -> None:
    store = tmp_path / "s.sqlite"
    with pages.joined(browser, store, pages.info("bear", "text", config), visits) as visit:
        page = visit.page
        _pause(page)
        page.keyboard.press(" ")
        page.wait_for_selector("#training[aria-pressed=false]")
        word = page.locator(".token").nth(2)
        word.click()
        page.wait_for_selector(".token.marked")
        assert "marked" in word.get_attribute("class")
        page.keyboard.press("-")
        page.wait_for_selector(".chip.bad.stored")
        page.wait_for_function(_RATED_BAD, arg=0)
        visit.check_quiet()
    (span,) = pages.stored(store, "bear", "span")
    assert span.payload["start_token"] == span.payload["end_token"] == 3


def test_a_passage_rated_without_a_connection_arrives_once_and_can_be_undone_by_the_next_page(
    browser: Any, tmp_path: Path, visits: list[pages.Visit], config: dict[str, Any]
) -> None:
    store, sessions = tmp_path / "s.sqlite", [pages.info("bear", "text", config)]
    with pages.serving(store, sessions) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("bear")
        _pause(page)
    page.wait_for_selector("#link-state[data-state=lost]")
    for key in ("ArrowLeft", "Shift+ArrowLeft", "-"):
        page.keyboard.press(key)
    page.wait_for_function("() => document.querySelector('.chip.bad:not(.stored)')")
    page.close()
    visit.page = visit.context.new_page()
    with pages.serving(store, sessions, port=server.port) as again:
        visit.server = again
        page = visit.join("bear")
        page.wait_for_selector(".chip.bad.stored")
        page.wait_for_function(_RATED_BAD, arg=2)
        page.keyboard.press("u")
        page.wait_for_selector(".chip.bad.undone")
        page.wait_for_function(_RATED_BAD, arg=0)
    (span,) = pages.stored(store, "bear", "span")
    (undone,) = pages.stored(store, "bear", "undone")
    assert undone.payload["uuid"] == span.uuid
    pages.check_replay(store)


def test_speed_theme_what_changed_and_a_model_that_fails(
    browser: Any, tmp_path: Path, visits: list[pages.Visit], config: dict[str, Any]
) -> None:
    """With a strong H every rating shows in the texts after it, as tokens that are marked as changed."""
    strong = config | {"beta": 50.0, "cap_nats": 50.0, "pause_s": 0.05}
    store = tmp_path / "s.sqlite"
    with pages.serving(store, [pages.info("bear", "text", strong)]) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("bear")
        speed = page.text_content("#speed-text")
        page.keyboard.press(".")
        page.wait_for_function("old => document.querySelector('#speed-text').textContent !== old", arg=speed)
        pages.await_stored(page, store, "bear", "control", 1)
        _pause(page)
        for key in ("ArrowLeft", "Shift+ArrowLeft", "Shift+ArrowLeft", "+"):
            page.keyboard.press(key)
        page.wait_for_selector(".chip.good.stored")
        page.keyboard.press("p")
        changed = page.wait_for_selector(".stream .token.changed")
        assert "without your ratings" in changed.get_attribute("title")
        page.wait_for_selector(".past >> text=changed by you")
        before = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.click("#theme")
        page.click("#theme")
        after = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert {before, after} == {"rgb(244, 245, 248)", "rgb(13, 18, 23)"}
        (room,) = server.rooms.values()
        room.engine._machine.writer.draw = _fails
        page.wait_for_selector(".stream-note >> text=out of memory")
        page.wait_for_selector("[role=alert] .banner.bad >> text=out of memory")
    assert "speed" in {event.payload["do"] for event in pages.stored(store, "bear", "control")}


def _fails() -> Any:
    raise MemoryError("out of memory")


def test_drag_marks_a_passage(
    browser: Any, tmp_path: Path, visits: list[pages.Visit], config: dict[str, Any]
) -> None:
    with pages.serving(tmp_path / "s.sqlite", [pages.info("bear", "text", config)]) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("bear")
        _pause(page)
        boxes = page.evaluate(
            "() => [...document.querySelectorAll('.token')].map(one => one.getClientRects()[0])"
            ".filter(box => box && box.width > 3).map(box => [box.x + box.width / 2, box.y + box.height / 2])"
        )
        page.mouse.move(*boxes[0])
        page.mouse.down()
        page.mouse.move(*boxes[3], steps=6)
        page.mouse.up()
        marked = page.locator(".token.marked").count()
        assert marked >= 3
        page.click("#span-good")
        page.wait_for_function(f"() => document.querySelectorAll('.stream .rated-good').length === {marked}")
        assert not page.is_visible(".span-bar")


def test_measures_the_delay(
    browser: Any, tmp_path: Path, visits: list[pages.Visit], config: dict[str, Any]
) -> None:
    store = tmp_path / "s.sqlite"
    with pages.serving(store, [pages.info("bear", "text", config)]) as server:
        visits.append(visit := pages.Visit(browser, server))
        # The words run eight times as fast, so that the test need not take a minute.
        visit.page.add_init_script(
            "const slow = window.setTimeout;"
            "window.setTimeout = (run, ms, ...more) => slow(run, ms / 8, ...more);"
        )
        page = visit.join("bear")
        page.keyboard.press("c")
        page.wait_for_selector("dialog[open]")
        page.evaluate(
            "new MutationObserver(() => { if (document.querySelector('.cue-word.lit')) setTimeout(() => "
            "document.querySelector('#cue').click(), 1200); }).observe(document.querySelector('.cue-word'),"
            " {attributes: true})"
        )
        page.keyboard.press("Space")
        page.wait_for_selector("#delay-result:has-text('Fitted by the session')")
        page.wait_for_selector("#cue:has-text('Done')")
        page.keyboard.press("Enter")
        page.wait_for_selector("#delay:has-text('from')")
        visit.check_quiet()
    trials = pages.stored(store, "bear", "delay_trial")
    assert len(trials) == 12
    for trial in trials:
        # 1200 ms / 8, and whatever this machine adds.
        assert trial.payload["press_t"] is None or trial.payload["press_t"] - trial.payload["cue_t"] >= 0.14


def test_accessible_and_fits(
    browser: Any, tmp_path: Path, visits: list[pages.Visit], config: dict[str, Any]
) -> None:
    with pages.serving(tmp_path / "s.sqlite", [pages.info("bear", "text", config)]) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("bear")
        page.wait_for_function("() => document.querySelectorAll('.token').length > 8")
        page.click("#press1")
        page.click("#press-1")
        page.click("#play")
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector(".span-bar:visible")
        page.check("#scores")
        visit.check_looks()
        page.click("#calibrate")
        page.wait_for_selector("dialog[open]")
        visit.check_looks()
        visit.check_quiet()
