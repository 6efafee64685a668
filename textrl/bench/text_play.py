"""Policies of all learners behind one interface, and episodes that are played with them.

Shapes: ``N`` rows, ``P`` prompt tokens (left-padded), ``T`` response tokens (right-padded), ``L = P + T``
columns, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from textrl.advice.text import TextAdvice
from textrl.mdp.logprobs import logits_of
from textrl.mdp.task import Prompt, TokenTask
from textrl.models.stack import final_hidden
from textrl.rollout import head_of

Floats = NDArray[np.float64]
Observation = dict[str, NDArray[Any]]

#: Log-probability of what a deterministic policy does not do: exp of it is 0, and 0 times it is 0.
NEVER = -1e9
#: Rows that a network reads at once.
_ROWS = 2048


class Acting(Protocol):
    """What a policy would do next; a recurrent one carries a state, for others it is None."""

    def __call__(
        self, observation: Observation, state: Any, masks: NDArray[np.bool_] | None
    ) -> tuple[Floats, Any]:
        """Return (N, V) log-probabilities of the next token, and the state after it was chosen.

        Args:
            observation: ``input_ids`` and ``attention_mask``, (N, L), as token environments give them.
            state: As returned at the step before; None at the first.
            masks: (N, V) what may be written, where the task says so.
        """
        ...

    def pick(self, state: Any, rows: NDArray[np.int64]) -> Any:
        """Return the state of some rows; a row may be wanted more than once."""
        ...


class Stateless:
    """A policy that looks at the observation alone."""

    def pick(self, state: Any, rows: NDArray[np.int64]) -> Any:
        """Return None."""
        return None


class Uniform(Stateless):
    """Draws every token with equal probability."""

    def __init__(self, vocabulary: int) -> None:
        """Keep V."""
        self.vocabulary = vocabulary

    def __call__(
        self, observation: Observation, state: Any, masks: NDArray[np.bool_] | None
    ) -> tuple[Floats, Any]:
        """Return (N, V)."""
        open_ones = np.ones((len(observation["input_ids"]), self.vocabulary)) if masks is None else masks
        share = open_ones / open_ones.sum(axis=1, keepdims=True)
        return np.where(share > 0, np.log(np.maximum(share, 1e-300)), NEVER), None


class OfModel(Stateless):
    """A causal language model, alone or with advice that acts on its tokens."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        reference: PreTrainedModel | None = None,
        advice: TextAdvice | None = None,
    ) -> None:
        """Keep the model.

        Args:
            model: In evaluation mode, sampled at temperature 1.
            reference: Whose states the advice is about.
            advice: As it stands.
        """
        self.model, self.reference, self.advice = model, reference, advice

    @torch.no_grad()
    def __call__(
        self, observation: Observation, state: Any, masks: NDArray[np.bool_] | None
    ) -> tuple[Floats, Any]:
        """Return (N, V)."""
        ids, mask = (torch.as_tensor(observation[key]) for key in ("input_ids", "attention_mask"))
        used = int(mask.bool().any(0).nonzero().max()) + 1
        parts = [
            self._part(ids[start : start + _ROWS, :used].long(), mask[start : start + _ROWS, :used].bool())
            for start in range(0, len(ids), _ROWS)
        ]
        return np.concatenate(parts), None

    def _part(self, ids: torch.Tensor, mask: torch.Tensor) -> Floats:
        ids, mask = ids.to(self.model.device), mask.to(self.model.device)
        rows = torch.arange(len(ids), device=ids.device)
        last = torch.where(mask, torch.arange(ids.shape[1], device=ids.device), -1).amax(1)
        hidden = final_hidden(self.model, ids, mask)[rows, last]
        logits = logits_of(hidden, *head_of(self.model), 1.0)
        if self.advice is not None and self.advice.acts:
            assert self.reference is not None
            logits = self.advice.acting(logits, final_hidden(self.reference, ids, mask)[rows, last])
        return _numpy(logits.double().log_softmax(-1))


class OfChoice(Stateless):
    """A learner that has values, not probabilities: what it chooses without exploration has probability 1."""

    def __init__(self, learner: Any, vocabulary: int) -> None:
        """Keep the learner.

        Args:
            learner: ``predict(observation, deterministic=True)``.
            vocabulary: V.
        """
        self.learner, self.vocabulary = learner, vocabulary

    def __call__(
        self, observation: Observation, state: Any, masks: NDArray[np.bool_] | None
    ) -> tuple[Floats, Any]:
        """Return (N, V)."""
        chosen = np.asarray(self.learner.predict(observation, deterministic=True)[0])
        out = np.full((len(chosen), self.vocabulary), NEVER)
        out[np.arange(len(chosen)), chosen] = 0.0
        return out, None


