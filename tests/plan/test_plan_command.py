"""The command, its sentences about wrong input, and how it reads configs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from plan_world import PROMPTS, RESPONSE, config, small_model

from textrl.cli import main
from textrl.config import load_config
from textrl.models.tiny import tiny_gpt2
from textrl.plan.equal import equal_blocks
from textrl.plan.job import read_workload
from textrl.plan.table import table
from textrl.registry import get_registry

ROOT = Path(__file__).parents[2]
OFFLINE = str(ROOT / "configs" / "quickstart_offline.yaml")


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--json"]) == 0
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_a_plan_for_a_named_gpu_as_json_and_as_tables(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, OFFLINE, "--gpus", "2", "--gpu", "h200", "--ppo.minibatches", "2")
    memory = found["memory_bytes"]
    worst = max(sum(parts.values()) for parts in memory["transient"].values())
    assert memory["tensors_peak"] == sum(memory["resident"].values()) + worst
    assert memory["peak"] == memory["tensors_peak"] + memory["overhead"]
    assert found["fits"] is True
    assert found["processes"] == 2
    assert found["precision"] == "bf16"
    whole = sum(sum(parts.values()) for parts in found["flops_per_iteration"].values())
    assert found["flops"] == pytest.approx(whole * 25)
    assert found["seconds"] == pytest.approx(25 * sum(found["seconds_per_iteration"].values()))
    assert set(found["flops_per_iteration"]) == {"rollout", "scoring", "update", "pretraining"}
    page = table(found)
    for part in ("policy", "reference", "value network", "reward model (rm)", "Adam", "key-value cache"):
        assert part in page
    assert "It fits into memory." in page
    assert "name the GPU" in table({name: found[name] for name in found if name != "machine"})


def test_this_machine_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = small_model(tmp_path / "model")
    file = tmp_path / "small.yaml"
    file.write_text(json.dumps(config(model).data), encoding="utf-8")
    found = shown(capsys, str(file))
    machine = found["machine"]
    assert machine["measured"] is True
    assert all(speed > 1e6 for speed in machine["flops_per_second"].values())
    assert found["seconds"] > 0
    assert found["iterations"] == 3
    assert found["prompt_tokens"] == {"mean": len(PROMPTS[0]), "most": len(PROMPTS[0])}
    shorter = shown(capsys, str(file), "--response-tokens", "6", "--gpu", "l4")
    assert shorter["response_tokens"] == {"counted": 6, "most": RESPONSE}
    assert shorter["flops"] < 0.8 * found["flops"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["configs/tamer/alone.yaml"], "only PPO-ptx can be planned"),
        ([OFFLINE, "--gpus", "0"], "--gpus is 0"),
        ([OFFLINE, "--gpu", "h20"], "did you mean 'h200'"),
        ([OFFLINE, "--response-tokens", "99"], "more than the 16 of the config"),
        ([OFFLINE, "--model", "no-such-model"], "no model 'no-such-model'"),
        ([OFFLINE, "--gpu", "l4", "--ppo.first_trainable", "9"], "the policy has 4 blocks"),
    ],
)
def test_wrong_input_gets_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["plan", *arguments]) == 2
    error = capsys.readouterr().err
    assert said.lower() in error.lower()
    assert "Traceback" not in error


def test_what_a_saved_scorer_shares_with_the_policy_is_read_from_the_files(tmp_path: Path) -> None:
    from textrl.models.loading import load_causal_lm, scorer_from_causal_lm

    model = small_model(tmp_path / "model")
    policy, tokenizer = load_causal_lm(model)
    scorer = scorer_from_causal_lm(policy, layers=3)
    scorer.transformer.h[2].mlp.c_fc.weight.data += 1
    for part in (scorer, tokenizer):
        part.save_pretrained(tmp_path / "scorer")
    assert equal_blocks(model, str(tmp_path / "scorer")) == 2
    assert equal_blocks(model, str(tiny_gpt2(["x"], folder=tmp_path / "other", vocab_size=512, seed=1))) == 0
    node = config(model, value=str(tmp_path / "scorer"), first_trainable=3)
    work = read_workload(node, get_registry())
    assert work.value is not None
    assert (work.value.equal, work.value.config.num_hidden_layers) == (2, 3)


def test_the_reward_model_of_a_pipeline_shares_the_blocks_below_its_first_trainable_one() -> None:
    node = load_config(OFFLINE, ["reward_model.first_trainable=2", "reward_model.layers=3"])
    work = read_workload(node, get_registry())
    (scorer,) = work.reward_models
    assert (scorer.blocks, scorer.equal, scorer.batch) == (3, 2, 32)
    assert work.value is not None
    assert work.value.equal == 2
    assert work.iterations == 25
    assert work.response_tokens == 16
