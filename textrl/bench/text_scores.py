"""What a policy is worth on a text task, on a scale from 0 (random) to 1 (best).

Where rules pay, an episode's return is decided by prompt and response, so that a deterministic policy's mean
return over all prompts is exact. Where a prior is part of the task, the value is the KL-regularised objective
J = E[return] - beta KL(policy || prior): every policy here says its probabilities for every beginning of a
response, so J is exact for each of them, for a deterministic one too (its KL is -log prior(response)).

Shapes: ``X`` prompts, ``R`` responses, ``N`` beginnings of a response.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from textrl.bench.text_play import NEVER, Acting, Floats, observation_of, play
from textrl.evaluation.optimum import Optimum
from textrl.mdp.task import Prompt, TokenTask
from textrl.models.loading import load_causal_lm

#: A curve's points are measured on at most so many prompts.
CURVE_PROMPTS = 256
#: Keys evaluations, apart from every training's numbers.
_STREAM = 0x7E57


@dataclass(frozen=True)
class Value:
    """What a policy is worth.

    Attributes:
        value: Mean return, or J where a prior is part of the task.
        score: The same, normalised.
        reward: Mean return.
        kl: KL(policy || prior), nats per episode; None without a prior.
    """

    value: float
    score: float
    reward: float
    kl: float | None = None


class Judge:
    """Measures policies on one task whose optimum is known.

    Attributes:
        env: The environment, without masks and with the task's own reward alone.
        task: Its task.
        facts: What is known about it; see `textrl_text.tasks.facts`.
        optimum: What enumeration says, where a prior is part of the task.
    """

    def __init__(self, env: Any) -> None:
        """Look at the task; where there is a prior, write down all responses.

        Args:
            env: Without masks and with the task's own reward alone.
        """
        self.env = env
        self.task: TokenTask = self.env.task
        self.facts: Any = self.env.facts()
        self.optimum: Optimum | None = None
        if self.facts.prior is not None:
            prior = load_causal_lm(self.facts.prior, attn="eager")[0]
            self.optimum = Optimum.of(self.task, prior, self.facts.beta)

    def value(self, acting: Acting, *, task: TokenTask | None = None, few: bool = False) -> Value:
        """Measure a policy as it is judged: without exploration, or J where a prior is part of the task.

        Args:
            acting: The policy.
            task: With its masks, where it has some.
            few: Where rules pay, take a fixed sample of the prompts.
        """
        task = task or self.task
        if self.optimum is not None:
            return self._objective(tree_logprobs(task, acting))
        prompts = some(task.prompts, CURVE_PROMPTS) if few else task.prompts
        return self._mean(play(task, acting, prompts, None))

    def sampled(self, acting: Acting, episodes: int, seed: int, *, task: TokenTask | None = None) -> Value:
        """Estimate the mean return of a policy as it draws tokens; every prompt comes as often.

        Args:
            acting: The policy.
            episodes: At least so many.
            seed: Of the draws.
            task: With its masks, where it has some.
        """
        task = task or self.task
        prompts = list(task.prompts) * -(-episodes // len(task.prompts))
        return self._mean(play(task, acting, prompts, np.random.default_rng([_STREAM, seed])))

    def best_of(self, acting: Acting, count: int, episodes: int, seed: int) -> Value:
        """Measure the policy that draws `count` responses and gives the one that is paid most.

        Exact where a prior is part of the task; see `best_of_logprobs`.

        Args:
            acting: Who draws.
            count: n.
            episodes: Of the estimate elsewhere, at least.
            seed: Of its draws.
        """
        if self.optimum is not None:
            plain = tree_logprobs(self.task, acting)
            return self._objective(best_of_logprobs(plain, self.optimum.rewards, count))
        prompts = some(self.task.prompts, episodes)
        prompts *= -(-episodes // len(prompts))
        repeated = [prompt for prompt in prompts for _ in range(count)]
        paid = play(self.task, acting, repeated, np.random.default_rng([_STREAM, seed]))
        return self._mean(paid.reshape(-1, count).max(axis=1))

    def _mean(self, returns: Floats) -> Value:
        mean = float(returns.mean())
        return Value(mean, self.facts.normalised(mean), mean)

    def _objective(self, log_policy: Tensor) -> Value:
        assert self.optimum is not None
        found = self.optimum.standing_of(log_policy)
        return Value(found.objective, self.facts.normalised(found.objective), found.reward, found.kl)


def clean_env(env_id: str, difficulty: str, **sizes: Any) -> Any:
    """Return the environment of a task, without masks and with the task's own reward alone."""
    made: Any = gymnasium.make(env_id, difficulty=difficulty, **sizes)
    return made.unwrapped


