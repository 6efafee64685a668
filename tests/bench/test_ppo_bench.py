"""`textrl bench rollout` and `textrl bench ppo`: small real measurements, and the sums around them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from textrl.bench import ppo, ppo_trl, rollout, rollout_sizes, rollout_worker
from textrl.bench.ppo_worker import EPOCHS, MINIBATCH, build, iteration_flops
from textrl.bench.rollout_limits import floor_s, limits
from textrl.bench.rollout_sizes import PROMPT, RESPONSE, Shape, make_model, make_prompts
from textrl.bench.running import Options
from textrl.cli import main
from textrl.errors import UserError

#: As small as a GPT-2 gets: what is tested is the bookkeeping.
MINI = {"n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 64}


@pytest.fixture
def mini(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(rollout_sizes.GPT2_SIZES, "mini", MINI)
    return "mini"


def test_floor_counts_what_torch_counts(mini: str) -> None:
    model = make_model(mini)
    model.set_attn_implementation("eager")  # the counter does not see into the fused kernel
    ids, _ = make_prompts(model, 3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids)
    counted = counter.get_total_flops()
    ours = Shape.of(model).forward_flops(3, PROMPT, PROMPT)
    # The counter sees whole attention squares where causal attention needs half of each.
    half = 2.0 * MINI["n_layer"] * PROMPT * PROMPT * MINI["n_embd"] * 3
    assert counted == pytest.approx(ours + half, rel=1e-9)


def test_bytes_of_a_rollout_by_hand(mini: str) -> None:
    shape = Shape.of(make_model(mini))
    weights = 4 * (shape.block_weights + shape.head_weights)
    # Two steps after three prompt tokens read 3 and 4 tokens' keys and values, of 16 numbers each, twice.
    assert shape.rollout_bytes(5, 3, 2) == 2 * weights + 4 * 5 * (3 + 4) * 2 * 16 * 2


def test_the_longer_of_the_two_limits_counts() -> None:
    found = {"matmul_gflops": 100.0, "read_gbs": 10.0}
    assert floor_s(2e11, 1e9, found) == pytest.approx(2.0)
    assert floor_s(1e9, 5e10, found) == pytest.approx(5.0)


def test_limits_are_positive_and_finite() -> None:
    assert all(0 < value < 1e7 for value in limits(256, 2**22).values())


def test_a_parabola_is_found_again() -> None:
    counts = np.array([64.0, 128, 256, 512])
    linear, square, deviations = rollout_worker.fit(counts, 0.01 * counts + 2e-5 * counts**2)
    assert linear == pytest.approx(0.01)
    assert square == pytest.approx(2e-5)
    assert np.abs(deviations).max() < 1e-9
    *_, off = rollout_worker.fit(counts, counts**3)
    assert np.abs(off).max() > 0.2


def test_both_rollouts_write_the_same_number_of_tokens(mini: str) -> None:
    found = rollout_worker.speed(mini, 4, 1)
    assert found["tokens"] == {"ours": 4 * RESPONSE, "generate": 4 * RESPONSE}
    assert found["ratio"] == pytest.approx(found["generate_s"][0] / found["ours_s"][0])


def test_stepping_and_lengths_are_measured(mini: str) -> None:
    stepping = rollout_worker.stepping(mini, 4, 1)
    assert stepping["share"] == pytest.approx(stepping["env_step_ms"] / stepping["model_step_ms"])
    lengths = rollout_worker.lengths(mini, 2, 1, 192)
    assert lengths["tokens"] == [64, 128, 192]
    assert lengths["worst"] == max(abs(value) for value in lengths["deviations"])


def test_our_iteration_is_the_work_it_claims(mini: str) -> None:
    learner = build(mini, 32, "fp32")
    learner.learn(iterations=1)
    assert learner.num_timesteps == 32 * RESPONSE  # no early stop
    assert learner.metrics["train/steps"] == EPOCHS * 32 / MINIBATCH
    nets = learner.networks
    stored = [{p.data_ptr() for p in net.parameters()} for net in (nets.policy, nets.reference, nets.value)]
    assert not stored[0] & stored[1]
    assert not stored[0] & stored[2]
    shape = Shape.of(nets.policy)
    one, two = (iteration_flops(shape, batch) for batch in (16, 32))
    assert two == pytest.approx(2 * one)


def test_the_baseline_is_asked_for_the_same_work() -> None:
    job = ppo.trl_job("gpt2", "fp32", 1)
    assert job["batch"] == job["minibatches"] * job["micro_batch"]
    assert (job["prompt"], job["response"], job["epochs"]) == (PROMPT, RESPONSE, EPOCHS)
    assert job["config"]["n_embd"] == 768


def test_the_baselines_script_needs_nothing_of_ours() -> None:
    source = Path(ppo_trl.__file__).read_text(encoding="utf-8")
    assert "import textrl" not in source
    assert "from textrl" not in source


def test_rows_become_a_table_and_checks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = {"iteration_s": [2.0], "peak_mb": 500.0, "floor_s": 1.0, "threads": 2,
           "limits": {"matmul_gflops": 100.0, "read_gbs": 20.0}}  # fmt: skip
    row = {"size": "tiny", "batch": 64, "precision": "fp32", "ours": [run], "ratio": 1.25,
           "memory_ratio": 0.4, "trl": [{"iteration_s": [2.5], "peak_mb": 1250.0}]}  # fmt: skip
    # In bf16 both are faster; what counts is our default against the fp32 that TRL is known by.
    half = {**row, "precision": "bf16", "ours": [{**run, "iteration_s": [0.8]}], "ratio": 1.5,
            "memory_ratio": 0.6, "trl": [{"iteration_s": [1.2], "peak_mb": 1250.0}]}  # fmt: skip
    rows = [row, half]
    ppo._beside_fp32(rows)
    table = ppo._table(rows, ["fp32", "bf16"])
    assert table.rows == (
        ("tiny, fp32", "64", "2.00", "2.50", "1.25", "1.25", "2.00", "500", "1,250"),
        ("tiny, bf16", "64", "0.80", "1.20", "1.50", "3.12", "-", "500", "1,250"),
    )
    assert len(table.columns) == len(table.rows[0])
    assert [check.holds for row in rows for check in ppo._checks(row)] == [False, True, True, False]
    rollout.write(Options("ppo", out=tmp_path, json=True), {"rows": rows}, [table])
    assert json.loads(capsys.readouterr().out)["rows"] == rows
    assert "1,250" in (tmp_path / "tables.md").read_text(encoding="utf-8")


def test_names_and_options_that_do_not_exist_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "ppo", "--sizes", "gtp2"]) == 2
    assert "Did you mean 'gpt2'" in capsys.readouterr().err
    assert main(["bench", "rollout", "--no-baseline"]) == 2
    assert "textrl bench ppo" in capsys.readouterr().err


def test_a_measurement_that_fails_says_why() -> None:
    with pytest.raises(UserError, match="KeyError"):
        rollout.worker("textrl.bench.rollout_worker", "speed", "--size", "nothing")
