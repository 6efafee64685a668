"""The page in a real browser: from the key to the page that shows the press as stored."""

from __future__ import annotations

import random
import shutil
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from textrl.bench.sessions_load import FRAMES, spread
from textrl.bench.sessions_server import Served

_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
#: How long a key is down; people's keystrokes take 70 to 120 ms.
HELD_MS = 80.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser() -> str | None:
    """Return the path of a browser, or None where it or Playwright is missing."""
    if find_spec("playwright") is None:
        return None
    return next((path for name in _BROWSERS if (path := shutil.which(name))), None)


def latencies(folder: Path, seconds: float, binary: str, seed: int = 0) -> dict[str, Any]:
    """Press keys in a browser at 30 frames a second, first without learning and then while TAMER learns.

    Args:
        folder: For the store.
        seconds: How long, each time.
        binary: The browser.
        seed: Of the moments between keys.

    Returns:
        Milliseconds from key to page by "idle" and "learning", and from a frame's arrival to its drawing.
    """
    from playwright.sync_api import sync_playwright

    arguments = ["--env", "MountainCar-v0", "--learner", "tamer", "--step-s", str(1 / FRAMES)]
    rng = random.Random(seed)
    with Served(folder, "control", arguments) as served, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=binary, args=_FLAGS)
        page = chromium.new_page()
        page.goto(served.owner)
        page.fill("#name", "ada")
        page.click("#start")
        page.wait_for_selector("#finish")
        # Not wait_for_function: it evaluates text inside the page, which the page's policy forbids.
        while page.evaluate("textrlFrameAge.length") < FRAMES:
            page.wait_for_timeout(50)
        found: dict[str, Any] = {}
        for name in ("learning", "idle"):
            if name == "idle":
                page.keyboard.press("Space")  # training off: frames go on, nothing is learnt
            page.evaluate("for (const l of [textrlLatency, textrlPainted, textrlFrameAge]) l.length = 0")
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                # Held as long as a finger holds a key: the release is an event of its own.
                page.keyboard.press(rng.choice("/z"), delay=HELD_MS)
                time.sleep(rng.uniform(0.1, 0.3))
            page.wait_for_timeout(500)
            found[name] = {
                "key_ms": spread(page.evaluate("textrlLatency"), 1.0),
                "painted_ms": spread(page.evaluate("textrlPainted"), 1.0),
                "drawn_ms": spread(page.evaluate("textrlFrameAge"), 1.0),
            }
        version = chromium.version
        chromium.close()
        served.stop()
        return found | {"browser": version, "store": str(served.store)}
