"""The held-out evaluation: two policies, the same prompts, judges that took no part in training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from textrl.data.prompts import read_prompts
from textrl.evaluation.compare import compare_scores, evaluate_texts, sample_summary, score_samples
from textrl.evaluation.perplexity import Perplexity, perplexities, perplexity, perplexity_change
from textrl.evaluation.statistics import bootstrap_mean, paired_gain, win_rate
from textrl.learners.ppo_ptx import PPOPTX
from textrl.mdp.kl import k1
from textrl.mdp.logprobs import token_logprobs
from textrl.mdp.task import TokenTask
from textrl.models.loading import load_causal_lm
from textrl.models.stack import final_hidden, shared_depth
from textrl.pipelines.rlhf.judging import judges_of
from textrl.pipelines.rlhf.stages import Context, make_rewards
from textrl.rewards import RewardSum
from textrl.rollout import Rollout, generate, head_of

#: Sampling noise of the evaluation is keyed apart from that of training.
EVALUATION_SEED = 1_000_003
#: What the frontier compares with, by run folder: the SFT model's scores, the texts, its perplexity.
_BASELINES: dict[str, tuple[Any, list[str], Perplexity]] = {}


def evaluate(context: Context) -> dict[str, Any]:
    """Compare ``models/sft`` and ``models/policy``; writes the summary and the samples."""
    before, tokenizer = load_causal_lm(str(context.models / "sft"))
    after, _ = load_causal_lm(str(context.models / "policy"))
    for model in (before, after):
        model.requires_grad_(False)
    rewards = make_rewards(context).side("env")
    task = evaluation_task(context, tokenizer, rewards)
    depths = shared_depths(before, after, rewards)
    sampled = {
        name: sample_all(context, model, task, depths) for name, model in (("b", before), ("a", after))
    }
    texts = {name: [task.decode(row) for row in responses(rows)] for name, rows in sampled.items()}
    prompts = [prompt.text for prompt in task.prompts]
    judges = judges_of(context)
    summary = evaluate_texts(texts["b"], texts["a"], prompts, judges, tokenizer=tokenizer)
    summary["headline"] |= held_out_kl(before, sampled["a"], temperature=context.settings.ppo.temperature)
    summary["headline"] |= forgetting(context, before, after, tokenizer)
    scores = {name: episode_rewards(task, rows) for name, rows in sampled.items()}
    trained = context.run.payload("reward_model")
    summary["reward_model"] = compare_scores(scores["b"], scores["a"]) | {
        "pair_accuracy": trained.get("pair_accuracy")
    }
    context.run.summarise(
        summary | {"names": {"before": "SFT", "after": "PPO-ptx" if context.settings.ppo.ptx_coef else "PPO"}}
    )
    last = context.models / "policy_last"
    if context.settings.evaluation.last_weights and last.is_dir():
        context.run.summarise({"last_weights": evaluate_last(context, before, texts["b"], task)})
    shown = context.settings.evaluation.shown
    context.run.write_jsonl(
        "samples.jsonl", sample_summary(texts["b"], texts["a"], prompts, judges[0].judge, count=shown)
    )
    headline = summary["headline"]
    return {name: headline[name] for name in ("judge_gain", "win_rate", "kl_per_sequence")}


def evaluate_last(
    context: Context, before: PreTrainedModel, texts: list[str], task: TokenTask
) -> dict[str, Any]:
    """Compare the weights of the last step with the SFT model, on the same prompts with the same noise.

    Args:
        context: Of the run.
        before: The SFT model.
        texts: Its responses.
        task: Of the held-out prompts.

    Returns:
        ``judge_gain``, ``win_rate``, ``kl_per_sequence`` and the figures of forgetting.
    """
    last, tokenizer = load_causal_lm(str(context.models / "policy_last"))
    last.requires_grad_(False)
    sampled = sample_all(context, last, task, shared_depths(before, last, RewardSum([])))
    after = [task.decode(row) for row in responses(sampled)]
    prompts = [prompt.text for prompt in task.prompts]
    headline = evaluate_texts(texts, after, prompts, judges_of(context)[:1])["headline"]
    return (
        {name: headline[name] for name in ("judge_gain", "win_rate")}
        | held_out_kl(before, sampled, temperature=context.settings.ppo.temperature)
        | forgetting(context, before, last, tokenizer)
    )


def evaluation_task(context: Context, tokenizer: PreTrainedTokenizerBase, rewards: RewardSum) -> TokenTask:
    """Return the task of the held-out prompts."""
    return TokenTask(
        read_prompts(
            list(context.material.prompts_test),
            tokenizer,
            max_prompt_tokens=context.settings.max_prompt_tokens,
        ),
        tokenizer,
        len(tokenizer),
        {tokenizer.eos_token_id},
        tokenizer.pad_token_id,
        context.settings.max_new_tokens,
        rewards,
        seed=context.settings.ppo.seed,
    )


def sample_all(
    context: Context, model: PreTrainedModel, task: TokenTask, depths: tuple[int, ...] = ()
) -> list[Rollout]:
    """Sample one response per held-out prompt; both policies meet the same noise.

    Args:
        context: Of the run.
        model: A policy.
        task: Of the held-out prompts.
        depths: Frozen block counts whose outputs later scoring shares.
    """
    size, rollouts = context.settings.evaluation.batch_size, []
    for start in range(0, len(task.prompts), size):
        ids, mask = task.collate(task.prompts[start : start + size])
        rollouts.append(
            generate(
                model,
                ids,
                mask,
                max_new_tokens=task.max_new_tokens,
                eos_ids=task.eos_ids,
                pad_id=task.pad_id,
                seed=EVALUATION_SEED,
                episodes=torch.arange(start, start + len(ids)),
                temperature=context.settings.ppo.temperature,
                keep_depths=depths,
            )
        )
    return rollouts


def shared_depths(before: PreTrainedModel, after: PreTrainedModel, rewards: RewardSum) -> tuple[int, ...]:
    """Return how many leading blocks the two policies, and reward models, have in common."""
    others = [after, *(source.reward.model for source in rewards.sources if hasattr(source.reward, "model"))]
    return tuple(sorted({depth for other in others if (depth := shared_depth(before, other))}))


def responses(rollouts: Sequence[Rollout]) -> list[list[int]]:
    """Return the real tokens of every response."""
    return [
        ids[mask].tolist()
        for rollout in rollouts
        for ids, mask in zip(rollout.response_ids, rollout.response_mask, strict=True)
    ]


def episode_rewards(task: TokenTask, rollouts: Sequence[Rollout]) -> list[float]:
    """Return the environment's undiscounted reward of every episode."""
    totals: list[float] = []
    for rollout in rollouts:
        prompts = task.prompts[len(totals) : len(totals) + len(rollout.response_ids)]
        memo = {"trunk": rollout.trunk} if rollout.trunk is not None else None
        batch = task.batch(prompts, rollout.response_ids, rollout.response_mask, memo=memo)
        totals += task.score(batch).total.sum(1).tolist()
    return totals


