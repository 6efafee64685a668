"""What both learners on groups owe their users: groups, resume, figures that add up, refusals."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from group_world import BASE, KINDS, experience, made
from seen_callback import Seen
from tiny_world import EOS, PAD, PROMPTS, VOCAB, Env, kl_source, networks, small, source, tiny_gpt2, tiny_task
from transformers import AutoModelForCausalLM

from textrl import checkpoint
from textrl.errors import PluginError, UserError
from textrl.learners.groups.learner import GroupLearner
from textrl.learners.grpo import GRPOSettings
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.rloo import RLOOSettings
from textrl.mdp.task import TokenTask
from textrl.protocols import Batch
from textrl.registry import get_registry
from textrl.rewards import RewardSum
from textrl.settings import build

BOTH = pytest.mark.parametrize("kind", KINDS)


def weights_of(learner: GroupLearner) -> list[torch.Tensor]:
    return [p.detach().clone() for p in learner.updater.policy_params]


@BOTH
def test_a_group_is_one_prompt_and_its_advantages_add_up_to_nothing(kind: str) -> None:
    learner = made(kind)
    found = experience(learner, first_group=3)
    width = found.ids.shape[1] - found.actions.any(0).nonzero().numel()
    rows = found.ids[:, :width].view(8, 4, width)
    for group, number in zip(rows, found.groups.tolist(), strict=True):
        prompt = learner.task.prompt_for(number)
        assert all(tuple(row[row != PAD].tolist()) == prompt.ids for row in group)
    assert found.groups.tolist() == list(range(3, 11))
    responses = {tuple(row.tolist()) for row in found.ids}
    assert len(responses) > 8  # not four times the same
    assert found.advantages.view(8, 4).sum(1).tolist() == pytest.approx([0.0] * 8, abs=1e-5)
    again = experience(learner, first_group=4)  # numbers key the noise, whatever the company
    assert torch.equal(again.ids[:4][again.mask[:4]], found.ids[4:8][found.mask[4:8]])


@BOTH
def test_the_first_minibatch_is_on_policy_and_the_components_add_up(kind: str) -> None:
    learner = made(kind).learn(iterations=3)
    figures = learner.metrics
    assert figures["train/ratio_first_min"] == pytest.approx(1, abs=1e-5)
    assert figures["train/ratio_first_max"] == pytest.approx(1, abs=1e-5)
    assert figures["train/approx_kl_first"] < 1e-6
    assert figures["train/kl_offset"] == 0
    assert figures["reward/count"] + figures["reward/kl"] == pytest.approx(figures["reward/total"], rel=1e-6)
    assert figures["reward/kl"] == pytest.approx(-0.5 * figures["train/kl_ref"], rel=1e-5)
    assert figures["train/steps"] == 2
    assert "train/explained_variance" not in figures


@BOTH
def test_resume_repeats_the_run_bit_for_bit(kind: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"ema_decay": 0.9, "checkpoint_every": 2, "epochs": 2}
    straight = made(kind, **changes).learn(iterations=4)

    def interrupt(learner: GroupLearner) -> None:
        if learner.iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(kind, folder=tmp_path, **changes).learn(iterations=4, callback=interrupt)
    newest = checkpoint.latest(tmp_path)
    assert newest is not None
    assert newest.name == "iteration_000002"
    resumed = made(kind, folder=tmp_path, **changes).restore(newest)
    assert resumed.iteration == 2
    resumed.learn(iterations=4)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(straight), weights_of(resumed), strict=True))
    assert all(torch.equal(x, resumed.updater.ema[name]) for name, x in straight.updater.ema.items())
    assert resumed.metrics["reward/total"] == straight.metrics["reward/total"]
    assert resumed.num_timesteps == straight.num_timesteps
    other = "grpo" if kind == "rloo" else "rloo"
    with pytest.raises(UserError, match=f"written by {kind}"):
        made(other, **changes).restore(newest)
    with pytest.raises(UserError, match="learning_rate"):
        made(kind, **changes, learning_rate=1e-5).restore(newest)


@BOTH
@pytest.mark.parametrize("changes", [{}, {"kl": "loss", "beta": 0.3}, {"aggregation": "token"}])
def test_the_micro_batch_size_changes_nothing(kind: str, changes: dict[str, Any]) -> None:
    if kind == "rloo" and changes:
        return
    gradients = []
    for size in (32, 5, 1):
        learner = made(
            kind,
            model=tiny_gpt2().double(),
            micro_batch_size=size,
            max_grad_norm=1e12,
            minibatches=1,
            **changes,
        )
        found = experience(learner)
        with torch.no_grad():  # away from ratio 1 and from the reference
            for param in learner.updater.policy_params:
                param.add_(0.02 * torch.randn(param.shape, generator=torch.Generator().manual_seed(1)))
        learner.updater.optimizer.step = lambda *_, **__: None  # type: ignore[method-assign]
        learner.updater.step(found, torch.arange(32))
        gradients.append([p.grad.clone() for p in learner.updater.policy_params if p.grad is not None])
    assert max(float(x.abs().max()) for x in gradients[0]) > 1e-3
    for other in gradients[1:]:
        for mine, theirs in zip(gradients[0], other, strict=True):
            assert torch.allclose(mine, theirs, rtol=1e-6, atol=1e-12)


def test_equal_rewards_teach_nothing() -> None:
    class Same:
        def __call__(self, batch: Batch) -> torch.Tensor:
            return torch.ones(len(batch.response_ids))

    task = TokenTask(PROMPTS, None, VOCAB, {EOS}, PAD, 3, RewardSum([source(Same())]))
    for kind in KINDS:
        learner = made(kind, task=task, sources=())
        before = weights_of(learner)
        learner.learn(iterations=2)
        assert all(torch.equal(a, b) for a, b in zip(before, weights_of(learner), strict=True))
        assert learner.metrics["train/equal_groups"] == 1


def test_the_kl_in_the_loss_is_logged_and_not_paid_twice() -> None:
    learner = made("grpo", kl="loss", beta=0.4, minibatches=1, aggregation="constant").learn(iterations=3)
    figures = learner.metrics
    # One step an iteration: the sampled responses' own k3, over the length that the task admits.
    assert figures["train/kl_loss"] == pytest.approx(0.4 * figures["train/kl_ref_k3"] / 3, rel=1e-5)
    assert figures["train/kl_ref"] != 0
    assert figures["reward/total"] == figures["reward/count"]
    with pytest.raises(UserError, match=r"in the reward \(the source 'kl'\)"):
        made("grpo", kl="loss", beta=0.4, sources=(kl_source(0.5),))


@BOTH
def test_what_cannot_work_is_refused(kind: str) -> None:
    class Broken:
        def __call__(self, batch: Batch) -> torch.Tensor:
            return torch.full((len(batch.response_ids),), math.nan)

    task = TokenTask(PROMPTS, None, VOCAB, {EOS}, PAD, 3, RewardSum([source(Broken())]))
    learner = made(kind, task=task)
    before = weights_of(learner)
    with pytest.raises(PluginError, match="count"):
        learner.learn(iterations=1)
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(learner), strict=True))
    with pytest.raises(UserError, match="kl_limit"):
        made(kind, kl_limit=0.01, learning_rate=3e-2).learn(iterations=10)
    with pytest.raises(UserError, match="total_timesteps"):
        made(kind).learn()
    masked = tiny_task()
    masked.allowed = lambda prompt, response: np.ones(VOCAB, dtype=np.bool_)
    with pytest.raises(UserError, match=f"'{kind}' does not take a task with an action mask"):
        made(kind, task=masked)
    learner_class, settings_class = KINDS[kind]
    with pytest.raises(UserError, match="needs a token environment"):
        learner_class(object(), settings_class(**BASE))
    with torch.no_grad():
        broken = made(kind)
        broken.updater.policy_params[0].fill_(math.nan)
    with pytest.raises(UserError, match="not finite"):
        broken.learn(iterations=1)


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        (RLOOSettings, {"group_size": 1}, "'group_size': group_size is 1"),
        (RLOOSettings, {"episodes_per_iteration": 30}, "need a multiple of 8"),
        (RLOOSettings, {"learning_rate": 0.0}, "learning_rate is 0"),
        (RLOOSettings, {"clip": -0.1}, "clip is -0.1"),
        (RLOOSettings, {"lora_rank": 2, "reference_device": "cpu"}, "lora_rank is 2"),
        (RLOOSettings, {"seed": -1}, "seed is -1"),
        (RLOOSettings, {"keep_checkpoints": 0}, "keep_checkpoints is 0"),
        (GRPOSettings, {"kl": "loss"}, "beta is None; kl: loss needs"),
        (GRPOSettings, {"kl": "loss", "beta": -0.1}, "beta is -0.1"),
        (GRPOSettings, {"beta": 0.1}, "kl is reward"),
        (GRPOSettings, {"kl": "los"}, "'kl' must be"),
    ],
)
def test_settings_that_contradict_themselves(
    settings: type[Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=r"run\.yaml, ") as caught:
        build(settings, {**BASE, **changes}, where=lambda key: f"run.yaml, {key}")
    assert message in str(caught.value)


@BOTH
def test_prediction_export_callbacks_and_registry(kind: str, tmp_path: Path) -> None:
    seen, learner = Seen(stop_after=2), made(kind, ema_decay=0.5, clip=None)
    learner.learn(total_timesteps=10_000, callback=[seen], progress_bar=True)
    assert learner.iteration == 2
    learner.export(tmp_path / "policy")
    learner.export(tmp_path / "averaged", averaged=True)
    ids = torch.tensor([[2, 3, 4]])
    loaded, averaged = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name).eval() for name in ("policy", "averaged")
    )
    with torch.no_grad():
        own = learner.networks.policy(input_ids=ids).logits
        assert torch.allclose(loaded(input_ids=ids).logits, own, atol=1e-6)
        assert not torch.allclose(averaged(input_ids=ids).logits, own, atol=1e-5)
    # The same policy answers as PPO-ptx's does, drawn or not.
    chosen = small()
    peer = PPOPTX(Env(tiny_task()), chosen, networks=networks(chosen, learner.networks.policy))
    observation = {
        "input_ids": np.array([[0, 2, 3], [3, 4, 5]]),
        "attention_mask": np.array([[0, 1, 1], [1, 1, 0]]),
    }
    for deterministic in (True, False):
        keys = {"episodes": [5, 6], "positions": [0, 1]}
        mine = learner.predict(observation, deterministic=deterministic, **keys)[0]
        theirs = peer.predict(observation, deterministic=deterministic, **keys)[0]
        assert mine.tolist() == theirs.tolist()
    single = {name: value[0] for name, value in observation.items()}
    assert learner.predict(single, deterministic=True)[0].shape == ()
    record = get_registry().find("learner", kind)
    assert record.load() is KINDS[kind][0]
    assert record.load_settings() is KINDS[kind][1]


def test_an_adaptive_coefficient_follows_the_kl() -> None:
    from textrl_kl.reward import KLReward
    from textrl_kl.settings import KLSettings

    plain = kl_source(0.5)
    adaptive = KLReward(KLSettings(coefficient="adaptive", target=0.001, horizon=100))
    moving = type(plain)(name="kl", spec=plain.spec, reward=adaptive, weight=0.5)
    learner = made("rloo", sources=(moving,)).learn(iterations=3)
    assert learner.rewards is not None
    # Far above its target from the second iteration on: a fifth of 32/100 more each time.
    assert learner.rewards.weights["kl"] == pytest.approx(0.5 * (1 - 0.064) * 1.064**2, rel=1e-6)


def test_a_source_may_ask_for_the_references_hidden_states() -> None:
    class Looks:
        seen: tuple[int, ...] = ()

        def __call__(self, batch: Batch) -> torch.Tensor:
            assert batch.ref_hidden is not None
            Looks.seen = tuple(batch.ref_hidden.shape)
            outside = ~batch.response_mask
            assert not batch.ref_hidden[outside].any()
            return torch.zeros(batch.response_mask.shape)

    asks = source(Looks(), granularity="token", side="learner", needs=frozenset({"ref_hidden"}))
    learner = made("rloo", sources=(type(asks)(name="looks", spec=asks.spec, reward=asks.reward),))
    learner.learn(iterations=1)
    assert Looks.seen == (32, 3, 16)
