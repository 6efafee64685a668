"""The learner's surface: resume, export, guards, prediction, and where it converges."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import (
    EOS,
    PAD,
    PROMPTS,
    VOCAB,
    Env,
    TokenCount,
    kl_source,
    networks,
    small,
    source,
    tiny_gpt2,
    tiny_task,
)
from transformers import AutoModelForCausalLM, PreTrainedModel

from textrl import checkpoint
from textrl.errors import PluginError, UserError
from textrl.learners.ppo_ptx import PPOPTX
from textrl.mdp.task import Prompt, TokenTask
from textrl.protocols import Batch
from textrl.rewards import RewardSum


def learner(tmp_path: Path | None = None, **changes: object) -> PPOPTX:
    chosen = small(**changes)
    rewards = RewardSum([kl_source(0.5)])
    made = PPOPTX(Env(tiny_task()), chosen, rewards=rewards, networks=networks(chosen))
    made.checkpoint_dir = tmp_path
    return made


def weights(made: PPOPTX) -> list[torch.Tensor]:
    return [p.detach().clone() for group in made.networks.trained().values() for p in group.values()]


def test_resume_repeats_the_run_bit_for_bit(tmp_path: Path) -> None:
    straight = learner(ema_decay=0.9).learn(iterations=4)
    broken = learner(tmp_path, ema_decay=0.9, checkpoint_every=2)

    def interrupt(made: PPOPTX) -> None:
        if made.iteration == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.learn(iterations=4, callback=interrupt)
    newest = checkpoint.latest(tmp_path)
    assert newest is not None
    assert newest.name == "iteration_000002"
    resumed = learner(tmp_path, ema_decay=0.9, checkpoint_every=2).restore(newest)
    assert resumed.iteration == 2
    resumed.learn(iterations=4)
    for a, b in zip(weights(straight), weights(resumed), strict=True):
        assert torch.equal(a, b)
    for name, tensor in straight.updater.ema.items():
        assert torch.equal(tensor, resumed.updater.ema[name])
    assert resumed.metrics["reward/total"] == straight.metrics["reward/total"]
    assert resumed.num_timesteps == straight.num_timesteps


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    learner().save(tmp_path / "saved")
    with pytest.raises(UserError, match="learning_rate"):
        learner(learning_rate=1e-5).restore(tmp_path / "saved")


def test_an_exported_policy_loads_with_transformers_alone(tmp_path: Path) -> None:
    made = learner(ema_decay=0.5).learn(iterations=2)
    made.export(tmp_path / "policy")
    made.export(tmp_path / "averaged", averaged=True)
    ids = torch.tensor([[2, 3, 4]])
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "policy").eval()
    averaged = AutoModelForCausalLM.from_pretrained(tmp_path / "averaged").eval()
    with torch.no_grad():
        own = made.networks.policy(input_ids=ids).logits
        assert torch.allclose(loaded(input_ids=ids).logits, own, atol=1e-6)
        assert not torch.allclose(averaged(input_ids=ids).logits, own, atol=1e-4)
    name, shadow = next(iter(made.updater.ema.items()))
    assert torch.allclose(dict(averaged.named_parameters())[name], shadow)


def test_lora_trains_adapters_only_and_exports_them_merged(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    from tiny_world import tiny_llama

    chosen = small(lora_rank=2, first_trainable=1)
    made = PPOPTX(Env(tiny_task()), chosen, rewards=None, networks=networks(chosen, tiny_llama()))
    assert all("lora_" in name for name in made.networks.trained()["policy"])
    made.learn(iterations=3)
    made.export(tmp_path / "policy")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "policy").eval()
    ids = torch.tensor([[2, 3, 4]])
    with torch.no_grad():
        merged, own = loaded(input_ids=ids).logits, made.networks.policy(input_ids=ids).logits
        assert torch.allclose(merged, own, atol=1e-5)
        assert not torch.allclose(own, made.networks.reference(input_ids=ids).logits, atol=1e-3)


class Broken:
    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, batch: Batch) -> torch.Tensor:
        return torch.full((len(batch.response_ids),), self.value)


def test_a_reward_that_is_not_finite_stops_before_any_step() -> None:
    chosen = small()
    task = TokenTask(PROMPTS, None, VOCAB, {EOS}, PAD, 3, RewardSum([source(Broken(math.nan))]))
    made = PPOPTX(Env(task), chosen, networks=networks(chosen))
    before = weights(made)
    with pytest.raises(PluginError, match="count"):
        made.learn(iterations=1)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(made), strict=True))


def test_a_kl_limit_stops_the_run() -> None:
    with pytest.raises(UserError, match="kl_limit"):
        learner(kl_limit=0.05, learning_rate=1e-2).learn(iterations=10)


def test_a_policy_that_is_not_finite_is_named() -> None:
    made = learner()
    with torch.no_grad():
        made.updater.policy_params[0].fill_(math.nan)
    with pytest.raises(UserError, match="not finite"):
        made.learn(iterations=1)


def test_a_task_with_an_action_mask_is_refused() -> None:
    task = tiny_task()
    task.allowed = lambda prompt, response: np.ones(VOCAB, dtype=np.bool_)
    chosen = small()
    with pytest.raises(UserError, match="action mask"):
        PPOPTX(Env(task), chosen, networks=networks(chosen))
    with pytest.raises(UserError, match="token environment"):
        PPOPTX(object(), chosen, networks=networks(chosen))


def test_learn_stops_at_the_timesteps() -> None:
    made = learner().learn(total_timesteps=300)
    assert made.num_timesteps >= 300
    assert made.iteration <= 4
    with pytest.raises(UserError, match="total_timesteps"):
        made.learn()


def test_components_add_up_to_the_reward_that_was_trained_on() -> None:
    made = learner().learn(iterations=3)
    parts = made.metrics["reward/count"] + made.metrics["reward/kl"]
    assert parts == pytest.approx(made.metrics["reward/total"], rel=1e-6)
    assert made.metrics["reward/kl"] == pytest.approx(-0.5 * made.metrics["train/kl_ref"], rel=1e-5)


def enumerate_optimum(
    model: PreTrainedModel, prompt: Prompt, beta: float, horizon: int
) -> tuple[dict[tuple[int, ...], float], dict[tuple[int, ...], float]]:
    """Return pi_ref and pi* proportional to pi_ref exp(r / beta) over all strings of the task."""
    strings: list[tuple[int, ...]] = []
    for length in range(1, horizon + 1):
        for tokens in itertools.product(range(VOCAB), repeat=length):
            inner_eos = EOS in tokens[:-1]
            if not inner_eos and (tokens[-1] == EOS or length == horizon):
                strings.append(tokens)
    reference = {tokens: math.exp(string_logprob(model, prompt, tokens)) for tokens in strings}
    ids = torch.tensor([[*tokens, *[PAD] * (horizon - len(tokens))] for tokens in strings])
    mask = torch.tensor([[True] * len(t) + [False] * (horizon - len(t)) for t in strings])
    none = torch.zeros(len(strings), 1, dtype=torch.int64)
    batch = Batch(prompt_ids=none, prompt_mask=none.bool(), response_ids=ids, response_mask=mask)
    paid = TokenCount()(batch)
    tilted = {t: reference[t] * math.exp(float(r) / beta) for t, r in zip(strings, paid, strict=True)}
    total = sum(tilted.values())
    return reference, {tokens: weight / total for tokens, weight in tilted.items()}


@torch.no_grad()
def string_logprob(model: PreTrainedModel, prompt: Prompt, tokens: tuple[int, ...]) -> float:
    ids = torch.tensor([[*prompt.ids, *tokens]])
    logprobs = torch.log_softmax(model(input_ids=ids).logits[0].double(), -1)
    start = len(prompt.ids) - 1
    return float(sum(logprobs[start + i, token] for i, token in enumerate(tokens)))


def test_it_converges_to_the_known_optimum() -> None:
    """pi* = pi_ref exp(r / beta) / Z: gamma = 1, k1 in the reward, no clipping or whitening of rewards."""
    beta, horizon = 1.0, 2
    chosen = small(
        episodes_per_iteration=512, minibatches=4, micro_batch_size=512, learning_rate=3e-3,
        value_learning_rate=1e-2, lam=1.0, value_clip=None,
    )  # fmt: skip
    task = tiny_task(max_new_tokens=horizon)
    made = PPOPTX(
        Env(task), chosen, rewards=RewardSum([kl_source(beta)]), networks=networks(chosen, tiny_gpt2())
    )

    def anneal(made: PPOPTX) -> None:
        # A constant rate leaves a noise floor; the optimum is what is tested here, not the schedule.
        if made.iteration in (40, 60):
            object.__setattr__(made.settings, "learning_rate", made.settings.learning_rate / 4)

    made.learn(iterations=75, callback=anneal)
    for prompt in PROMPTS:
        reference, best = enumerate_optimum(made.networks.reference, prompt, beta, horizon)
        assert sum(reference.values()) == pytest.approx(1.0, abs=1e-6)
        learned = {t: math.exp(string_logprob(made.networks.policy, prompt, t)) for t in best}
        start = 0.5 * sum(abs(reference[t] - best[t]) for t in best)
        distance = 0.5 * sum(abs(learned[t] - best[t]) for t in best)
        assert start > 0.2
        assert distance < 0.04
