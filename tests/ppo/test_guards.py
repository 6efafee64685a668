"""Whatever is broken is named and stops the run before a step; a large KL stops or slows it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_world import EOS, Env, kl_source, networks, small, tiny_gpt2, tiny_task
from transformers import GenerationConfig

from textrl import checkpoint
from textrl.errors import UserError
from textrl.learners.kl_limit import KlLimit
from textrl.learners.ppo_ptx import PPOPTX, PPOPTXSettings
from textrl.learners.ppo_ptx.experience import Experience, collect
from textrl.learners.ppo_ptx.guards import require_finite
from textrl.learners.ppo_ptx.ptx import PretrainingStream
from textrl.learners.ppo_ptx.steps import TooFar
from textrl.learners.ppo_ptx.update import Updater
from textrl.rewards import RewardSum
from textrl.settings import build


def learner(**changes: Any) -> PPOPTX:
    chosen = small(**changes)
    return PPOPTX(Env(tiny_task()), chosen, rewards=RewardSum([kl_source(0.5)]), networks=networks(chosen))


def collected(made: PPOPTX) -> Experience:
    return collect(made.networks, made.task, made.rewards, made.settings, made.accelerator, 0)


def weights(made: PPOPTX, *of: str) -> list[torch.Tensor]:
    """Return copies of what some networks train, by default of all that is trained."""
    trained = made.networks.trained()
    return [p.detach().clone() for name in of or trained for p in trained[name].values()]


def assert_still(made: PPOPTX, before: list[torch.Tensor], *of: str) -> None:
    assert all(torch.equal(a, b) for a, b in zip(before, weights(made, *of), strict=True))


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("policy", "The log-probabilities of the sampled tokens are not finite"),
        ("reference", "The reference's log-probabilities are not finite"),
        ("value", r"The values of the value network are not finite \(\d+ of \d+ values, first in row 0"),
    ],
)
def test_a_broken_network_is_named(network: str, words: str) -> None:
    made = learner()
    with torch.no_grad():
        # The final norm: deep enough that sampling still works on whatever comes out.
        getattr(made.networks, network).transformer.ln_f.bias[0] = math.nan
    before = [p.nan_to_num() for p in weights(made)]
    with pytest.raises(UserError, match=words):
        made.learn(iterations=1)
    assert all(torch.equal(a, b.nan_to_num()) for a, b in zip(before, weights(made), strict=True))


@pytest.mark.parametrize(("field", "loss"), [("advantages", "policy loss"), ("returns", "value loss")])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_broken_loss_is_named(field: str, loss: str, value: float) -> None:
    made = learner()
    experience = collected(made)
    broken = getattr(experience, field).clone()
    broken[experience.actions] = value
    # The value network comes after the policy, whose own step was sound.
    still = ("value",) if field == "returns" else ("policy", "value")
    before, policy = weights(made, *still), weights(made, "policy")
    with pytest.raises(UserError, match=f"The {loss} of a minibatch is .*no step was taken on it"):
        made.updater.step(replace(experience, **{field: broken}), torch.arange(32))
    assert_still(made, before, *still)
    moved = not all(torch.equal(a, b) for a, b in zip(policy, weights(made, "policy"), strict=True))
    assert moved == ("policy" not in still)


def test_a_broken_pretraining_loss_is_named() -> None:
    made = learner()
    stream = PretrainingStream([[2, 3, 4, 5] * 30], 16, EOS, seed=0)
    made.settings = replace(made.settings, ptx_coef=0.5, ptx_data="the stream above")
    made.updater = Updater(made.networks, made.settings, made.accelerator, stream)
    experience = collected(made)
    with torch.no_grad():
        # Only the pretraining examples are long enough to come here.
        made.networks.policy.transformer.wpe.weight[10:] = math.nan
    before = weights(made)
    with pytest.raises(UserError, match=r"The pretraining loss \(ptx\) of a minibatch is nan"):
        made.updater.step(experience, torch.arange(32))
    moved = zip(before, weights(made), strict=True)
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in moved)


@pytest.mark.parametrize(
    ("kind", "network", "still"),
    [
        ("separate", "policy", ("policy", "value")),
        ("separate", "value", ("value",)),  # after the policy, whose own step was sound
        ("head", "policy", ("policy", "value")),
        ("head", "value", ("policy", "value")),  # both come from one pass
    ],
)
def test_a_broken_gradient_is_named_and_takes_no_step(
    kind: Any, network: str, still: tuple[str, ...]
) -> None:
    made = learner(value_network=kind)
    experience = collected(made)
    name, param = list(made.networks.trained()[network].items())[-1]
    param.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]
    before, policy = weights(made, *still), weights(made, "policy")
    with pytest.raises(
        UserError, match=f"The {network} gradient is not finite .in {name} and 0 more."
    ) as told:
        made.updater.step(experience, torch.arange(32))
    assert "no step was taken on it" in str(told.value)
    assert_still(made, before, *still)
    moved = not all(torch.equal(a, b) for a, b in zip(policy, weights(made, "policy"), strict=True))
    assert moved == ("policy" not in still)


def test_out_of_memory_in_the_value_pass_repeats_that_pass_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found, norms = [], []
    for fails in (False, True):
        made = learner(micro_batch_size=8)
        experience = collected(made)
        real, calls, steps = made.networks.values, [0], []

        def short(*args: Any, real: Any = real, calls: list[int] = calls) -> torch.Tensor:
            calls[0] += 1
            if calls[0] == 2:  # when one micro-batch has left its gradient
                raise torch.OutOfMemoryError("none left")
            return real(*args)

        made.updater.policy_optimizer.register_step_pre_hook(lambda *_, steps=steps: steps.append(1))
        if fails:
            monkeypatch.setattr(made.networks, "values", short)
        figures = made.updater.step(experience, torch.arange(32))
        assert (made.updater.sizes.micro.size, steps) == (4 if fails else 8, [1])
        norms.append(figures["train/value_grad_norm"])
        found.append(figures | made.updater.ratios.figures(made.accelerator))
    assert norms[0] > 0
    assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-6)


def test_the_place_of_a_broken_value_is_told() -> None:
    table = torch.zeros(3, 4)
    require_finite("things", table, "mend them")
    table[1, 2] = -math.inf
    with pytest.raises(
        UserError, match=r"The things are not finite \(1 of 12 values, first in row 1, token 2\)"
    ):
        require_finite("things", table, "mend them")


def test_backing_off_returns_to_the_last_good_weights() -> None:
    weight = torch.zeros(1)
    guard = KlLimit(5.0, "back_off")
    factors, allowed = [], []
    for turn, kl in enumerate((4, 6, 7, 8, 4, 4, 6, 1, 1, 1)):
        weight.fill_(turn)
        allowed.append(guard.check(kl, {"w": weight}))
        factors.append(guard.figures()["train/kl_back_off"])
        # The turn in which the KL was last within the limit.
        assert int(weight) == (0, 0, 0, 0, 4, 5, 5, 7, 8, 9)[turn]
    assert factors == [1, 1 / 2, 1 / 4, 1 / 8, 1 / 4, 1 / 2, 1 / 4, 1 / 2, 1, 1]
    assert allowed == [factor >= before for before, factor in zip([1, *factors], factors, strict=False)]
    for _ in range(50):
        guard.check(100.0, {"w": weight})
    assert guard.factor == 2.0**-10


def test_a_limit_that_is_off_or_kept_does_nothing() -> None:
    assert KlLimit(None, "back_off").check(1e9, {})
    assert KlLimit(None, "back_off").figures() == {}
    assert KlLimit(5.0, "stop").check(5.0, {})
    with pytest.raises(UserError, match=r"5\.1 nats per sequence, above kl_limit \(5\)"):
        KlLimit(5.0, "stop").check(5.1, {})
    # There is nothing to go back to.
    with pytest.raises(UserError, match="above kl_limit"):
        KlLimit(5.0, "back_off").check(5.1, {})
    with pytest.raises(UserError, match="nan nats"):
        KlLimit(5.0, "stop").check(math.nan, {})


def test_backing_off_holds_the_kl_and_is_in_the_checkpoint(tmp_path: Path) -> None:
    options = {"learning_rate": 1e-2, "kl_limit": 0.5, "kl_limit_action": "back_off"}
    held = learner(**options)
    rows: list[dict[str, float]] = []
    held.learn(iterations=4, callback=lambda made: rows.append(made.metrics))
    far = [row for row in rows if row["train/kl_ref"] > 0.5]
    assert far
    for row, after in pairwise(rows):
        if row in far:
            assert row["train/steps"] == 0
            assert "train/policy_loss" not in row
            assert after["train/kl_ref"] < row["train/kl_ref"]
        else:
            assert row["train/learning_rate"] == pytest.approx(1e-2 * row["train/kl_back_off"])
    held.save(tmp_path / "saved")
    again = learner(**options).restore(tmp_path / "saved")
    assert again.kl_limit.halvings == held.kl_limit.halvings
    held.learn(iterations=7)
    again.learn(iterations=7)
    assert again.metrics["train/kl_back_off"] == held.metrics["train/kl_back_off"]
    assert_still(again, weights(held))


def test_target_kl_ends_an_update_early() -> None:
    whole = learner(learning_rate=1e-2, epochs=3).learn(iterations=1)
    cut = learner(learning_rate=1e-2, epochs=3, target_kl=1e-3).learn(iterations=1)
    assert whole.metrics["train/steps"] == 6
    assert 1 <= cut.metrics["train/steps"] < 6
    # Averages are over the steps that were taken: none of them was too far.
    assert cut.metrics["train/approx_kl"] <= 1.5e-3
    assert cut.metrics["train/ratio_first_max"] == pytest.approx(1, abs=1e-5)


def test_a_minibatch_that_is_too_far_takes_no_step() -> None:
    made = learner(target_kl=1e-4)
    experience = collected(made)
    with torch.no_grad():
        for param in made.updater.policy_params:
            param.add_(0.05 * torch.randn_like(param))
    before = weights(made)
    with pytest.raises(TooFar):
        made.updater.step(experience, torch.arange(32))
    assert_still(made, before)


PROCESSORS: list[dict[str, Any]] = [
    {"top_k": 20},
    {"top_p": 0.8},
    {"repetition_penalty": 1.05},
    {"no_repeat_ngram_size": 3},
    {"suppress_tokens": [2]},
    {"min_new_tokens": 2},
]


@pytest.mark.parametrize("asked", PROCESSORS)
def test_processors_that_scoring_would_not_see_are_refused(asked: dict[str, Any]) -> None:
    model = tiny_gpt2()
    model.generation_config = GenerationConfig(do_sample=True, **asked)
    (name,) = asked
    with pytest.raises(UserError, match=f"generation config of the policy 'unused' asks for {name} ") as told:
        networks(small(), model)
    assert "sampling_processors" in str(told.value)


def test_processors_can_be_dropped_and_stay_out_of_the_export(tmp_path: Path) -> None:
    model = tiny_gpt2()
    model.generation_config = GenerationConfig(
        do_sample=True, top_k=20, repetition_penalty=1.1, eos_token_id=EOS
    )
    chosen = small(sampling_processors="drop")
    made = PPOPTX(Env(tiny_task()), chosen, networks=networks(chosen, model)).learn(iterations=1)
    assert made.metrics["train/kl_ref"] == 0.0
    made.export(tmp_path / "policy")
    kept = GenerationConfig.from_pretrained(tmp_path / "policy")
    assert kept.top_k is None
    assert kept.repetition_penalty is None
    assert kept.eos_token_id == EOS


def test_neutral_generation_settings_pass() -> None:
    model = tiny_gpt2()
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.7, top_k=0, top_p=1.0, repetition_penalty=1.0, max_new_tokens=20
    )
    networks(small(), model)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"top_k": 50}, "unknown key 'top_k'"),
        ({"kl_limit": 0.0}, "kl_limit is 0.0"),
        ({"kl_limit_action": "slow"}, "'stop', 'back_off'"),
        ({"rollout_batch_size": 0}, "rollout_batch_size is 0"),
        ({"value_coef": -1.0}, "value_coef is -1.0"),
        ({"value_network": "head", "value": "folder"}, "leave value out"),
        ({"value_network": "head", "value_first_trainable": 1}, "leave value_first_trainable out"),
        ({"lora_rank": 4, "reference_precision": "bf16"}, "has no weights of its own"),
        ({"lora_rank": 4, "reference_device": "cpu"}, "has no weights of its own"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build(PPOPTXSettings, {"policy": "unused", **changes}, where=lambda key: "config.yaml")


def test_a_checkpoint_from_before_a_setting_existed_is_taken(tmp_path: Path) -> None:
    made = learner().learn(iterations=1)
    made.save(tmp_path / "saved")
    loaded = checkpoint.load(tmp_path / "saved")
    old = {key: value for key, value in loaded.config.items() if key != "target_kl"}
    checkpoint.save(tmp_path / "old", config=old, tensors=loaded.tensors, state=loaded.state)
    again = learner().restore(tmp_path / "old")
    assert again.iteration == 1
    with pytest.raises(UserError, match="target_kl"):
        learner(target_kl=0.1).restore(tmp_path / "old")
