"""One iteration of PPO-ptx and one of TRL's PPOTrainer, from the same weights and on the same responses.

Ours samples; a reward source of ours keeps the ids, and TRL is handed them where it would generate. All
else that TRL does, scoring, rewards, advantages, losses, optimizer, is its own code.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from textrl.learners.ppo_ptx import PPOPTX, PPOPTXSettings
from textrl.learners.ppo_ptx.networks import Networks
from textrl.mdp.task import Prompt, TokenTask
from textrl.protocols import Batch
from textrl.registry import get_registry
from textrl.rewards import RewardSum, Source
from textrl.specs import RewardSpec

VOCAB, PAD, EOS = 16, 0, 1
ROWS, WIDTH, LENGTH = 24, 3, 6
BETA, LAM, RATE, EPOCHS = 0.3, 0.95, 3e-3, 4


def _config() -> GPT2Config:
    return GPT2Config(
        vocab_size=VOCAB, n_positions=16, n_embd=16, n_layer=2, n_head=2, eos_token_id=EOS,
        bos_token_id=EOS, pad_token_id=PAD, initializer_range=0.3, num_labels=1,
    )  # fmt: skip


def language_model(*, ends: bool) -> PreTrainedModel:
    """Return a GPT-2 that never writes the pad token, and ends a response only if `ends`.

    One number of the last hidden state is always near 20; only the tokens it must not write have a weight
    there, so that their logits are below -70.
    """
    torch.manual_seed(0)
    model = GPT2LMHeadModel(_config()).eval()
    never = [PAD] if ends else [PAD, EOS]
    with torch.no_grad():
        model.transformer.ln_f.bias[0] = 20.0
        model.transformer.wte.weight[:, 0] = 0.0
        model.transformer.wte.weight[never] = 0.0
        model.transformer.wte.weight[never, 0] = -5.0
    return model


def scorer(seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    return GPT2ForSequenceClassification(_config()).eval()


class ModelReward:
    """A reward model's score of the whole text, on the last real token; keeps what it has seen."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.batches: list[Batch] = []

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        self.batches.append(batch)
        ids = torch.cat([batch.prompt_ids, batch.response_ids], 1)
        mask = torch.cat([batch.prompt_mask, batch.response_mask], 1)
        every = per_position(self.model, ids, mask)
        return every[torch.arange(len(ids)), mask.sum(1) - 1]


