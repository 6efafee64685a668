"""The page in a browser, against the real server: joining, and teaching a learner by keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import feedback_pages as pages
import gymnasium as gym
import pytest

pytestmark = pytest.mark.browser
CAR = {"env": "MountainCar-v0", "learner": "tamer+rl", "step_s": 0.05, "seed": 1}
POLE = {"env": "CartPole-v1", "learner": "sarsa", "step_s": 0.05, "frames": False}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite"


def test_press_see_undo_reload_finish(browser: Any, store: Path, visits: list[pages.Visit]) -> None:
    with pages.serving(store, [pages.info("car", "control", CAR)]) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("car")
        page.wait_for_function("() => window.textrlFrameAge.length > 3")
        page.keyboard.press("/")
        page.wait_for_selector(".chip.good.stored small")
        page.keyboard.press("Z")
        page.wait_for_selector(".chip.bad.stored:has-text('−10')")
        page.click("#press1")
        page.wait_for_function("() => document.querySelectorAll('.chip.stored').length === 3")
        page.wait_for_function("() => document.querySelectorAll('.map').length === 2")
        # The return, the presses and beta: each a curve that is drawn.
        page.wait_for_function("() => document.querySelectorAll('.u-wrap canvas').length === 3")
        page.keyboard.press("u")
        page.wait_for_selector(".chip.undone")
        page.keyboard.press(" ")
        page.wait_for_selector("#training[aria-pressed=false]")
        page.keyboard.press("p")
        page.wait_for_selector(".veil:visible")
        page.reload()
        page.fill("#name", "ada")
        page.keyboard.press("Enter")
        page.wait_for_selector(".veil:visible")
        page.wait_for_selector("#training:text-is('Training is off')")
        before = page.text_content(".facts")
        page.keyboard.press("s")
        page.wait_for_function("old => document.querySelector('.facts').textContent !== old", arg=before)
        page.click("#finish")
        page.click("#finish-yes")
        page.wait_for_selector(".finished >> text=All done")
        page.wait_for_selector("#stored >> text=Everything you gave is stored")  # once all is acknowledged
        visit.check_quiet()
    _check_log(store)


def _check_log(store: Path) -> None:
    """Presses stand after the display of the frame they name, and are as old as the hand that made them."""
    events = pages.stored(store, "car")
    presses = [event for event in events if event.kind == "press"]
    assert [press.payload["value"] for press in presses] == [1, -10, 1]
    shown = {
        frame: (event.seq, t)
        for event in events
        if event.kind == "shown"
        for frame, t in event.payload["frames"]
    }
    for press in presses:
        seq, t = shown[press.frame_id]
        assert seq < press.seq
        assert t <= press.t_client
    (undone,) = [event for event in events if event.kind == "undone"]
    assert undone.payload["uuid"] == presses[-1].uuid
    does = [event.payload["do"] for event in events if event.kind == "control"]
    assert does == ["training", "pause", "step"]
    assert "finished" in {event.kind for event in events}
    assert "digest" in {event.kind for event in events}
    pages.check_replay(store)


def test_a_press_during_an_outage_arrives_once(browser: Any, store: Path, visits: list[pages.Visit]) -> None:
    sessions = [pages.info("car", "control", CAR)]
    with pages.serving(store, sessions) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("car")
        page.wait_for_function("() => window.textrlFrameAge.length > 1")
    page.wait_for_selector("#link-state[data-state=lost]")
    page.keyboard.press("/")
    page.keyboard.press("?")
    page.wait_for_function("() => document.querySelectorAll('.chip:not(.stored)').length === 2")
    page.wait_for_selector(".banner >> text=The connection is lost")
    # A closed tab: only the browser's own storage knows the two presses now.
    page.close()
    visit.page = page = visit.context.new_page()
    with pages.serving(store, sessions, port=server.port) as again:
        visit.server = again
        page = visit.join("car")
        pages.wait_until_stored(page)
        visit.page.close()
    assert [press.payload["value"] for press in pages.stored(store, "car", "press")] == [1, 10]


def test_a_network_that_is_gone_is_told_at_once_and_a_session_does_not_end_without_it(
    browser: Any, store: Path, visits: list[pages.Visit]
) -> None:
    with pages.joined(browser, store, pages.info("car", "control", CAR), visits) as visit:
        page = visit.page
        page.wait_for_function("() => window.textrlFrameAge.length > 1")
        visit.context.set_offline(True)  # no socket is closed by it: packets just go nowhere
        page.wait_for_selector("#link-state[data-state=lost]", timeout=5000)
        page.click("#finish")
        page.click("#finish-yes")
        page.wait_for_selector("dialog [role=alert] >> text=There is no connection")
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        visit.context.set_offline(False)
        page.wait_for_selector(".chip.good.stored")
        page.click("#finish")
        page.click("#finish-yes")
        page.wait_for_selector("#stored >> text=Everything you gave is stored")
    assert len(pages.stored(store, "car", "press")) == 1


def test_two_presses_of_a_switch_before_the_answer_switch_back(
    browser: Any, store: Path, visits: list[pages.Visit]
) -> None:
    with pages.joined(browser, store, pages.info("car", "control", CAR), visits) as visit:
        page = visit.page
        page.wait_for_function("() => window.textrlFrameAge.length > 1")
        visit.context.set_offline(True)
        page.wait_for_selector("#link-state[data-state=lost]")
        for key in (" ", " ", " ", "p", "p"):
            page.keyboard.press(key)
        visit.context.set_offline(False)
        page.wait_for_selector("#link-state[data-state=open]")
        pages.wait_until_stored(page)
    given = [event.payload for event in pages.stored(store, "car", "control")]
    assert [one.get("value") for one in given if one["do"] == "training"] == [False, True, False]
    assert [one["do"] for one in given if one["do"] != "training"] == ["pause", "resume"]


def test_comes_back_by_itself(browser: Any, store: Path, visits: list[pages.Visit]) -> None:
    sessions = [pages.info("car", "control", CAR)]
    with pages.serving(store, sessions) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("car")
        page.wait_for_function("() => window.textrlFrameAge.length > 1")
    page.wait_for_selector("#link-state[data-state=lost]")
    page.keyboard.press("/")
    with pages.serving(store, sessions, port=server.port):
        page.wait_for_selector("#link-state[data-state=open]")
        page.wait_for_selector(".chip.good.stored")
        old = page.evaluate("window.textrlFrameAge.length")
        page.wait_for_function("old => window.textrlFrameAge.length > old", arg=old)
        page.wait_for_function("() => !document.querySelector('.banner')")
    assert len(pages.stored(store, "car", "press")) == 1


def test_accessible_and_fits(browser: Any, store: Path, visits: list[pages.Visit]) -> None:
    with pages.serving(store, [pages.info("car", "control", CAR)]) as server:
        visits.append(visit := pages.Visit(browser, server))
        visit.page.goto(server.link(owner=False))
        visit.page.wait_for_selector("#start")
        visit.check_looks()
        page = visit.join("car")
        page.wait_for_function("() => window.textrlFrameAge.length > 3")
        page.click("#press-10")
        page.wait_for_selector(".chip.bad.stored small")
        visit.check_looks()
        page.keyboard.press("h")
        page.wait_for_selector("dialog[open]")
        visit.check_looks()
        page.keyboard.press("Escape")
        page.click("#leave")
        page.wait_for_selector(".finished")
        visit.check_looks()
        visit.check_quiet()


def test_who_comes_second_watches(browser: Any, store: Path, visits: list[pages.Visit]) -> None:
    with pages.serving(store, [pages.info("car", "control", CAR)]) as server:
        visits += [pages.Visit(browser, server), pages.Visit(browser, server)]
        visits[0].join("car", "ada")
        page = visits[1].join("car", "bob", owner=False)
        page.wait_for_selector("text=You are watching")
        page.wait_for_selector("#press1:disabled")
        page.keyboard.press("/")
        visits[0].page.bring_to_front()
        visits[0].page.keyboard.press("/")
        visits[0].page.wait_for_selector(".chip.stored")
        page.wait_for_selector(".chip.good")  # what the trainer pressed is seen by who watches
    assert {press.annotator for press in pages.stored(store, "car", "press")} == {"ada"}


def test_the_owner_ends_what_somebody_else_trains(
    browser: Any, store: Path, visits: list[pages.Visit]
) -> None:
    with pages.serving(store, [pages.info("car", "control", CAR)]) as server:
        visits += [pages.Visit(browser, server) for _ in range(3)]
        trained = visits[0].join("car", "ada", owner=False)
        assert visits[1].join("car", "bob", owner=False).is_disabled("#finish")
        owner = visits[2].join("car", "eve")
        owner.wait_for_selector("text=You are watching")
        owner.click("#finish")
        owner.click("#finish-yes")
        for page in (owner, trained):
            page.wait_for_selector(".finished >> text=All done")
        assert owner.evaluate("document.activeElement.tagName") == "H1"
    (finished,) = pages.stored(store, "car", "finished")
    assert finished.payload["by"] == "eve"


def test_speed_next_episode_and_the_same_again(browser: Any, store: Path, visits: list[pages.Visit]) -> None:
    with pages.serving(store, [pages.info("car", "control", CAR)]) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("car")
        page.wait_for_function("() => window.textrlFrameAge.length > 3")
        speed = page.text_content("#speed-text")
        for count, key in enumerate((".", "n", "r", ","), start=1):
            page.keyboard.press(key)
            controls = pages.await_stored(page, store, "car", "control", count)
            if key == ".":
                assert page.text_content("#speed-text") != speed
            elif key == "n":
                page.wait_for_selector(".facts:has-text('Episode 2')")
        page.wait_for_function("old => document.querySelector('#speed-text').textContent === old", arg=speed)
        visit.check_quiet()
    given = [event.payload for event in controls]
    assert [one["do"] for one in given] == ["speed", "next_episode", "reset", "speed"]
    faster, slower = (one["value"] for one in given if one["do"] == "speed")
    assert faster < CAR["step_s"]
    assert slower == pytest.approx(CAR["step_s"], rel=0.05)  # the slider has a hundred places
    pages.check_replay(store)


class Breaks(gym.Wrapper):  # type: ignore[type-arg]
    """Mountain Car whose fifth step fails."""

    steps = 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == 5:
            raise ValueError("the motor <b>burns</b>")
        return super().step(action)


def test_an_environment_that_fails_is_said_over_the_picture(
    browser: Any, store: Path, visits: list[pages.Visit], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = gym.spec("MountainCar-v0")
    broken = replace(spec, id="Breaks-v0", additional_wrappers=(Breaks.wrapper_spec(),))
    monkeypatch.setitem(gym.registry, "Breaks-v0", broken)
    with pages.serving(store, [pages.info("car", "control", {**CAR, "env": "Breaks-v0"})]) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("car")
        page.wait_for_selector(".veil:visible >> text=the motor <b>burns</b>")
        page.wait_for_selector("[role=alert] .banner.bad >> text=the motor")
        page.keyboard.press("/")
        page.wait_for_function("() => !document.querySelector('.chip')")  # refused, and not shown as given
        page.reload()
        page.fill("#name", "ada")
        page.keyboard.press("Enter")
        page.wait_for_selector(".veil:visible >> text=the motor")  # who comes later is told too


def test_joins_by_keyboard_alone(browser: Any, store: Path, visits: list[pages.Visit]) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    with pages.serving(
        store, [pages.info("car", "control", CAR), pages.info(hostile, "control", CAR)]
    ) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.page
        page.goto(server.link(owner=False))
        page.wait_for_selector("#start")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        for _ in range(9):
            if page.evaluate("document.activeElement.id") == "name":
                break
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector(".field-error:has-text('Write a name first')")
        page.keyboard.type("<b>eve</b>")
        page.keyboard.press("Tab")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_selector("#link-state[data-state=open]")
        assert page.text_content("#where") == f"{hostile} · <b>eve</b>"
        assert page.locator("main img, header b").count() == 0
        visit.check_quiet()


def test_a_wrong_name_of_a_session_goes_back_to_the_list(
    browser: Any, store: Path, visits: list[pages.Visit]
) -> None:
    with pages.serving(store, [pages.info("car", "control", CAR)]) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.page
        page.goto(server.link(owner=False, session="cat"))
        page.fill("#name", "server")  # the server's own name in the log
        page.keyboard.press("Enter")
        page.wait_for_selector(".banner >> text=stands for the server itself")
        page.wait_for_selector("#start")  # the list is asked for anew, after the banner


def test_numbers_without_a_picture_and_a_full_disk(
    browser: Any, store: Path, visits: list[pages.Visit]
) -> None:
    with pages.serving(store, [pages.info("pole", "control", POLE)]) as server:
        visits.append(visit := pages.Visit(browser, server))
        page = visit.join("pole")
        page.wait_for_selector(".no-picture dd")
        assert page.locator(".no-picture dd").count() == 4
        server._on_storage(False, "The disk is full; nothing more is stored.")  # as the writer says it
        page.wait_for_selector("[role=alert] .banner.bad >> text=The disk is full")
        server._on_storage(True, "")
        page.wait_for_function("() => !document.querySelector('.banner')")
        page.keyboard.press("/")
        page.wait_for_selector(".chip.stored")
        visit.check_quiet()
