"""A reader's session goes on after a break and is replayed from its log; the page about readers is right."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from text_people_world import TASTE, TEXTS, batch, encode, hidden_states, reader, source
from textrl_human.replay import Replay
from textrl_human.settings import ReplaySettings
from textrl_human.text_lexicon import built_in
from textrl_human.text_settings import SimulatedTextSettings
from textrl_human.trainers import PRESETS
from textrl_tamer.settings import TamerTextSettings
from textrl_tamer.text_source import TamerText

from textrl.errors import UserError
from textrl.pipelines.guided import make_feedback
from textrl.registry import get_registry
from textrl.settings import build
from textrl.tamer.log import read_log
from textrl.tamer.settings import DelaySettings
from textrl.tamer.text.human import TextHuman, TextHumanSettings
from textrl.tamer.text.reading import models_of

PAGE = (Path(__file__).parents[2] / "docs" / "tamer_text_people.md").read_text(encoding="utf-8")
NOISY = {"preset": "stoc", "lexicon": TASTE, "multi_press": 0.3, "seed": 2}


def session(feedback: Any, log: Path | None = None, **settings: Any) -> tuple[TextHuman, TamerText]:
    made = source(delay=DelaySettings(low=0.2, high=2.0))
    return TextHuman(feedback, made, TextHumanSettings(schedule=((0, 2), (3, 9)), **settings), log=log), made


def parameters(made: TamerText) -> bytes:
    return made.head.w.tobytes() + made.head.b.tobytes()


def test_a_resume_between_iterations_goes_on_bit_for_bit(tmp_path: Path) -> None:
    runs = {name: session(reader(**NOISY), tmp_path / f"{name}.jsonl") for name in ("whole", "cut")}
    whole, made = runs["whole"]
    for _ in range(5):
        whole.show_batch(*batch())
    first, taught = runs["cut"]
    for _ in range(2):
        first.show_batch(*batch())
    saved = json.dumps(first.state_dict()), taught.state_dict()
    first.show_batch(*batch())
    first.show_batch(*batch())  # lost: the process dies before its next checkpoint
    second, again = session(reader(**NOISY), tmp_path / "cut.jsonl")
    again.load_state_dict(saved[1])
    second.load_state_dict(json.loads(saved[0]))
    for _ in range(3):
        second.show_batch(*batch())
    assert made.head.learnt > 50
    assert parameters(again) == parameters(made)
    assert second.metrics() == whole.metrics()
    assert (tmp_path / "cut.jsonl").read_text() == (tmp_path / "whole.jsonl").read_text()


class TestLog:
    def recorded(self, path: Path) -> TamerText:
        human, made = session(reader(**NOISY), path)
        for _ in range(4):
            human.show_batch(*batch())
        return made

    def test_a_log_says_what_was_shown_by_which_model(self, tmp_path: Path) -> None:
        made = self.recorded(tmp_path / "log.jsonl")
        assert models_of(tmp_path / "log.jsonl") == {made.head.fingerprint}
        events = read_log(tmp_path / "log.jsonl")
        shown = [event.payload["action"] for event in events if event.kind == "shown"]
        assert shown == [token for text in TEXTS for token in encode(text)] * 3

    def test_a_replay_beside_the_same_model_teaches_the_same(self, tmp_path: Path) -> None:
        made = self.recorded(tmp_path / "log.jsonl")
        human, again = session(Replay(ReplaySettings(path=str(tmp_path / "log.jsonl"))))
        for _ in range(4):
            human.show_batch(*batch())
        assert parameters(again) == parameters(made)
        assert human.presses > 9

    def test_a_log_of_another_model_is_refused(self, tmp_path: Path) -> None:
        self.recorded(tmp_path / "log.jsonl")
        lines = (tmp_path / "log.jsonl").read_text().replace(source().head.fingerprint, "f00d" * 16)
        (tmp_path / "log.jsonl").write_text(lines)
        human, _ = session(Replay(ReplaySettings(path=str(tmp_path / "log.jsonl"))))
        with pytest.raises(
            UserError, match=r"recorded with another model .fingerprint f00df00df00d\.\.\.; this one's"
        ):
            human.show_batch(*batch())

    def test_other_tokens_are_refused(self, tmp_path: Path) -> None:
        self.recorded(tmp_path / "log.jsonl")
        human, _ = session(Replay(ReplaySettings(path=str(tmp_path / "log.jsonl"))))
        with pytest.raises(UserError, match=rf"log.jsonl has token {encode(TEXTS[0])[0]} at 1 s, where this"):
            human.show_batch(*batch(TEXTS[1:]))
        human, _ = session(Replay(ReplaySettings(path=str(tmp_path / "log.jsonl"))), step_s=0.3)
        with pytest.raises(UserError, match=r"has no token at 1\.3 s, where this session shows token"):
            human.show_batch(*batch())

    def test_a_log_of_another_kind_of_session_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "car.jsonl").write_text(
            '{"kind": "shown", "time_s": 1.0, "observation": [0.1], "action": 1}\n'
        )
        human, _ = session(Replay(ReplaySettings(path=str(tmp_path / "car.jsonl"))))
        with pytest.raises(UserError, match="records an environment, but this session shows a text"):
            human.show_batch(*batch())
        self.recorded(tmp_path / "log.jsonl")
        with pytest.raises(UserError, match="records a text, but this session shows an environment"):
            Replay(ReplaySettings(path=str(tmp_path / "log.jsonl"))).watch((0.0, 0.1), 1, 0.0)


def test_an_oracle_teaches_h_its_taste() -> None:
    """After thirty responses H likes the liked words, and dislikes the others, where it never saw them."""
    rng = np.random.default_rng(0)
    liked, disliked, others = (
        ["good", "wonderful"],
        ["bad", "slow"],
        ["film", "story", "the", "music", "house"],
    )
    person = reader(preset="oracle", lexicon=dict.fromkeys(liked, 1.0) | dict.fromkeys(disliked, -1.0))
    made = source(delay=person.reactions.delay.matched())
    human = TextHuman(person, made)
    for _ in range(30):
        words = rng.choice([*liked, *disliked, *others], 12, p=[0.1] * 4 + [0.12] * 5)
        ids = encode("".join(f" {word}" for word in words))
        human.show("The film", {}, ids, hidden_states("The film", ids))
    assert human.presses > 100
    states = torch.from_numpy(np.stack([hidden_states(prompt, [0])[0] for prompt in (
        "She had left the city", "When you ask people", "Was it a great house? It"
    )]))  # fmt: skip
    rated = made.head.snapshot().rate(states).mean(0)
    for words, sign in ((liked, 1), (disliked, -1)):
        for word in words:
            first = encode(f" {word}")[0]
            assert sign * float(rated[first]) > 0, (word, rated[first])


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.S))
def test_the_page_s_configs_build(block: str) -> None:
    config = yaml.safe_load(block)
    settings = {key: value for key, value in config["sources"]["h"].items() if key != "use"}
    assert config["sources"]["h"]["use"] == "tamer_text"
    build(TamerTextSettings, settings, where=lambda key: key)
    person = make_feedback(config["human"]["feedback"], get_registry(), lambda key: key)
    assert person.score("wonderful") > 0 > person.score("awful")


def test_the_page_s_code_runs() -> None:
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(code, names)
    person = reader(names["short_words"])
    assert person.score("so long remembered, so") == 1.0 + 1.0 - 1.0 + 0.0


def test_the_page_s_table_of_presets() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.+?) \|$", PAGE.split("| preset |")[1], re.M))
    assert list(rows) == list(PRESETS)
    for name, said in rows.items():
        delay = SimulatedTextSettings(preset=name, truth="m:f").reactions().delay
        if delay.kind == "uniform":
            assert said.startswith(f"U({delay.low:g}, {delay.high:g})".replace("0.", "."))
        else:
            assert said.startswith(f"{delay.kind}, median {delay.median:g} s".replace("0.", "."))
    assert 180 <= len(built_in()) <= 260