class OfDistribution(Stateless):
    """A policy of Stable-Baselines3 or sb3-contrib that is a distribution."""

    def __init__(self, policy: Any) -> None:
        """Keep the policy."""
        self.policy = policy

    @torch.no_grad()
    def __call__(
        self, observation: Observation, state: Any, masks: NDArray[np.bool_] | None
    ) -> tuple[Floats, Any]:
        """Return (N, V)."""
        seen, _ = self.policy.obs_to_tensor(observation)
        given = {} if masks is None else {"action_masks": masks}
        return _of(self.policy.get_distribution(seen, **given)), None


class Greedy:
    """Takes the most probable token of another policy."""

    def __init__(self, acting: Acting) -> None:
        """Keep the policy."""
        self.acting = acting

    def __call__(
        self, observation: Observation, state: Any, masks: NDArray[np.bool_] | None
    ) -> tuple[Floats, Any]:
        """Return (N, V): 0 for the most probable token."""
        found, state = self.acting(observation, state, masks)
        out = np.full(found.shape, NEVER)
        out[np.arange(len(found)), found.argmax(axis=1)] = 0.0
        return out, state

    def pick(self, state: Any, rows: NDArray[np.int64]) -> Any:
        """Return the states of the rows."""
        return self.acting.pick(state, rows)


class OfRecurrent:
    """A policy of sb3-contrib with an LSTM."""

    def __init__(self, policy: Any) -> None:
        """Keep the policy."""
        self.policy = policy

    @torch.no_grad()
    def __call__(
        self, observation: Observation, state: Any, masks: NDArray[np.bool_] | None
    ) -> tuple[Floats, Any]:
        """Return (N, V), and (hidden, cell), each (layers, N, width)."""
        seen, _ = self.policy.obs_to_tensor(observation)
        count = len(observation["input_ids"])
        layers, _, width = self.policy.lstm_hidden_state_shape
        first = state is None
        state = (torch.zeros(layers, count, width),) * 2 if first else state
        starts = torch.full((count,), float(first))
        found, state = self.policy.get_distribution(seen, state, starts)
        return _of(found), state

    def pick(self, state: Any, rows: NDArray[np.int64]) -> Any:
        """Return the columns of the rows."""
        return tuple(part[:, torch.from_numpy(rows)] for part in state)


def observation_of(task: TokenTask, prompts: Sequence[Prompt]) -> Observation:
    """Return what an environment shows before the first token: (N, L) each."""
    ids, mask = task.collate(prompts, task.max_prompt_tokens)
    blank = torch.full((len(prompts), task.max_new_tokens), task.pad_id)
    real = torch.cat([mask, torch.zeros_like(blank, dtype=torch.bool)], 1)
    return {
        "input_ids": torch.cat([ids, blank], 1).numpy(),
        "attention_mask": real.numpy().astype(np.int8),
    }


def play(
    task: TokenTask,
    acting: Acting,
    prompts: Sequence[Prompt],
    rng: np.random.Generator | None,
) -> Floats:
    """Play one episode from each prompt, and return the (N,) returns.

    Args:
        task: Whose episodes; its rewards are asked about them.
        acting: Who writes.
        prompts: N prompts.
        rng: Draws the tokens; None takes the most probable one.
    """
    seen = observation_of(task, prompts)
    width, count = task.max_prompt_tokens, len(prompts)
    alive, state = np.arange(count), None
    for length in range(1, task.max_new_tokens + 1):
        here = {key: values[alive] for key, values in seen.items()}
        masks = _masks(task, [prompts[row] for row in alive.tolist()], here, width, length - 1)
        found, state = acting(here, state, masks)
        if rng is None:
            tokens = found.argmax(axis=1)
        else:  # the Gumbel trick: one draw from each row's distribution
            tokens = (found + rng.gumbel(size=found.shape)).argmax(axis=1)
        column = width + length - 1
        seen["input_ids"][alive, column] = tokens
        seen["attention_mask"][alive, column] = 1
        open_ones = np.array([task.finish_reason(int(token), length) is None for token in tokens])
        kept = np.flatnonzero(open_ones)
        alive = alive[kept]
        if not len(alive):
            break
        state = acting.pick(state, kept)
    ids = torch.from_numpy(seen["input_ids"][:, width:])
    mask = torch.from_numpy(seen["attention_mask"][:, width:]).bool()
    scored = task.score(task.batch(prompts, ids, mask))
    return _numpy(scored.total.double().sum(1))


def _masks(
    task: TokenTask, prompts: Sequence[Prompt], seen: Observation, width: int, length: int
) -> NDArray[np.bool_] | None:
    """Return (N, V) what may be written next; None where everything may."""
    if task.allowed is None:
        return None
    written = seen["input_ids"][:, width : width + length].tolist()
    pairs = zip(prompts, written, strict=True)
    return np.stack([task.action_mask(prompt, response) for prompt, response in pairs])


def _of(distribution: Any) -> Floats:
    """Return the (N, V) log-probabilities of a distribution of SB3's."""
    return np.maximum(_numpy(distribution.distribution.logits.double().log_softmax(-1)), NEVER)


def _numpy(values: torch.Tensor) -> Floats:
    found: Floats = values.detach().cpu().numpy()
    return found
