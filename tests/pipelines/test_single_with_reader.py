"""A config with a person who reads: H is learnt on the way, acts, is kept, and refused where it cannot be."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from textrl.cli import main

CONFIG: dict[str, Any] = {
    "learner": "ppo_ptx",
    "env": {
        "id": "TextRL/Tokens-v0",
        "prompts": ["The film was", "The end"],
        "tokenizer": "tiny-gpt2",
        "max_new_tokens": 6,
    },
    "total_timesteps": 250,
    "sources": {
        "h": {"use": "tamer_text", "rank": 8},
        "word": {"use": "keyword", "words": ["the"]},
        "kl": {"use": "kl"},
    },
    "rewards": {"word": 1.0, "kl": 0.05},
    "advice": {"technique": "action_biasing", "source": "h", "beta": 4.0},
    "human": {
        "source": "h",
        "feedback": {"use": "simulated_text", "preset": "oracle", "lexicon": {"the": 1.0}, "strictness": 0.5},
        "session": {"shown_per_iteration": 4},
    },
    "settings": {
        "policy": "tiny-gpt2", "episodes_per_iteration": 16, "minibatches": 2, "ema_decay": 0.0,
        "learning_rate": 1e-3, "checkpoint_every": 1, "first_trainable": 2,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)


def run(tmp_path: Path, config: dict[str, Any], *more: str, name: str = "one") -> int:
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    return main(["run", str(path), "--name", name, "--runs-dir", str(tmp_path / "runs"), *more])


def test_a_reader_teaches_while_the_policy_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """This reader dislikes every word, so that any text is rated."""
    assert run(tmp_path, CONFIG) == 0
    assert "with advice" in capsys.readouterr().out
    folder = tmp_path / "runs" / "one"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["human/presses"] > 10
    assert "advice/rating" not in rows[0], "nobody has taught anything yet"
    assert rows[-1]["advice/rating_size"] > 0
    assert 0 < rows[-1]["advice/kl_policy"] < 3
    assert rows[-1]["train/ratio_first_max"] == pytest.approx(1, abs=1e-4)
    evaluated = json.loads((folder / "summary.json").read_text())["evaluation"]
    assert evaluated.keys() == {"with_advice", "without_advice"}
    assert (folder / "session.jsonl").exists()


def test_what_was_taught_advises_a_run_without_a_reader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, CONFIG) == 0
    head = tmp_path / "runs" / "one" / "models" / "h"
    assert f"H is in {head}; another config reads it as 'weights'" in capsys.readouterr().out
    later = copy.deepcopy(CONFIG)
    del later["human"]
    later["sources"]["h"]["weights"] = str(head)
    assert run(tmp_path, later, name="later") == 0
    rows = (tmp_path / "runs" / "later" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[0])["advice/rating_size"] > 0, "from the first iteration on"


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = copy.deepcopy(CONFIG)
    half = copy.deepcopy(CONFIG) | {"total_timesteps": 100}
    assert run(tmp_path, whole, name="whole") == 0
    assert run(tmp_path, half, name="half") == 0
    rows = []
    config = tmp_path / "runs" / "half" / "config.yaml"
    config.write_text(config.read_text().replace("total_timesteps: 100", "total_timesteps: 250"))
    assert run(tmp_path, whole, "--resume", name="half") == 0
    for name in ("whole", "half"):
        lines = (tmp_path / "runs" / name / "metrics.jsonl").read_text().splitlines()
        rows.append([_timeless(json.loads(line)) for line in lines])
    assert rows[0] == rows[1]


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in row.items() if not k.startswith(("time", "memory")) and k != "time_s"}


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("advice", "beta", -1.0, "beta is -1.0"),
        ("advice", "source", "g", "there is no source called 'g'"),
        ("advice", "source", "word", "rates no tokens"),
        ("advice", "technique", "nudging", "nudging"),
        ("advice", "form", "potential", "form is 'potential'"),
        ("human", "source", "kl", "rates no tokens"),
        ("human", "feedback", {"use": "nobody"}, "nobody"),
        ("advice", None, {"beta": 2.0}, "'advice.technique' is missing"),
    ],
)
def test_wrong_sections_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], section: str, key: str | None, value: Any, said: str
) -> None:
    config = copy.deepcopy(CONFIG)
    if key is None:
        config[section] = value
    else:
        config[section][key] = value
    assert run(tmp_path, config) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "runs" / "one").exists(), "nothing half-written"


def test_a_learner_that_takes_no_advice_on_text_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"policy": "tiny-gpt2", "group_size": 4, "episodes_per_iteration": 16}
    config = copy.deepcopy(CONFIG) | {"learner": "rloo", "settings": settings}
    assert run(tmp_path, config) == 2
    assert "'rloo' cannot take advice by action_biasing" in capsys.readouterr().err
