"""A real server in a thread, and a real browser in front of it, for the page's tests."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from textrl.feedback.events import Event
from textrl.feedback.machine import Machine, build_machine
from textrl.feedback.server.auth import Tokens
from textrl.feedback.server.engine import Progress
from textrl.feedback.server.serving import Server
from textrl.feedback.store import FeedbackStore, SessionInfo, open_store
from textrl.feedback.verify import verify

#: Chromium in a container: no sandbox, no GPU, and nothing that asks the network by itself.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
TOKENS = Tokens("join-token-of-the-tests", "owner-token-of-the-tests")
DESKTOP, PHONE = {"width": 1280, "height": 860}, {"width": 375, "height": 760}

_WIDER_THAN_PAGE = """
() => { const width = document.documentElement.clientWidth, out = [];
  if (document.documentElement.scrollWidth > width) out.push(`page ${document.documentElement.scrollWidth}`);
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('.hidden, .strip, .skip, .u-wrap, pre')) continue;
    if (getComputedStyle(e).clipPath !== 'none' || e.closest('details:not([open])')) continue;
    const box = e.getBoundingClientRect();
    if (box.width && (box.right > width + 1 || box.left < -1)) out.push(e.outerHTML.slice(0, 90));
  } return out; }
"""
_MOVING = "() => document.getAnimations().map(one => one.effect.target.outerHTML.slice(0, 90))"
# The new look is there when it was drawn: media features change between frames.
_SETTLED = """
async scheme => { const wanted = matchMedia(`(prefers-color-scheme: ${scheme})`);
  for (let frames = 0; frames < 3; frames += wanted.matches) await new Promise(requestAnimationFrame); }
"""


def info(name: str, mode: str, config: Mapping[str, Any]) -> SessionInfo:
    """Return a new session."""
    return SessionInfo(session=name, mode=mode, created=time.time(), config=dict(config), versions={})


@contextmanager
def serving(path: Path, sessions: list[SessionInfo], port: int = 0) -> Iterator[Server]:
    """Serve sessions of a store until the block ends; those that it has already go on from its log."""
    store = open_store(path)
    server = Server(store, TOKENS, port=port)
    known = {one.session for one in store.sessions()}
    for one in sessions:
        if one.session not in known:
            store.create_session(one)
        server.add(one, *_opened(store, one))
    ready = threading.Event()
    thread = threading.Thread(target=server.run, args=(ready.set,), daemon=True)
    thread.start()
    try:
        assert ready.wait(60), "the server did not start"
        yield server
    finally:
        server.stop()
        thread.join(30)
        store.close()


def _opened(store: FeedbackStore, one: SessionInfo) -> tuple[Machine, Progress]:
    machine, progress = build_machine(one), Progress()
    for event in store.events(one.session):
        machine.apply(event)
        progress.take(event, one.mode)
    return machine, progress


def stored(path: Path, session: str, *kinds: str) -> list[Event]:
    """Return a session's events of some kinds, all where none is named."""
    store = open_store(path, readonly=True)
    try:
        return list(store.events(session, kinds=kinds or None))
    finally:
        store.close()


def await_stored(page: Any, path: Path, session: str, kind: str, count: int) -> list[Event]:
    """Wait until so many events of a kind are in the log, whatever a page's timers take; return them."""
    end = time.monotonic() + 60
    while len(found := stored(path, session, kind)) < count and time.monotonic() < end:
        page.wait_for_timeout(50)
    assert len(found) == count, found
    return found


def check_replay(path: Path) -> None:
    """Check that the log of a store is whole, and gives every machine the parameters that were logged."""
    store = open_store(path, readonly=True)
    try:
        report = verify(store, replay=True)
    finally:
        store.close()
    assert not report.findings, report.findings


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a browser, or skip."""
    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next((path for name in names if (path := shutil.which(name))), None)
    if binary is None:
        pytest.skip("no chromium binary on the PATH")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def wait_until_stored(page: Any) -> None:
    """Wait until everything that was done on a page is acknowledged."""
    page.wait_for_function("() => !Object.keys(localStorage).some(key => key.startsWith('textrl:outbox'))")


class Visit:
    """A person's browser at a server, which takes down what a page must not do.

    Attributes:
        page: Playwright's page.
        complaints: Errors and warnings of the console, and uncaught exceptions.
        requests: Every address that was asked for.
    """

    def __init__(self, browser: Any, server: Server) -> None:
        self.context = browser.new_context(viewport=DESKTOP, reduced_motion="reduce")
        self.server = server
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self._hear(message))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def join(self, session: str, name: str = "ada", *, owner: bool = True) -> Any:
        """Open a session as somebody who was given the link; returns the page."""
        self.page.goto(self.server.link(owner=owner, session=session))
        self.page.fill("#name", name)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("#link-state[data-state=open]")
        return self.page

    def axe(self) -> list[str]:
        """Return what axe-core finds serious or critical on the page as it stands."""
        spec = find_spec("axe_core_python")
        if spec is None or spec.origin is None:
            pytest.skip("axe-core-python is not installed")
        if not self.page.evaluate("typeof axe !== 'undefined'"):
            self.page.evaluate((Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8"))
        found = self.page.evaluate("() => axe.run(document)")["violations"]
        return [
            f"{one['id']}: {one['nodes'][0]['html'][:160]} {one['nodes'][0]['failureSummary']}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]

    def check_looks(self) -> None:
        """Require that axe-core finds nothing and nothing sticks out: a desktop in light, a phone in dark."""
        for viewport, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
            self.page.set_viewport_size(viewport)
            self.page.emulate_media(color_scheme=scheme)
            moving = self.page.evaluate(_MOVING)
            assert not moving, f"{scheme}: motion, where less was asked for: {moving}"
            self.page.evaluate(_SETTLED, scheme)
            found = self.axe() + self.page.evaluate(_WIDER_THAN_PAGE)
            assert not found, f"{scheme}: {found}"

    def check_quiet(self) -> None:
        """Require that nothing complained and nothing was fetched from anywhere else."""
        assert not self.complaints, self.complaints
        ours = (self.server.address, self.server.address.replace("http", "ws", 1), "data:", "blob:")
        foreign = [url for url in self.requests if not url.startswith(ours)]
        assert not foreign, foreign

    def close(self) -> None:
        """Close the browser window."""
        self.context.close()


@contextmanager
def joined(browser: Any, store: Path, session: SessionInfo, visits: list[Visit]) -> Iterator[Visit]:
    """Serve one session, and let somebody join it; the browser window outlives the server."""
    with serving(store, [session]) as server:
        visits.append(visit := Visit(browser, server))
        visit.join(session.session)
        yield visit
