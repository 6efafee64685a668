"""The whole loop on a tiny model: every stage of two rounds, both arms, a resume, people's rankings."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from textrl.cli import main
from textrl.data.rankings import read_rankings
from textrl.pipelines.loop import collect
from textrl.pipelines.loop.direct import ranking_advantages, tie_share
from textrl.rollout import Rollout

CONFIG: dict[str, Any] = {
    "pipeline": "online_loop",
    "rounds": 2,
    "labels": {
        "prompts": 8, "held_out": 4, "k": 3, "temperature": 0.3,
        "sources": {"brief": {"use": "length", "unit": "characters", "target": 12}},
        "rewards": {"brief": 2.0},
    },
    "direct": {"learning_rate": 1e-3, "prompts_per_step": 4},
    "base": {
        "model": "tiny-gpt2",
        "max_new_tokens": 6,
        "iterations": 2,
        "data": {
            "source": "made",
            "sizes": {"sft": 64, "rm": 4, "rm_test": 4, "judge": 48, "judge_test": 16, "prompts_test": 24},
            "ptx_corpora": ["pydoc"],
            "perplexity_corpus": "stdlib",
            "perplexity_tokens": 200,
        },
        "sft": {"lr": 2e-3, "batch_size": 16, "max_steps": 3, "max_tokens": 32, "dropout": 0.0},
        "reward_model": {"layers": 2, "lr": 1e-3, "batch_size": 4, "max_tokens": 32},
        "sources": {"rm": {"use": "reward_model"}, "kl": None},
        "rewards": {"rm": 1.0, "kl": 0.1},
        "ppo": {
            "policy": "models/sft", "episodes_per_iteration": 8, "minibatches": 2, "micro_batch_size": 8,
            "learning_rate": 1e-3, "ptx_coef": 0.1, "ptx_data": "data/ptx.jsonl", "ptx_length": 16,
            "ema_decay": 0.9, "checkpoint_every": 1,
        },
        "evaluation": {"prompts": 8, "shown": 4, "batch_size": 16},
    },
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEXTRL_CACHE", str(tmp_path / "cache"))
    torch.set_num_threads(1)
    return tmp_path


def run(place: Path, name: str, *extra: str, config: dict[str, Any] | None = None) -> int:
    file = place / "loop.yaml"
    file.write_text(yaml.safe_dump(CONFIG if config is None else config))
    return main(["run", str(file), "--name", name, "--runs-dir", str(place / "runs"), *extra])


def points(place: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place / "runs" / name / "rounds.jsonl").read_text().splitlines()]


def test_two_rounds_of_both_arms_and_a_resume_with_the_same_numbers(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(place, "straight") == 0
    shown = capsys.readouterr().out
    folder = place / "runs" / "straight"
    for number in (1, 2):
        for name in ("reward_model", "policy", "direct"):
            assert (folder / "models" / f"round_{number}" / name / "model.safetensors").exists()
        groups = read_rankings(folder / "data" / f"round_{number}" / "rankings.jsonl")
        assert 0 < len(groups) <= 8
    first, second = (
        {group.prompt for group in read_rankings(folder / "data" / f"round_{number}" / "rankings.jsonl")}
        for number in (1, 2)
    )
    assert not first & second
    found = points(place, "straight")
    assert [(point["arm"], point["step"]) for point in found] == [
        ("loop", 1), ("loop", 2), ("direct", 1), ("direct", 2),
    ]  # fmt: skip
    assert [point["labels"] for point in found] == [8, 16, 8, 16]
    assert all(point["kl"] > 0 for point in found[:1])
    assert 0 <= found[1]["rm_accuracy_before"] <= 1
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["headline"]["kl_per_sequence"]["value"] == found[1]["kl"]
    assert [row["name"] for row in summary["judges"]] == ["tfidf", "labeler"]
    assert summary["rounds"] == found
    assert "RM accuracy" in shown
    page = (folder / "report.html").read_text()
    assert "What the gain costs" in page
    assert len((folder / "samples.jsonl").read_text().splitlines()) == 4

    # As a kill within the second round's PPO leaves it: what came later is not there.
    stages = json.loads((folder / "stages.json").read_text())
    names = list(stages)
    kept = {name: stages[name] for name in names[: names.index("ppo_2")]}
    (folder / "stages.json").write_text(json.dumps(kept))
    shutil.rmtree(folder / "models" / "round_2" / "policy")
    shutil.rmtree(folder / "checkpoints" / "ppo_2" / "iteration_000002")
    assert (folder / "checkpoints" / "ppo_2" / "iteration_000001").is_dir()
    shutil.rmtree(folder / "checkpoints" / "direct")
    for number in (1, 2):
        shutil.rmtree(folder / "models" / f"round_{number}" / "direct")
    (folder / "rounds.jsonl").unlink()
    assert run(place, "straight", "--resume") == 0
    assert points(place, "straight") == found
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["stage"] == "ppo_2"] == [1, 2]


def test_people_rank_in_a_file_and_the_loop_waits_for_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = copy.deepcopy(CONFIG)
    config["rounds"] = 1
    config["labels"] = {
        "labeler": "file", "prompts": 6, "held_out": 3, "k": 3, "file": str(place / "ranked_{round}.jsonl"),
    }  # fmt: skip
    config["direct"] = {"enabled": False}
    assert run(place, "people", config=config) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    candidates = place / "runs" / "people" / "data" / "round_1" / "candidates.jsonl"
    assert str(candidates) in said
    assert "--resume" in said
    asked = [json.loads(line) for line in candidates.read_text().splitlines()]
    assert len(asked) == 9
    # The shortest is best; the first prompt is passed over.
    rows = []
    for record in asked[1:]:
        texts = list(dict.fromkeys(record["completions"]))
        if len(texts) > 1:
            order = sorted(texts, key=len)
            ranks = [order.index(text) + 1 for text in texts]
            rows.append({"prompt": record["prompt"], "completions": texts, "ranks": ranks, "annotator": "me"})
    (place / "ranked_1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run(place, "people", "--resume", config=config) == 0
    kept = read_rankings(place / "runs" / "people" / "data" / "round_1" / "rankings.jsonl")
    assert asked[0]["prompt"] not in {group.prompt for group in kept}
    wanted = {row["prompt"]: row["ranks"] for row in rows}
    assert all(list(group.ranks) == wanted[group.prompt] for group in kept)
    (point,) = points(place, "people")
    assert "labeler_gain" not in point


def test_empty_responses_are_no_candidates(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reward model that reads no EOS could not read an empty response, and the loop would end there."""
    config = copy.deepcopy(CONFIG) | {"rounds": 1, "direct": {"enabled": False}}
    config["base"]["reward_model"]["append_eos"] = False
    config["labels"] |= {"held_out": 0, "k": 4}
    plain, said = collect.generate, []

    def at_once(*args: Any, **more: Any) -> Rollout:
        """Every third response ends before its first word."""
        rollout = plain(*args, **more)
        rollout.response_ids[::3, 0] = min(more["eos_ids"])
        rollout.response_mask[::3, 1:] = False
        said.append(len(rollout.response_ids))
        return rollout

    monkeypatch.setattr(collect, "generate", at_once)
    assert run(place, "empty", config=config) == 0
    asked = place / "runs" / "empty" / "data" / "round_1" / "candidates.jsonl"
    texts = [json.loads(line)["completions"] for line in asked.read_text().splitlines()]
    assert sum(map(len, texts)) <= sum(said) * 2 / 3 + 1
    assert all(text.strip() for row in texts for text in row)


