"""The whole pipeline on a tiny model and made sentences: every stage, the report, and a resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from textrl.cli import main

CONFIG = {
    "pipeline": "rlhf",
    "model": "tiny-gpt2",
    "max_new_tokens": 8,
    "iterations": 3,
    "data": {
        "source": "made",
        "sizes": {"sft": 96, "rm": 64, "rm_test": 16, "judge": 64, "judge_test": 32, "prompts_test": 48},
        "ptx_corpora": ["pydoc"],
        "perplexity_corpus": "stdlib",
        "perplexity_tokens": 300,
    },
    "sft": {"lr": 2e-3, "batch_size": 16, "max_steps": 4, "max_tokens": 32, "dropout": 0.0},
    "reward_model": {"layers": 2, "k": 4, "lr": 1e-3, "batch_size": 4, "max_tokens": 32},
    "sources": {"rm": {"use": "reward_model"}, "kl": None, "brief": {"use": "length", "target": 6}},
    "rewards": {"rm": 1.0, "kl": 0.1, "brief": 0.05},
    "ppo": {
        "policy": "models/sft", "episodes_per_iteration": 16, "minibatches": 2, "micro_batch_size": 16,
        "learning_rate": 1e-3, "ptx_coef": 0.1, "ptx_data": "data/ptx.jsonl", "ptx_length": 16,
        "ema_decay": 0.9, "checkpoint_every": 1,
    },
    "evaluation": {"prompts": 12, "shown": 8},
}  # fmt: skip


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def run(config: Path, name: str, *extra: str) -> int:
    return main(["run", str(config), "--name", name, "--runs-dir", str(config.parent / "runs"), *extra])


def summary(config: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((config.parent / "runs" / name / "summary.json").read_text())
    return {key: found[key] for key in ("headline", "judges", "text", "reward_model")}


def test_every_stage_and_a_resume_with_the_same_numbers(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(config, "straight") == 0
    folder = config.parent / "runs" / "straight"
    for name in ("sft", "reward_model", "policy", "policy_last"):
        assert (folder / "models" / name / "model.safetensors").exists()
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 8
    page = (folder / "report.html").read_text()
    assert samples[0]["prompt"].split()[0] in page
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    ppo = [row for row in rows if row["stage"] == "ppo"]
    assert [row["step"] for row in ppo] == [1, 2, 3]
    for row in ppo:
        parts = row["reward/rm"] + row["reward/kl"] + row["reward/brief"]
        assert parts == pytest.approx(row["reward/total"], rel=1e-6, abs=1e-7)
    assert ppo[0]["train/kl_ref"] == 0.0

    from textrl.learners.ppo_ptx import PPOPTX

    iterate = PPOPTX._iterate

    def interrupted(learner: PPOPTX) -> None:
        if learner.iteration == 2:
            raise KeyboardInterrupt
        iterate(learner)

    monkeypatch.setattr(PPOPTX, "_iterate", interrupted)
    assert run(config, "broken") == 130
    monkeypatch.setattr(PPOPTX, "_iterate", iterate)
    assert run(config, "broken") == 2
    assert run(config, "broken", "--resume") == 0
    assert summary(config, "broken") == summary(config, "straight")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("--ppo.learning_rat=1", "learning_rate"),
        ("--ppo.clip=wide", "number"),
        ("--model=tiny-gpt3", "tiny-gpt2"),
        ("--rewards.kll=1", "kl"),
        ("--sources.rm.use=reward_modle", "reward_model"),
        ("--data.perplexity_corpus=pydoc", "pydoc"),
        ("--ppo.minibatches=3", "minibatches"),
        ("--pipeline=rlfh", "rlhf"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    config: Path, override: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config, "bad", override) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not (config.parent / "runs" / "bad").exists()


def test_frontier_compares_arms(config: Path) -> None:
    base = {key: value for key, value in CONFIG.items() if key != "pipeline"}
    frontier = {
        "pipeline": "frontier", "base": base, "seeds": [0], "every": 2,
        "arms": {"ptx": {"ptx_coef": 0.1}, "plain": {"ptx_coef": 0.0}},
    }  # fmt: skip
    config.write_text(yaml.safe_dump(frontier, sort_keys=False))
    assert run(config, "frontier") == 0
    found = json.loads((config.parent / "runs" / "frontier" / "summary.json").read_text())
    steps = [(point["arm"], point["step"]) for point in found["frontier"]]
    assert steps == [("ptx", 2), ("ptx", 3), ("plain", 2), ("plain", 3)]
