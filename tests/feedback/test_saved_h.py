"""What a session taught, kept for runs: ``textrl feedback replay --save-h``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from cyclopts import App
from machine_play import Play
from rank_session import made_items, rank_info
from store_events import made_event

from textrl.cli.feedback_store import add_to
from textrl.errors import UserError
from textrl.feedback.control.learning import make_env
from textrl.feedback.replay import replay
from textrl.feedback.store import FeedbackStore, open_store
from textrl.models.loading import load_causal_lm, tiny_gpt2
from textrl.protocols import AdviceState
from textrl.registry import get_registry
from textrl.rewards import build_reward

FEATURES = {"per_dimension": 5, "width": 0.13}
CONTROL = {"env": "MountainCar-v0", "max_episode_steps": 9, "features": FEATURES}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FeedbackStore:
    monkeypatch.chdir(tmp_path)
    return open_store("sessions.sqlite")


def taught(mode: str, config: dict[str, Any], store: FeedbackStore) -> Any:
    """Play forty ticks with presses, store the log, and return the machine."""
    play = Play(mode, config)
    for number in range(40):
        play.tick()
        play.shown()
        if number % 3 == 1:
            play.press((1, -1)[number % 2])
    play.store(store)
    return play.machine


def source(section: dict[str, Any]) -> Any:
    """Build the reward source that a section of a config describes."""
    settings = dict(section)
    spec: Any = get_registry().find("reward", settings.pop("use"))
    return build_reward(spec, settings)


def test_text_advice_of_a_run_is_the_sessions(
    store: FeedbackStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = str(tiny_gpt2(folder=tmp_path / "m", vocab_size=300, width=24, layers=1, heads=2, context=128))
    config = {"model": small, "prompts": ["one", "two"], "max_new_tokens": 6, "rank": 8, "seed": 3}
    machine = taught("text", config, store)
    store.close()
    feedback = App(name="feedback", result_action="return_value")
    add_to(feedback)
    assert feedback(["replay", "play", "--save-h", "taught_h"], exit_on_error=False) == 0
    said = capsys.readouterr().out
    section = yaml.safe_load(said[said.index("sources:") :])["sources"]["h"]
    assert section == {"use": "tamer_text", "model": small, "rank": 8, "seed": 3, "weights": "taught_h"}
    h = source(section)
    h.bind_text(*load_causal_lm(small))
    states = torch.randn(5, 24, generator=torch.Generator().manual_seed(0))
    expected = machine.writer.head.snapshot().rate(states)
    assert expected.abs().max() > 1e-3, "something was taught"
    torch.testing.assert_close(
        h.advise(AdviceState(observation=states, ref_hidden=states)), expected, rtol=0, atol=0
    )


def test_control_weights_of_a_run_are_the_sessions(store: FeedbackStore) -> None:
    machine = taught(
        "control", CONTROL | {"learner": "tamer", "tamer": {"features": FEATURES, "alpha": 0.1}}, store
    )
    result = replay(store, "play", save_h=Path("h.json"))
    assert result.source is not None
    assert result.source["alpha"] == 0.1
    h = source(dict(result.source)).bind(make_env(machine.settings, None))
    weights = machine.learning.tamer.model.weights
    assert np.abs(weights).max() > 1e-3
    assert np.array_equal(h.model.weights, weights)
    assert not replay(store, "play", upto=3, save_h=Path("nothing.json")).failure
    assert "0.0, 0.0" in Path("nothing.json").read_text(), "nothing was taught by then"


def test_a_replay_that_differs_writes_nothing(
    store: FeedbackStore, capsys: pytest.CaptureFixture[str]
) -> None:
    taught("control", CONTROL, store)
    payload = {"sha256": "f" * 64, "steps": 1, "after": 1}
    store.append([made_event("play", kind="digest", annotator="server", payload=payload)])
    store.close()
    feedback = App(name="feedback", result_action="return_value")
    add_to(feedback)
    assert feedback(["replay", "play", "--save-h", "h.json"], exit_on_error=False) == 1
    assert "h.json was not written: this H is not the one that was taught" in capsys.readouterr().out
    assert not Path("h.json").exists()


@pytest.mark.parametrize(
    ("path", "tamer", "says"),
    [
        ("h.json", {"features": FEATURES, "model": "knn"}, "Only a linear H .* this one is 'knn'"),
        ("no/such/h.json", {"features": FEATURES}, "The weights no/such/h.json cannot be written"),
    ],
)
def test_an_h_that_cannot_be_written(
    store: FeedbackStore, path: str, tamer: dict[str, Any], says: str
) -> None:
    taught("control", CONTROL | {"tamer": tamer}, store)
    with pytest.raises(UserError, match=says):
        replay(store, "play", save_h=Path(path))


def test_rankings_teach_no_h(store: FeedbackStore) -> None:
    store.create_session(rank_info(made_items(2), overlap=0))
    with pytest.raises(UserError, match="teaches no H; write its rankings with textrl feedback export"):
        replay(store, "r", save_h=Path("h"))
