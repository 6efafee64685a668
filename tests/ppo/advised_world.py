"""The tiny world with somebody who rates tokens, and the same distributions by brute force in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tiny_world import Env, kl_source, networks, small, tiny_gpt2, tiny_task
from torch import Tensor
from transformers import PreTrainedModel

from textrl.advice.text import TextGuidance, TextGuidanceSettings
from textrl.learners.ppo_ptx import PPOPTX
from textrl.learners.ppo_ptx.experience import Experience, collect
from textrl.rewards import RewardSum
from textrl.tamer.text.head import TokenHead

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Rater:
    """A source with H as somebody might have taught it: a real head with random weights."""

    def __init__(self, scale: float = 1.0, seed: int = 5) -> None:
        self.scale, self.seed = scale, seed
        self.head: TokenHead

    def bind_text(self, model: PreTrainedModel, tokenizer: Any) -> None:
        embeddings = model.get_input_embeddings().weight.detach().float().numpy()
        self.head = TokenHead(embeddings, rank=4, alpha=0.1, seed=self.seed)
        if self.scale:
            rng = np.random.default_rng(self.seed)
            self.head.w[:] = self.scale * rng.standard_normal(self.head.w.shape)
            self.head.b[:] = 0.5 * self.scale * rng.standard_normal(self.head.b.shape)
            self.head.learnt = 1

    def state_dict(self) -> dict[str, Any]:
        state = self.head.state_dict().items()
        return {name: torch.from_numpy(x.copy()) if isinstance(x, np.ndarray) else x for name, x in state}

    def load_state_dict(self, state: Any) -> None:
        arrays = {name: x.numpy() if isinstance(x, Tensor) else x for name, x in state.items()}
        self.head.load_state_dict(arrays)


def guided(
    technique: str = "action_biasing",
    *,
    beta: float = 1.0,
    scale: float = 1.0,
    model: PreTrainedModel | None = None,
    kl: float = 0.3,
    advice: dict[str, Any] | None = None,
    human: Any = None,
    rater: Rater | None = None,
    tokens: int = 3,
    **changes: object,
) -> PPOPTX:
    """Return a learner with guidance; further `changes` are of its settings."""
    chosen = small(**changes)
    how = TextGuidanceSettings(technique=technique, source="h", beta=beta, **(advice or {}))  # type: ignore[arg-type]
    return PPOPTX(
        Env(tiny_task(max_new_tokens=tokens)),
        chosen,
        rewards=RewardSum([kl_source(kl)]),
        networks=networks(chosen, model if model is not None else tiny_gpt2()),
        guidance=TextGuidance(how, rater or Rater(scale)),
        human=human,
    )


@dataclass(frozen=True)
class Brute:
    """Distributions before every token of one response: (T, V) float64 each."""

    pi: Floats
    h: Floats
    mu: Floats
    favourite: Floats


@torch.no_grad()
def brute(learner: PPOPTX, prompt: tuple[int, ...], response: list[int]) -> Brute:
    """Compute them from whole forward passes of both networks and the head's own formula."""
    how = learner.beside.guidance.settings  # type: ignore[union-attr]
    head = learner.beside.guidance.source.head  # type: ignore[union-attr]
    ids = torch.tensor([[*prompt, *response]])
    steps = slice(len(prompt) - 1, len(prompt) - 1 + len(response))
    logits = learner.networks.policy(input_ids=ids).logits[0, steps].double().numpy()
    logits = logits / learner.settings.temperature
    inner: Any = learner.networks.reference.base_model
    hidden = inner(input_ids=ids).last_hidden_state[0, steps].double().numpy()
    unit = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
    h = unit @ head.w.T @ head.snapshot().p.double().numpy().T + head.b
    log_pi = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    likely = np.argsort(-log_pi, axis=1)[:, : how.top_k]
    favourite = np.array([row[np.argmax(rated[row])] for row, rated in zip(likely, h, strict=True)])
    pi = np.exp(log_pi)
    if how.technique == "action_biasing":
        tilted = pi * np.exp(np.clip(how.beta * h, -how.cap_nats, how.cap_nats))
        mu = tilted / tilted.sum(1, keepdims=True)
    elif how.technique == "control_sharing":
        p = min(how.beta, 1.0)
        mu = (1 - p) * pi
        mu[np.arange(len(mu)), favourite] += p
    else:
        mu = pi
    return Brute(pi, h, mu, favourite)


def entries(ids: Tensor, mask: Tensor) -> list[int]:
    """Return the real tokens of a row."""
    return [int(token) for token in ids[mask]]


def lived(learner: PPOPTX, first: int = 0) -> Experience:
    """Collect an iteration."""
    return collect(
        learner.networks, learner.task, learner.rewards, learner.settings, learner.accelerator, first,
        advice=learner.beside.advice(), keep_hidden=True,
    )  # fmt: skip


def rows_of(learner: PPOPTX, experience: Experience) -> list[tuple[tuple[int, ...], list[int], int]]:
    """Return (prompt, response, row) of every sequence."""
    return [
        (
            learner.task.prompt_for(int(experience.episodes[row])).ids,
            entries(experience.ids[row], experience.actions[row]),
            row,
        )
        for row in range(len(experience.ids))
    ]
