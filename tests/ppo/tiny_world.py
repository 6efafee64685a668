"""A world small enough to enumerate: six tokens, two prompts, three steps, a random two-block GPT-2."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.mdp.task import Prompt, TokenTask
from textrl.models.loading import scorer_from_causal_lm
from textrl.protocols import Batch
from textrl.rewards import RewardSum, Source
from textrl.specs import RewardSpec

VOCAB, EOS, PAD = 6, 1, 0
PROMPTS = (Prompt(ids=(2,)), Prompt(ids=(3, 4)))


def tiny_gpt2(seed: int = 0, layers: int = 2) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCAB, n_positions=32, n_embd=16, n_layer=layers, n_head=2, eos_token_id=EOS,
        bos_token_id=EOS, pad_token_id=PAD, initializer_range=0.5,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def tiny_llama(seed: int = 0, layers: int = 3) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32, eos_token_id=EOS,
        bos_token_id=EOS, pad_token_id=PAD, initializer_range=0.5, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


class TokenCount:
    """Pays for each 2 in the response and for ending with EOS: (B,) per episode."""

    def __call__(self, batch: Batch) -> torch.Tensor:
        twos = ((batch.response_ids == 2) & batch.response_mask).sum(1)
        ends = ((batch.response_ids == EOS) & batch.response_mask).any(1)
        return twos.float() + 0.5 * ends.float()


def source(reward: object, weight: float = 1.0, **spec: object) -> Source:
    record = RewardSpec(name="count", target="tiny_world:TokenCount", summary="for tests", **spec)  # type: ignore[arg-type]
    return Source(name="count", spec=record, reward=reward, weight=weight)  # type: ignore[arg-type]


def kl_source(weight: float) -> Source:
    from textrl.registry import get_registry

    spec = get_registry().find("reward", "kl")
    return Source(name="kl", spec=spec, reward=spec.load()(spec.load_settings()()), weight=weight)


def tiny_task(max_new_tokens: int = 3, seed: int = 0) -> TokenTask:
    return TokenTask(
        PROMPTS, None, VOCAB, {EOS}, PAD, max_new_tokens, RewardSum([source(TokenCount())]), seed
    )


class Env:
    """The least a learner asks of an environment: its task."""

    def __init__(self, task: TokenTask) -> None:
        self.task = task


def networks(settings: PPOPTXSettings, model: PreTrainedModel | None = None) -> Networks:
    policy = model if model is not None else tiny_gpt2()
    return Networks(policy, scorer_from_causal_lm(policy, layers=None), None, settings)


def small(**changes: object) -> PPOPTXSettings:
    base = {
        "policy": "unused", "episodes_per_iteration": 64, "minibatches": 2, "micro_batch_size": 32,
        "learning_rate": 3e-3, "value_learning_rate": 3e-3, "warmup_iterations": 0, "ema_decay": 0.0,
    }  # fmt: skip
    return PPOPTXSettings(**{**base, **changes})  # type: ignore[arg-type]