@functools.lru_cache(maxsize=4)
def judge(env_id: str, difficulty: str) -> Judge:
    """Return a task's judge; one process often needs the same again."""
    return Judge(clean_env(env_id, difficulty))


def some(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """Return at most `count` of the prompts, the same ones always."""
    if len(prompts) <= count:
        return list(prompts)
    order = np.random.default_rng(_STREAM).permutation(len(prompts))[:count]
    return [prompts[int(place)] for place in order]


def tree_logprobs(task: TokenTask, acting: Acting) -> Tensor:
    """Return the (X, R) float64 log-probabilities that a policy gives to every response to every prompt.

    The responses come in the order of `textrl.evaluation.optimum.all_responses`: level by level, each level's
    beginnings extended by every token.

    Args:
        task: Without masks, small enough to write down all responses.
        acting: The policy, asked once about each beginning.
    """
    return torch.stack([_of_prompt(task, prompt, acting) for prompt in task.prompts])


def _of_prompt(task: TokenTask, prompt: Prompt, acting: Acting) -> Tensor:
    seen, width, every = observation_of(task, [prompt]), task.max_prompt_tokens, task.vocab_size
    so_far, state = np.zeros(1), None
    ended: list[Floats] = []
    for length in range(1, task.max_new_tokens + 1):
        found, state = acting(seen, state, None)
        longer = so_far[:, None] + found  # (N, V)
        ends = np.array([task.finish_reason(token, length) is not None for token in range(every)])
        ended.append(longer[:, ends].reshape(-1))
        if ends.all():
            break
        going = np.flatnonzero(~ends)
        parents = np.repeat(np.arange(len(so_far)), len(going))
        so_far = longer[:, going].reshape(-1)
        seen = {key: values[parents] for key, values in seen.items()}
        column = width + length - 1
        seen["input_ids"][:, column] = np.tile(going, len(parents) // len(going))
        seen["attention_mask"][:, column] = 1
        state = acting.pick(state, parents)
    return torch.from_numpy(np.maximum(np.concatenate(ended), NEVER))


def best_of_logprobs(log_policy: Tensor, rewards: Tensor, count: int) -> Tensor:
    """Return the (X, R) log-probabilities of the best of `count` independent responses.

    With F(r) the probability of a reward of at most r, F(r-) of less, and p(r) = F(r) - F(r-),

        P(y) = pi(y) (F(r_y)^n - F(r_y-)^n) / p(r_y):

    the best reward is r with probability F(r)^n - F(r-)^n, and the first response that has it is drawn from
    pi among those that do.

    Args:
        log_policy: (X, R) float64.
        rewards: (X, R) float64.
        count: n.
    """
    rows = []
    for one, paid in zip(log_policy, rewards, strict=True):
        levels, level = torch.unique(paid, return_inverse=True)
        mass = torch.zeros(len(levels), dtype=torch.float64).index_add(0, level, one.exp())
        up_to = mass.cumsum(0).clamp(max=1.0)
        # The last level holds what is left of 1, whatever the rounding of the sum.
        up_to[-1] = 1.0
        below = torch.cat([torch.zeros(1, dtype=torch.float64), up_to[:-1]])
        gain = (up_to**count - below**count) / mass.clamp(min=1e-300)
        rows.append((one + gain.clamp(min=1e-300).log()[level]).clamp(min=NEVER))
    return torch.stack(rows)


def plain(value: Value) -> dict[str, Any]:
    """Return a value as JSON data."""
    return {"value": value.value, "score": value.score, "reward": value.reward, "kl": value.kl}


def starting_model(env: Any, seed: int) -> PreTrainedModel:
    """Return the language model that learning starts from on an environment's task."""
    return load_causal_lm(str(env.policy(seed)), attn="eager")[0].eval()
