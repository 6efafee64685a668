"""The summarisation pipeline from end to end, its rankings, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from textrl.cli import main
from textrl.config import build, load_config
from textrl.data.rankings import read_rankings
from textrl.data.summaries import TRAILER, Summary, SummarySizes, deal
from textrl.pipelines.summaries.candidates import rank
from textrl.pipelines.summaries.settings import CandidateSettings, SummarizeSettings

CONFIGS = Path(__file__).parents[2] / "configs"
OFFLINE = CONFIGS / "summarize_offline.yaml"


@pytest.mark.parametrize("name", ["summarize", "summarize_offline"])
def test_configs_build_with_the_papers_values(name: str) -> None:
    node = load_config(CONFIGS / f"{name}.yaml")
    settings = build(SummarizeSettings, node.data, where=node.where)
    assert settings.rewards == {"rm": 1.0, "kl": 0.05}
    assert settings.ppo.epochs == 4
    assert {"current", "initial", "reference", "lead"} <= set(settings.candidates.origins)
    if name == "summarize":
        assert settings.iterations * settings.ppo.episodes_per_iteration == pytest.approx(1e6, rel=1e-3)
        assert (settings.max_new_tokens, settings.sft.lr, settings.reward_model.lr) == (48, 6.35e-5, 1.5e-5)


def test_the_simulated_labeler_ranks_by_rouge_and_keeps_ties() -> None:
    text = Summary("... TL;DR:", " the cat sat on the mat")
    group = rank(text, [" a dog", " the cat sat on the mat", " the cat sat", " The cat, sat"], 0.02, "7")
    assert group.ranks == (3.0, 1.0, 2.0, 2.0)
    assert (group.group, group.prompt) == ("7", text.prompt)


def write_set(file: Path) -> None:
    """Write 60 short texts and their summaries in TRL's columns."""
    text = "File number {} is read as a whole and then closed." + TRAILER
    rows = [{"prompt": text.format(i), "completion": f"Read {i}."} for i in range(60)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The offline config itself, with less of everything, on a file in TRL's columns."""
    folder = tmp_path_factory.mktemp("summaries")
    write_set(folder / "set.jsonl")
    people = {"prompt": "A text of somebody else.\n\nTL;DR:", "chosen": " A text.", "rejected": " No."}
    (folder / "people.jsonl").write_text(json.dumps(people) + "\n")
    less = {
        "data.source": folder / "set.jsonl",
        "data.sizes": "{sft: 12, rm: 6, rm_test: 3, test: 4}",
        "candidates.add": f"[{folder / 'people.jsonl'}]",
        "candidates.origins": "[current, initial, pretrained, reference, lead]",
        "iterations": 1, "max_new_tokens": 8, "sft.max_steps": 2, "sft.batch_size": 4,
        "reward_model.max_steps": 2, "reward_model.batch_size": 4, "ppo.episodes_per_iteration": 8,
        "ppo.epochs": 1,
    }  # fmt: skip
    overrides = [token for key, value in less.items() for token in (f"--{key}", str(value))]
    assert main(["run", str(OFFLINE), *overrides, "--runs-dir", str(folder), "--name", "s"]) == 0
    return folder / "s"


def test_a_run_leaves_candidates_rankings_models_and_a_report(finished: Path) -> None:
    lines = (finished / "data" / "candidates.jsonl").read_text().splitlines()
    candidates = [json.loads(line) for line in lines]
    assert len(candidates) == 5 * 9
    assert {row["origin"] for row in candidates} == {"current", "initial", "pretrained", "reference", "lead"}
    groups = [
        group
        for name in ("rankings", "rankings_test")
        for group in read_rankings(finished / "data" / f"{name}.jsonl")
    ]
    assert sorted(len(group.completions) for group in groups) == [2] + [5] * 9  # the pair is people's
    for group in groups:
        if len(group.completions) == 5:
            assert group.ranks[3] == 1.0  # nothing is more like the reference than itself
    for name in ("sft", "reward_model", "policy"):
        assert (finished / "models" / name / "config.json").is_file()
    assert (finished / "report.html").is_file()


def test_the_summary_compares_policies_and_baselines(finished: Path) -> None:
    summary: dict[str, Any] = json.loads((finished / "summary.json").read_text())
    assert summary["status"] == "finished"
    table = summary["summaries"]
    assert set(table) == {"sft", "ppo", "lead", "reference"}
    assert table["reference"]["rouge_l"]["value"] == pytest.approx(1.0)
    assert 0 < table["lead"]["rouge_l"]["value"] < 1
    assert summary["headline"]["judge"] == "rouge_l"
    samples = [json.loads(line) for line in (finished / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 4


def test_the_reward_is_0_on_average_for_reference_summaries(finished: Path) -> None:
    """The offset stands in the reward model's config, and the plugin takes it off."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = finished / "models" / "reward_model"
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [json.loads(line) for line in (finished.parent / "set.jsonl").read_text().splitlines()]
    texts = [Summary(row["prompt"], " " + row["completion"]) for row in rows]
    parts = deal(texts, SummarySizes(sft=12, rm=6, rm_test=3, test=4), 0)
    scores = []
    for one in parts["sft"]:
        ids = tokenizer(one.prompt)["input_ids"] + tokenizer(one.completion)["input_ids"]
        with torch.no_grad():
            scores.append(float(model(torch.tensor([[*ids, tokenizer.eos_token_id]])).logits))
    offset = model.config.textrl_reward_offset
    assert sum(scores) / len(scores) == pytest.approx(offset, abs=1e-3)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["--candidates.origins", "[lead, refrence]"], "refrence"),
        (["--candidates.origins", "[lead]"], "name two or more"),
        (["--candidates.labeler", "none"], "add names no rankings"),
        (["--ppo.ptx_coef", "1.0", "--ppo.ptx_data", "x"], "no pretraining term"),
        (
            ["--candidates.current", "nowhere", "--candidates.origins", "[lead, reference]"],
            "not one of the origins",
        ),
        (["--rewards.other", "1.0"], "other"),
        (["--data.sizes", "{sft: 900000}"], "different texts"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence(
    overrides: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_set(tmp_path / "set.jsonl")
    given = ["--data.source", str(tmp_path / "set.jsonl"), *overrides]
    assert main(["run", str(OFFLINE), *given, "--runs-dir", str(tmp_path), "--name", "s"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_candidates_need_two_origins() -> None:
    with pytest.raises(ValueError, match="each once"):
        CandidateSettings(origins=("lead", "lead", "reference"))
