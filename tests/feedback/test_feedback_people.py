"""Simulated people at real sessions: they press, rate and rank through the same socket as people."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from served import TOKENS, serving

from textrl.errors import UserError
from textrl.feedback.people.__main__ import summary
from textrl.feedback.people.ranking import LABELERS, Ranker
from textrl.feedback.people.watching import Presser, Words, make_trainer


def test_words_are_judged_when_they_are_complete() -> None:
    words = Words()
    heard = [
        words.add(1, text, end)
        for text, end in (("It", False), (" was", False), (" won", False), ("der", False), ("ful", False),
                          (",", False), (" bad", True))
    ]  # fmt: skip
    assert heard == [[], ["it"], ["was"], [], [], ["wonderful"], ["bad"]]
    assert words.add(2, "Good", False) == []
    assert words.add(2, " day", True) == ["good", "day"]


@pytest.mark.parametrize("preset", LABELERS)
def test_labelers_rank_as_they_are(preset: str) -> None:
    item: dict[str, Any] = {"item": "1", "completions": ["terrible, awful", "wonderful, great", "a table"]}
    person = Ranker(f"http://h:1/login?token={TOKENS.join}", "x", preset)
    found = [person.judge(item)["ranks"] for _ in range(60)]
    best = [1, 0][preset == "adversarial"]
    share = sum(ranks[best] == 1 for ranks in found) / len(found)
    assert share > (0.99 if preset in ("oracle", "adversarial") else 0.7)
    answer = person.judge(item)
    assert all(1 <= score <= 7 for score in answer["likert"])
    assert min(answer["ranks"]) == 1


def test_equal_texts_are_tied_by_an_oracle() -> None:
    person = Ranker("http://h:1/login?token=x", "x", "oracle")
    assert person.judge({"item": "1", "completions": ["a chair", "a good table", "a desk"]})["ranks"] == [
        2,
        1,
        2,
    ]


def test_presets_and_environments_that_do_not_exist_are_named() -> None:
    with pytest.raises(UserError, match="oracle"):
        Ranker("http://h:1/login?token=x", "x", "oracel")
    with pytest.raises(UserError, match="preset"):
        make_trainer({"preset": "nobody"})


class Cars:
    """Frames as Mountain Car sends them, made up: it rolls right and is pushed to and fro."""

    mode = "control"

    def __init__(self) -> None:
        self.number = 0
        self.pressed: list[tuple[float, int | None, float]] = []
        self.shown: dict[int, float] = {}

    def apply(self, event: Any) -> list[dict[str, Any]]:
        if event.kind == "press":
            self.pressed.append((event.payload["value"], event.frame_id, event.t_client))
        if event.kind == "shown":
            self.shown |= dict(event.payload["frames"])
        if event.kind != "tick":
            return []
        self.number += 1
        action = 2 if self.number % 2 else 0
        frame = {"type": "frame", "frame_id": self.number, "env_step": self.number, "image": None}
        return [frame | {"state": [-0.5, 0.01], "action": action}]

    def view(self, annotator: str) -> dict[str, Any]:
        return {"env": "MountainCar-v0", "panel": {"speed": 0.1}}

    def due(self) -> float:
        return 0.1

    def digest(self) -> str:
        return "0" * 64

    def close(self) -> None:
        return


def test_a_simulated_trainer_presses_by_the_rule_at_the_rate_and_stamps_what_it_saw(tmp_path: Path) -> None:
    machine = Cars()
    with serving(tmp_path, machine) as running:  # type: ignore[arg-type]
        person = Presser(running.server.link(owner=False, session="s"), "sim", "oracle", rate=10.0)

        async def live() -> None:
            task = asyncio.create_task(person.live())
            while person.presses < 8:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(live())
    assert len(machine.pressed) >= 8
    values = {value for value, _, _ in machine.pressed}
    assert values == {1, -1}
    for _, frame, t in machine.pressed:
        assert frame is not None
        assert machine.shown[frame] <= t, "the frame was on the screen when the key was pressed"
    kinds = [found.kind for found in running.stored() if found.kind in ("press", "shown")]
    assert kinds[0] == "shown", "a frame is shown before it is judged"


def test_a_person_goes_when_the_session_is_finished_and_says_what_was_done(tmp_path: Path) -> None:
    with serving(tmp_path, Cars()) as running:  # type: ignore[arg-type]
        person = Presser(running.server.link(owner=False), "sim", "oracle")

        async def live() -> None:
            task = asyncio.create_task(person.live())
            while person.presses < 1:
                await asyncio.sleep(0.01)
            person.line.say({"type": "finish", "t": person.line.now_s})
            await asyncio.wait_for(task, 20)

        asyncio.run(live())
    report = summary(person)
    assert report["did"] == person.presses >= 1
    assert report["waiting"] == 0
    assert report["acknowledged"] >= report["did"]
    assert report["frames"] > 0
    assert 0 < report["ack_s"]["p50"] <= report["ack_s"]["p99"] <= report["ack_s"]["max"]


def test_a_wrong_token_is_said_and_not_tried_for_ever(tmp_path: Path) -> None:
    with serving(tmp_path) as running:
        person = Presser(running.server.address + "/login?token=wrong", "sim", "oracle")
        with pytest.raises(UserError, match="refused"):
            asyncio.run(asyncio.wait_for(person.live(), 20))
