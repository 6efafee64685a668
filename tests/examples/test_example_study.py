"""A study with five simulated participants, as the page has it, with sessions of six seconds."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from textrl.feedback.store import open_store

PEOPLE = {"reference", "oracle", "mistake10", "skip10", "late"}

pytestmark = pytest.mark.timeout(900)  # a dozen processes, on a machine that others may use


def test_the_page_can_be_followed(reader: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    printed = reader("study.md", MINUTES="0.1")
    store = open_store(tmp_path / "reader" / "study.sqlite", readonly=True)
    stored = {info.session: list(store.events(info.session)) for info in store.sessions()}
    store.close()
    assert set(stored) == PEOPLE
    presses = {name: sum(event.kind == "press" for event in events) for name, events in stored.items()}
    # A machine that is held up for some seconds can make a person miss a session that is as short as this.
    assert sum(count > 0 for count in presses.values()) >= 3
    rows = re.findall(r"^(\w+) +(\d+) +(\d+) +([\d.]+)$", printed["python results.py"], re.M)
    assert {name: int(heard) for name, heard, _, _ in rows} == presses, "what was stored is what taught"
    for name, events in stored.items():
        lines = (tmp_path / "reader" / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line)["seq"] for line in lines] == [event.seq for event in events]
    steps = [float(value) for *_, value in rows]
    shown = re.search(r"mean ([\d.]+), 95 % interval ([\d.]+) to ([\d.]+)", printed["python results.py"])
    assert shown
    half = 2.776 * statistics.stdev(steps) / 5**0.5  # Student's t, 4 degrees of freedom, 97.5 %
    mean = sum(steps) / 5
    assert [float(number) for number in shown.groups()] == pytest.approx(
        [mean, mean - half, mean + half], abs=0.2
    )