@torch.no_grad()
def held_out_kl(
    reference: PreTrainedModel, rollouts: Sequence[Rollout], *, temperature: float = 1.0
) -> dict[str, Any]:
    """Return the KL to the reference of the policy that wrote: the mean of summed k1, nats per sequence.

    The policy's own log-probabilities are those of the rollout: decoding rounds differently from scoring,
    by some 1e-5 nats a token, and that saves a pass through the policy.

    Args:
        reference: The SFT model.
        rollouts: Of the trained policy.
        temperature: With which they were sampled; the reference's logits are divided by it too.
    """
    sums: list[float] = []
    for rollout in rollouts:
        mask = rollout.response_mask
        actions = torch.cat([torch.zeros_like(rollout.prompt_mask), mask], dim=1)
        hidden = final_hidden(reference, rollout.ids, rollout.mask, rollout.trunk)
        weight, bias = head_of(reference)
        old = token_logprobs(
            hidden[:, :-1][actions[:, 1:]],
            weight,
            rollout.ids[actions],
            bias=bias,
            temperature=temperature,
        )
        per_token = torch.zeros(mask.shape).masked_scatter(mask, k1(rollout.logprobs[mask], old))
        sums += per_token.sum(1).tolist()
    return {"kl_per_sequence": bootstrap_mean(np.array(sums)).plain()}


def forgetting(
    context: Context, before: PreTrainedModel, after: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> dict[str, Any]:
    """Return the change of perplexity on ordinary text that is not in the pretraining stream."""
    file = context.run.path / "data" / "perplexity.json"
    corpus = json.loads(file.read_text(encoding="utf-8"))
    first, second = perplexities([before, after], tokenizer, corpus["texts"])
    change = perplexity_change(first, second).plain()
    return {
        "perplexity_before": first.value,
        "perplexity_after": second.value,
        "perplexity_change_percent": {name: 100 * value for name, value in change.items()},
        "perplexity_corpus": corpus["name"],
        "perplexity_tokens": first.tokens,
    }


def measure_point(context: Context, learner: PPOPTX) -> dict[str, float]:
    """Return one point of the frontier for a policy in training: KL, judge's gain, change of perplexity.

    The SFT model's own samples and perplexity are measured once per run.
    """
    networks = learner.networks
    tokenizer = networks.tokenizer
    assert tokenizer is not None  # the pipeline loads it with the policy
    judge = judges_of(context)[0].judge
    task = evaluation_task(context, tokenizer, learner.task.rewards or RewardSum([]))
    sampled = sample_all(context, networks.policy, task)
    prompts = [prompt.text for prompt in task.prompts]
    key = str(context.run.path)
    if key not in _BASELINES:
        reference = networks.reference
        rows = [[task.decode(row)] for row in responses(sample_all(context, reference, task))]
        texts = json.loads((context.run.path / "data" / "perplexity.json").read_text(encoding="utf-8"))[
            "texts"
        ]
        (scores,) = score_samples(judge, prompts, rows)
        _BASELINES[key] = (scores, texts, perplexity(reference, tokenizer, texts))
    before, texts, ordinary = _BASELINES[key]
    (after,) = score_samples(judge, prompts, [[task.decode(row)] for row in responses(sampled)])
    gain = paired_gain(before, after)
    change = perplexity_change(ordinary, perplexity(networks.policy, tokenizer, texts))
    kl = held_out_kl(networks.reference, sampled, temperature=context.settings.ppo.temperature)
    return {
        "kl": kl["kl_per_sequence"]["value"],
        "gain": gain.value,
        "gain_lo": gain.lo,
        "gain_hi": gain.hi,
        "win_rate": win_rate(before, after).value,
        "ppl_change": 100 * change.value,
    }