def override(path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    here = config
    *parents, last = path.split("/")
    for part in parents:
        here = here[part]
    here[last] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("rounds", 0, "rounds is 0"),
        ("labels/k", 1, "k 1"),
        ("labels/sources", {"brief": {"use": "lenght"}}, "Did you mean 'length'?"),
        ("labels/rewards", {}, "has no weight"),
        ("labels/rewards", {"brief": 1.0, "long": 1.0}, "there is no source called 'long'"),
        ("labels/labeler", "file", "only a simulated labeler makes mistakes"),
        ("labels/labeler", "judge", "only a simulated labeler makes mistakes"),
        ("labels/sources", {}, "there is no source called 'brief'"),
        ("direct/prompts_per_step", 3, "no multiple of direct.prompts_per_step, 3"),
        ("base/sources", {"kl": None}, "which the loop retrains"),
        ("start", "best", "'sft', 'previous'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    place: Path, path: str, value: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(place, "bad", config=override(path, value)) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert not (place / "runs" / "bad").exists()


def test_what_a_ranking_pays_by_hand() -> None:
    ranks = torch.tensor([[1.0, 2.0, 3.0], [1.0, 1.0, 2.0]])
    kl = torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0]])
    # Wins less losses, over two rivals: 1, 0, -1 and .5, .5, -1; in the second row less .1 a nat.
    reward = torch.tensor([[1.0, 0.0, -1.0], [0.4, 0.3, -1.0]])
    wanted = torch.stack(
        [reward[:, i] - reward[:, [j for j in range(3) if j != i]].mean(1) for i in range(3)], 1
    )
    found = ranking_advantages(ranks, kl, scale=1.0, kl_coef=0.1)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.allclose(found.sum(1), torch.zeros(2), atol=1e-6)
    twice = ranking_advantages(ranks, torch.zeros(2, 3), scale=2.0, kl_coef=0.1)
    assert torch.allclose(twice[0], 2 * found[0])
    assert tie_share(ranks) == pytest.approx(1 / 6)
    assert torch.equal(
        ranking_advantages(torch.ones(1, 3), torch.zeros(1, 3), scale=1.0, kl_coef=0.1), torch.zeros(1, 3)
    )
