"""One learner through the registry: `learner:`, `env:`, `sources:`, `rewards:`, `settings:`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from textrl.cli import main

CONFIG = {
    "learner": "ppo_ptx",
    "env": {
        "id": "TextRL/Tokens-v0",
        "prompts": ["The film was", "The end"],
        "tokenizer": "tiny-gpt2",
        "max_new_tokens": 5,
    },
    "total_timesteps": 200,
    "sources": {"word": {"use": "keyword", "words": ["the"]}, "kl": {"use": "kl"}},
    "rewards": {"word": 1.0, "kl": 0.05},
    "settings": {
        "policy": "tiny-gpt2", "episodes_per_iteration": 16, "minibatches": 2, "ema_decay": 0.0,
        "learning_rate": 1e-3, "checkpoint_every": 1,
    },
}  # fmt: skip


def test_a_learner_runs_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    arguments = ["run", str(path), "--name", "one", "--runs-dir", str(tmp_path / "runs")]
    assert main(arguments) == 0
    folder = tmp_path / "runs" / "one"
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["time/total_timesteps"] >= 200
    assert rows[0]["reward/total"] == pytest.approx(rows[0]["reward/word"] + rows[0]["reward/kl"])
    assert (folder / "report.html").exists()
    assert main([*arguments, "--resume"]) == 0
    again = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in again] == [row["step"] for row in rows]


def test_an_environment_without_an_id_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "env": {"prompts": ["a"]}}))
    assert main(["run", str(path), "--runs-dir", str(tmp_path / "runs")]) == 2
    assert "id" in capsys.readouterr().err