@torch.no_grad()
def per_position(model: PreTrainedModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Return (B, L) scores of a one-label classifier after every token."""
    hidden = model.base_model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    scores: Tensor = model.score(hidden)
    return scores.squeeze(-1)


@dataclass
class Env:
    """The least a learner asks of an environment."""

    task: TokenTask


@dataclass
class Ours:
    """Our iteration.

    Attributes:
        batch: The responses.
        metrics: As logged.
        before: Networks as they were: policy, value, reference, reward.
        learner: After the update.
        advantages: (B, T) before whitening, by our core.
    """

    batch: Batch
    metrics: dict[str, float]
    before: dict[str, PreTrainedModel]
    learner: PPOPTX


def ours(*, ends: bool) -> Ours:
    """Let the real learner sample and train one iteration of whole-batch steps."""
    settings = PPOPTXSettings(
        policy="unused", episodes_per_iteration=ROWS, minibatches=1, epochs=EPOCHS, micro_batch_size=ROWS,
        learning_rate=RATE, value_learning_rate=RATE, warmup_iterations=0, adam_beta2=0.999, ema_decay=0.0,
        lam=LAM, max_grad_norm=1e9, precision="fp32", seed=5,
    )  # fmt: skip
    networks = Networks(language_model(ends=ends), scorer(1), None, settings)
    with torch.no_grad():  # so that the KL is not 0
        torch.manual_seed(2)
        for parameter in networks.reference.parameters():
            parameter.add_(0.03 * torch.randn_like(parameter) * (parameter.abs() < 5).float())
    reward = ModelReward(scorer(3))
    record = RewardSpec(name="model", target="trl_world:ModelReward", summary="for tests")
    kl = get_registry().find("reward", "kl")
    assert isinstance(kl, RewardSpec)
    settings_class: Any = kl.load_settings()
    paid = RewardSum([Source(name="model", spec=record, reward=reward, weight=1.0)])
    penalty = RewardSum([Source(name="kl", spec=kl, reward=kl.load()(settings_class()), weight=BETA)])
    prompts = tuple(Prompt(ids=(2 + i // 12, 2 + i % 12, 7)) for i in range(ROWS))
    task = TokenTask(prompts, None, VOCAB, {EOS}, PAD, LENGTH, paid, 0)
    learner = PPOPTX(Env(task), settings, rewards=penalty, networks=networks)
    before = {
        "policy": copy.deepcopy(networks.policy),
        "value": copy.deepcopy(networks.value),
        "reference": copy.deepcopy(networks.reference),
        "reward": reward.model,
    }
    learner.learn(iterations=1)
    return Ours(reward.batches[0], learner.metrics, before, learner)


@dataclass
class Theirs:
    """TRL's iteration.

    Attributes:
        metrics: As logged.
        advantages: (B, T) before whitening, rows as in our batch.
        mask: (B, T) which of them it whitens.
        means: (count, mean) of everything that it averages over decisions, in order.
        policy: After the update.
        value: After the update.
    """

    metrics: dict[str, float]
    advantages: Tensor
    mask: Tensor
    means: list[tuple[int, float]]
    policy: PreTrainedModel
    value: PreTrainedModel


def theirs(mine: Ours, folder: Path, *, ends: bool) -> Theirs:
    """Let TRL's trainer train on the responses of `mine`."""
    import trl.experimental.ppo.ppo_trainer as module
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({f"t{i}": i for i in range(VOCAB)}, unk_token="t2")),
        pad_token=f"t{PAD}", eos_token=f"t{EOS}",
    )  # fmt: skip
    config = PPOConfig(
        output_dir=str(folder), per_device_train_batch_size=ROWS, gradient_accumulation_steps=1,
        num_mini_batches=1, total_episodes=ROWS, num_ppo_epochs=EPOCHS, response_length=LENGTH,
        temperature=1.0, stop_token="eos" if ends else None, learning_rate=RATE, kl_coef=BETA, lam=LAM,
        vf_coef=1.0, report_to="none", num_sample_generations=0, gradient_checkpointing=False, bf16=False,
        use_cpu=True, save_strategy="no", disable_tqdm=True, seed=0,
    )  # fmt: skip
    nets = {name: copy.deepcopy(model) for name, model in mine.before.items()}
    prompts = mine.batch.prompt_ids.tolist()
    trainer = PPOTrainer(
        args=config, processing_class=tokenizer, model=nets["policy"], ref_model=nets["reference"],
        reward_model=nets["reward"], value_model=nets["value"],
        train_dataset=Dataset.from_dict({"input_ids": prompts}),
        eval_dataset=Dataset.from_dict({"input_ids": prompts[:2]}),
    )  # fmt: skip
    seen: dict[str, Any] = {"means": []}
    whiten, generation, mean = module.masked_whiten, module.batch_generation, module.masked_mean

    def lent(model: Any, queries: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
        rows = [prompts.index(query) for query in queries.tolist()]
        seen["rows"] = torch.tensor(rows)
        ids = torch.cat([queries, mine.batch.response_ids[rows]], 1)
        logits = model(input_ids=ids, attention_mask=(ids != PAD).long()).logits
        return ids, logits[:, queries.shape[1] - 1 : -1]

    def watched(values: Tensor, mask: Tensor, shift_mean: bool = True) -> Tensor:
        seen["advantages"], seen["mask"] = values.clone(), mask.clone()
        result: Tensor = whiten(values, mask, shift_mean)
        return result

    def counted(numbers: Tensor, mask: Tensor, axis: Any = None) -> Tensor:
        result: Tensor = mean(numbers, mask, axis)
        seen["means"].append((int(mask.sum()), float(result.detach())))
        return result

    module.batch_generation, module.masked_whiten, module.masked_mean = lent, watched, counted
    try:
        trainer.train()
    finally:
        module.batch_generation, module.masked_whiten, module.masked_mean = generation, whiten, mean
    back = torch.argsort(seen["rows"])
    return Theirs(
        metrics=trainer.state.log_history[-1],
        advantages=seen["advantages"][back],
        mask=seen["mask"][back],
        means=seen["means"],
        policy=nets["policy"],
        value=nets["value"],
    )


def both(folder: Path, *, ends: bool) -> tuple[Ours, Theirs]:
    mine = ours(ends=ends)
    with warnings.catch_warnings():  # TRL's own, about itself and what it uses
        warnings.simplefilter("ignore")
        return mine, theirs(mine, folder, ends=ends)
