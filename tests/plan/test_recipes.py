"""The recipes have their published values, each with its place; their twins run from end to end."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import pytest

from textrl.cli import main
from textrl.config import build, load_config
from textrl.data import corpora
from textrl.learners.ppo_ptx import PPOPTXSettings
from textrl.pipelines.rlhf.settings import RLHFSettings
from textrl.pipelines.rlhf.stages import ppo_settings_of
from textrl.pipelines.single import SingleSettings

FOLDER = Path(__file__).parents[2] / "configs" / "ppo_ptx"
#: The corpora are the Python installation's own pages; reading them once is enough.
DOCUMENTS = functools.cache(corpora.documents)
TWINS = ("instructgpt_tiny", "ziegler_tiny")  # that of summarize is tests/pipelines/test_summaries.py's


def pipeline(name: str) -> RLHFSettings:
    node = load_config(FOLDER / f"{name}.yaml")
    return build(RLHFSettings, node.data, where=node.where)


@pytest.mark.parametrize("name", ["instructgpt", "summarize", "ziegler"])
def test_every_value_of_a_recipe_names_its_place(name: str) -> None:
    """Nothing of the learner's settings is left to a default that the recipe does not know of."""
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    section = "settings" if name == "summarize" else "ppo"
    start = lines.index(f"{section}:") + 1
    body = []
    for line in lines[start:]:
        if line and not line.startswith(" "):
            break
        body.append(line)
    # Paths, and what changes memory and time but no result.
    free = re.compile(r"  (policy|ptx_data|micro_batch_size|rollout_batch|gradient_checkpointing|reference)")
    for line in body:
        if line.strip() and not free.match(line):
            assert re.search(r"#.*(\bC(\.\d)?:?|\bB\.1|\b3\.\d|code|not in|there is no)", line), line
    named = {line.split(":")[0].strip() for line in body}
    for key in ("episodes_per_iteration", "minibatches", "epochs", "learning_rate", "value_learning_rate",
                "clip", "gamma", "lam", "temperature", "ema_decay", "ptx_coef", "value_network"):  # fmt: skip
        assert key in named, f"{name} leaves {key} to its default"


def test_instructgpt_has_the_papers_values() -> None:
    config = pipeline("instructgpt")
    ppo = config.ppo
    assert config.iterations * ppo.episodes_per_iteration == 256_000
    assert (ppo.episodes_per_iteration, ppo.minibatches, ppo.epochs) == (512, 8, 1)
    assert (ppo.clip, ppo.gamma, ppo.temperature, ppo.warmup_iterations) == (0.2, 1.0, 1.0, 10)
    assert (ppo.ptx_coef, ppo.ptx_per_episode, ppo.ema_decay) == (27.8, 8, 0.992)
    assert (ppo.value_learning_rate, ppo.value_network) == (9e-6, "separate")
    assert (ppo.adam_beta1, ppo.adam_beta2) == (0.9, 0.95)
    assert config.rewards == {"rm": 1.0, "kl": 0.02}
    sft, ranking = config.sft, config.reward_model
    assert (sft.epochs, sft.pretrain_fraction, sft.lr, sft.dropout) == (2, 0.1, 5e-6, 0.2)
    assert (sft.warmup_steps, sft.final_lr_fraction) == (0, 0.1)
    assert (ranking.lr, ranking.batch_size, ranking.epochs, ranking.final_lr_fraction) == (9e-6, 64, 1, 0.1)
    assert 4 <= ranking.k <= 9
    assert config.evaluation.last_weights


def test_summarize_and_ziegler_have_their_papers_values() -> None:
    node = load_config(FOLDER / "summarize.yaml")
    single = build(SingleSettings, node.data, where=node.where)
    ppo = build(PPOPTXSettings, single.settings, where=node.where, prefix="settings")
    assert (ppo.episodes_per_iteration, ppo.epochs, ppo.lam, ppo.gamma) == (512, 4, 0.95, 1.0)
    assert (ppo.learning_rate, single.rewards["kl"], single.env["max_new_tokens"]) == (1.5e-5, 0.05, 48)
    config = pipeline("ziegler")
    kl = config.sources["kl"]
    assert kl is not None
    assert (kl["coefficient"], kl["target"], kl["horizon"]) == ("adaptive", 6.0, 10_000)
    ppo = config.ppo
    assert config.rewards["kl"] == 0.15
    assert (ppo.epochs, ppo.minibatches, ppo.episodes_per_iteration) == (4, 1, 512)
    assert (ppo.value_network, ppo.value_coef, ppo.lam, ppo.value_clip) == ("head", 0.1, 0.95, 0.2)
    assert (ppo.whiten_rewards, ppo.whiten_advantages, ppo.temperature) == (True, True, 0.7)
    # A head has no reward model to start from, which the pipeline must not fill in.
    assert ppo_settings_of(config, Path("run")).value is None


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_runs(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config itself, with less of everything: all stages, the evaluation and the report."""
    monkeypatch.setattr(corpora, "documents", DOCUMENTS)
    less = {
        "iterations": 1, "sft.max_steps": 2, "sft.batch_size": 8, "reward_model.max_steps": 2,
        "reward_model.batch_size": 4, "ppo.episodes_per_iteration": 16,
        "ppo.minibatches": min(4, pipeline(name).ppo.minibatches), "ppo.ptx_per_episode": 1,
        "data.sizes": "{sft: 120, rm: 120, rm_test: 40, judge: 120, judge_test: 40, prompts_test: 60}",
        "data.perplexity_tokens": 300, "evaluation.prompts": 16,
    }  # fmt: skip
    overrides = [token for key, value in less.items() for token in (f"--{key}", str(value))]
    config = str(FOLDER / f"{name}.yaml")
    assert main(["run", config, *overrides, "--runs-dir", str(tmp_path), "--name", "twin"]) == 0
    capfd.readouterr()
    summary: dict[str, Any] = json.loads((tmp_path / "twin" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "finished"
    if name == "instructgpt_tiny":
        last, averaged = summary["last_weights"], summary["headline"]
        for figure in ("judge_gain", "win_rate", "kl_per_sequence", "perplexity_after"):
            assert figure in last
        # The average has moved less than the last weights from where both began.
        assert averaged["kl_per_sequence"] != last["kl_per_sequence"]
    else:
        assert "last_weights" not in summary
    assert (tmp_path / "twin" / "report.html").is_file()
