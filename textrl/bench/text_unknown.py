"""Tasks whose optimum is not known, since nobody can write down their responses: values are estimated.

J = E[return] - beta KL(policy || prior) is the mean over sampled episodes of return - beta (log policy - log
prior), and of a policy that takes one response for sure, return + beta log prior. Of the best of n responses
the KL is not known; it is at most log n - (n - 1) / n (Beirami et al. 2024, arXiv 2401.01879), which gives
the least value that J can have.

Shapes: ``B`` episodes, ``T`` response tokens (right-padded).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from textrl.bench.jobs import Tell
from textrl.bench.text_building import BEST_OF, build_learner, nothing_learnt, used_settings
from textrl.learners.groups.learner import GroupLearner
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.evaluation import FIRST_EPISODE
from textrl.learners.ppo_ptx.generation import sample
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.mdp.task import TokenTask
from textrl.models.loading import load_causal_lm
from textrl.rollout import Rollout, generate

#: Responses that are written together, which bounds the memory that log-probabilities of them take.
_ROWS = 64


def run_unknown(spec: Mapping[str, Any], clean: Any, tell: Tell) -> dict[str, Any]:
    """Train and measure; see `textrl.bench.text_trial`, whose keys these are, with ``score`` None.

    Args:
        spec: Of the job.
        clean: The environment with the task's own reward alone.
        tell: Told how far it is.
    """
    started_s = time.perf_counter()
    facts, task, seed = clean.facts(), clean.task, spec["seed"]
    scale = {"random": None, "optimum": None, "how": None, "beta": facts.beta}
    if spec["learner"] is None:
        settings = PPOPTXSettings(
            policy=str(clean.policy(seed)), value_network="head", seed=seed, precision="fp32"
        )
        model, tokenizer = load_causal_lm(settings.policy)
        networks = Networks(model, None, tokenizer, settings)
        kind = {"random": 1, "greedy": 0}.get(spec["row"], BEST_OF)
        found = estimate(networks, task, settings, facts.beta, spec["episodes"], of=kind)
        return nothing_learnt() | found | {"wall_s": time.perf_counter() - started_s, "scale": scale}
    learner, _, _ = build_learner(spec, clean)
    watch = Timer(spec, learner, tell)
    learner.learn(spec["budget"], callback=watch)
    wall_s, cpu_s = watch.end()
    engine = learner.settings.engine() if isinstance(learner, GroupLearner) else learner.settings
    advice = learner.beside.advice() if isinstance(learner, PPOPTX) else None
    found = estimate(learner.networks, task, engine, facts.beta, spec["episodes"], advice=advice)
    without = None
    if advice is not None:
        without = estimate(learner.networks, task, engine, facts.beta, spec["episodes"])["value"]
    return found | {
        "sampled": None,
        "curve": watch.curve,
        "reached": None,
        "tokens": int(learner.num_timesteps),
        "tokens_per_s": learner.num_timesteps / cpu_s if cpu_s > 0 else None,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "presses": learner.beside.human.presses if "human" in spec else None,
        "without": without,
        "settings": used_settings(learner),
        "scale": scale,
    }


class Timer:
    """Notes what each iteration was paid, penalty included, and stops before the budget is exceeded."""

    def __init__(self, spec: Mapping[str, Any], learner: Any, tell: Tell) -> None:
        self.spec, self.tell, self.curve = spec, tell, list[list[float]]()
        self._longest = learner.settings.episodes_per_iteration * learner.task.max_new_tokens
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def __call__(self, learner: Any) -> bool:
        """Return whether the training goes on."""
        self.curve.append([int(learner.num_timesteps), float(learner.metrics["reward/total"])])
        self.tell(0.9 * learner.num_timesteps / self.spec["budget"])
        return bool(learner.num_timesteps + self._longest <= self.spec["budget"])

    def end(self) -> tuple[float, float]:
        """Return seconds of wall time and of CPU."""
        return time.perf_counter() - self._wall_s, time.process_time() - self._cpu_s


@torch.no_grad()
def estimate(
    networks: Networks,
    task: TokenTask,
    settings: PPOPTXSettings,
    beta: float,
    episodes: int,
    *,
    of: int = 1,
    advice: Any = None,
) -> dict[str, Any]:
    """Return an estimate of J, as ``value``, with ``reward`` and ``kl``; ``score`` is None.

    Args:
        networks: Policy and prior.
        task: Whose rewards.
        settings: As the rollout reads them.
        beta: Weight of the KL divergence.
        episodes: How many responses are judged; the prompts come in turns.
        of: 1 judges samples, 0 the most probable tokens, n the best of n samples.
        advice: On tokens, where somebody gives some.
    """
    rewards, divergences = [], []
    judged = max(1, episodes // max(of, 1))
    for start in range(0, judged, _ROWS):
        numbers = [FIRST_EPISODE + n for n in range(start, min(start + _ROWS, judged))]
        copies = max(of, 1)
        keys = torch.tensor([copies * number + copy for number in numbers for copy in range(copies)])
        prompts = [task.prompt_for(number) for number in numbers for _ in range(copies)]
        if of:
            rollout = sample(networks, task, prompts, keys, settings, advice=advice)
        else:
            rollout = _most_probable(networks, task, prompts, keys)
        paid = (
            task.score(task.batch(prompts, rollout.response_ids, rollout.response_mask)).total.double().sum(1)
        )
        if of > 1:
            rewards.append(paid.view(-1, of).amax(1))
            continue
        rewards.append(paid)
        divergences.append(_divergence(networks, rollout, known=bool(of)))
    reward = float(torch.cat(rewards).mean())
    kl = math.log(of) - (of - 1) / of if of > 1 else float(torch.cat(divergences).mean())
    return {"value": reward - beta * kl, "score": None, "reward": reward, "kl": kl}


def _most_probable(networks: Networks, task: TokenTask, prompts: Any, keys: Tensor) -> Rollout:
    ids, mask = task.collate(prompts)
    return generate(
        networks.policy, ids, mask, max_new_tokens=task.max_new_tokens, eos_ids=task.eos_ids,
        pad_id=task.pad_id, seed=0, episodes=keys, deterministic=True,
    )  # fmt: skip


def _divergence(networks: Networks, rollout: Rollout, *, known: bool) -> Tensor:
    """Return (B,) log policy - log prior of the responses; the first is 0 for what is sure to be written."""
    mask = rollout.response_mask
    actions = torch.cat([torch.zeros_like(rollout.prompt_mask), mask], dim=1)
    flat = networks.logprobs(networks.reference, rollout.ids, rollout.mask, actions, None).double()
    prior = torch.zeros(mask.shape, dtype=torch.float64).masked_scatter(mask, flat).sum(1)
    return (rollout.logprobs.double().sum(1) if known else 0.0) - prior
