"""The optimum that a KL-regularised learner should reach, exactly, where all responses can be written down.

With a small vocabulary and a short horizon every response y to a prompt x can be enumerated, those that the
length limit cuts included. The objective

    J(pi) = E_{y ~ pi} [ r(x, y) ] - beta * KL( pi(.|x) || pi_ref(.|x) )

then has a known maximiser and a known maximum (a Gibbs distribution; for language models e.g. Korbak et al.
2022, "RL with KL penalties is better viewed as Bayesian inference", equation 5):

    pi*(y|x) = pi_ref(y|x) exp(r(x, y) / beta) / Z(x),        J(pi*) = beta log Z(x),

and J(pi*) - J(pi) = beta KL(pi || pi*). Probabilities come from the networks and rewards from the task's own
sources, by the functions that training uses; nothing here is a table.

Shapes: ``X`` prompts, ``R`` responses, ``T`` response tokens (right-padded), ``V`` vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from textrl.errors import UserError
from textrl.mdp.logprobs import token_logprobs
from textrl.mdp.task import Prompt, TokenTask
from textrl.models.stack import final_hidden
from textrl.rollout import head_of

#: More responses than these are not enumerated: every measurement scores all of them.
MOST_RESPONSES = 100_000
#: Rows that a network reads at once.
_ROWS = 4096
#: Rounding of sums of float32 log-probabilities stays far below this.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Standing:
    """Where a policy stands between the reference and the optimum; means over the prompts.

    Attributes:
        total_variation: Half the sum over responses of abs(pi - pi*), from 0 to 1.
        worst_total_variation: The same for the prompt where it is largest.
        reward: Exact mean reward of an episode.
        kl: Exact KL(pi || pi_ref), nats per sequence.
        objective: reward - beta * kl.
        gap_closed: (J(pi) - J(pi_ref)) / (J(pi*) - J(pi_ref)): 0 at the reference, 1 at the optimum. Says
            nothing where all responses are paid the same, so that the reference is the optimum.
    """

    total_variation: float
    worst_total_variation: float
    reward: float
    kl: float
    objective: float
    gap_closed: float


@dataclass(frozen=True, eq=False)
class Optimum:
    """Everything that is known exactly about one task, one reference and one beta.

    Attributes:
        task: Prompts, vocabulary, episode ends and rewards.
        beta: Weight of the KL penalty; rewards are per episode, the KL in nats.
        temperature: Divides the logits of every policy, the reference's too.
        ids: (R, T) int64 all responses, right-padded; they are the same for every prompt.
        mask: (R, T) bool.
        rewards: (X, R) float64 r(x, y), undiscounted sums over the tokens.
        log_ref: (X, R) float64 log pi_ref(y|x).
        log_best: (X, R) float64 log pi*(y|x).
        log_z: (X,) float64 log Z(x).
    """

    task: TokenTask
    beta: float
    temperature: float
    ids: Tensor
    mask: Tensor
    rewards: Tensor
    log_ref: Tensor
    log_best: Tensor
    log_z: Tensor

    @classmethod
    def of(
        cls, task: TokenTask, reference: PreTrainedModel, beta: float, *, temperature: float = 1.0
    ) -> Optimum:
        """Enumerate, score and tilt.

        Args:
            task: Small enough to enumerate; its rewards are asked for every response to every prompt.
            reference: The frozen policy that the KL is measured against, in fp32 or better.
            beta: Above 0.
            temperature: Of sampling and of every log-probability.

        Raises:
            UserError: When the task is too large, has an action mask, or beta is not above 0, or the
                reference puts probability on tokens outside the task's vocabulary.
        """
        if not beta > 0:
            raise UserError(f"beta is {beta}; without a KL penalty above 0 there is no unique optimum.")
        ids, mask = all_responses(task)
        rewards = torch.stack([episode_rewards(task, prompt, ids, mask) for prompt in task.prompts])
        log_ref = torch.stack(
            [response_logprobs(reference, task, p, ids, mask, temperature) for p in task.prompts]
        )
        held = log_ref.exp().sum(1)
        for index, share in enumerate(held.tolist()):
            if not abs(share - 1) < _TOLERANCE:
                raise UserError(
                    f"The responses to prompt {index} hold {share:.6f} of the reference's probability, "
                    "not 1; give the task the reference's own vocabulary."
                )
        log_best, log_z = tilt(log_ref, rewards, beta)
        return cls(task, beta, temperature, ids, mask, rewards, log_ref, log_best, log_z)

    def logprobs(self, policy: PreTrainedModel) -> Tensor:
        """Return (X, R) float64 log pi(y|x) of a policy for every response to every prompt."""
        rows = [
            response_logprobs(policy, self.task, prompt, self.ids, self.mask, self.temperature)
            for prompt in self.task.prompts
        ]
        return torch.stack(rows)

    def standing(self, policy: PreTrainedModel) -> Standing:
        """Measure a policy."""
        return self.standing_of(self.logprobs(policy))

    def standing_of(self, log_policy: Tensor) -> Standing:
        """Measure a policy that is given by its (X, R) float64 log-probabilities."""
        distance = total_variation(log_policy, self.log_best)
        reward = (log_policy.exp() * self.rewards).sum(1).mean()
        kl = kl_moments(log_policy, self.log_ref)[0].mean()
        value = reward - self.beta * kl
        floor = (self.log_ref.exp() * self.rewards).sum(1).mean()
        best = (self.beta * self.log_z).mean()
        return Standing(
            total_variation=float(distance.mean()),
            worst_total_variation=float(distance.max()),
            reward=float(reward),
            kl=float(kl),
            objective=float(value),
            gap_closed=float((value - floor) / (best - floor)),
        )

    @property
    def best_objective(self) -> float:
        """J(pi*), the mean over prompts of beta log Z."""
        return float(self.beta * self.log_z.mean())


def all_responses(task: TokenTask) -> tuple[Tensor, Tensor]:
    """Write down every response that a task admits: ended by EOS, or cut by the length limit.

    Returns:
        ids (R, T) int64, right-padded with the pad id, and mask (R, T) bool.

    Raises:
        UserError: When there are more than `MOST_RESPONSES`, or the task has an action mask, under which the
            responses differ from prompt to prompt.
    """
    if task.allowed is not None:
        raise UserError("A task with an action mask cannot be enumerated; leave `allowed` out.")
    growing: list[tuple[int, ...]] = [()]
    ended: list[tuple[int, ...]] = []
    for length in range(1, task.max_new_tokens + 1):
        if len(ended) + len(growing) * task.vocab_size > MOST_RESPONSES:
            raise UserError(
                f"A vocabulary of {task.vocab_size} tokens and max_new_tokens {task.max_new_tokens} give "
                f"more than {MOST_RESPONSES:,} responses; make one of them smaller."
            )
        longer = [(*response, token) for response in growing for token in range(task.vocab_size)]
        ended += [response for response in longer if task.finish_reason(response[-1], length) is not None]
        growing = [response for response in longer if task.finish_reason(response[-1], length) is None]
    ids = torch.full((len(ended), task.max_new_tokens), task.pad_id, dtype=torch.int64)
    mask = torch.zeros(ids.shape, dtype=torch.bool)
    for row, response in enumerate(ended):
        ids[row, : len(response)] = torch.tensor(response, dtype=torch.int64)
        mask[row, : len(response)] = True
    return ids, mask


@torch.no_grad()
def episode_rewards(task: TokenTask, prompt: Prompt, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the (R,) float64 undiscounted rewards that the task's own sources pay for responses.

    Args:
        task: Whose rewards.
        prompt: Where the episodes started.
        ids: (R, T) int64 responses.
        mask: (R, T) bool.
    """
    parts = []
    for start in range(0, len(ids), _ROWS):
        rows = slice(start, start + _ROWS)
        batch = task.batch([prompt] * len(ids[rows]), ids[rows], mask[rows])
        parts.append(task.score(batch).total.double().sum(1))
    return torch.cat(parts)


@torch.no_grad()
def response_logprobs(
    model: PreTrainedModel,
    task: TokenTask,
    prompt: Prompt,
    ids: Tensor,
    mask: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """Return the (R,) float64 log-probabilities of whole responses to one prompt, EOS included.

    Args:
        model: A causal LM without dropout; it is run in the precision of its weights.
        task: Says how prompts are laid out.
        prompt: The prompt.
        ids: (R, T) int64 responses.
        mask: (R, T) bool.
        temperature: Divides the logits.
    """
    weight, bias = head_of(model)
    prompt_ids, prompt_mask = task.collate([prompt])
    parts = []
    for start in range(0, len(ids), _ROWS):
        rows = slice(start, start + _ROWS)
        before, real = (part.expand(len(ids[rows]), -1) for part in (prompt_ids, prompt_mask))
        whole = torch.cat([before, ids[rows]], dim=1).to(model.device)
        actions = torch.cat([torch.zeros_like(real), mask[rows]], dim=1).to(model.device)
        hidden = final_hidden(model, whole, torch.cat([real, mask[rows]], dim=1).to(model.device))
        flat = token_logprobs(
            hidden[:, :-1][actions[:, 1:]], weight, whole[actions], bias=bias, temperature=temperature
        )
        laid_out = torch.zeros(whole.shape, dtype=torch.float64, device=model.device)
        parts.append(laid_out.masked_scatter(actions, flat.double()).sum(1).cpu())
    return torch.cat(parts)


def tilt(log_ref: Tensor, rewards: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Return log pi* and log Z.

    log pi*(y|x) = log pi_ref(y|x) + r(x, y) / beta - log Z(x)

    Args:
        log_ref: (X, R) float64.
        rewards: (X, R) float64.
        beta: Above 0.

    Returns:
        (X, R) and (X,) float64.
    """
    scores = log_ref + rewards / beta
    log_z = torch.logsumexp(scores, dim=1)
    return scores - log_z[:, None], log_z


def total_variation(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return (X,) total variation distances of the (X, R) distributions: 1/2 sum over y of abs(p - q)."""
    return 0.5 * (log_p.exp() - log_q.exp()).abs().sum(1)


def kl_moments(log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance under p of log p(y) - log q(y), nats: the exact KL and what one k1 scatters.

    Args:
        log_p: (X, R).
        log_q: (X, R).

    Returns:
        (X,) KL(p || q) and (X,) variances of the estimator k1 for one whole response.
    """
    p, ratio = log_p.exp(), log_p - log_q
    mean = (p * ratio).sum(1)
    return mean, (p * (ratio - mean[:, None]) ** 2).sum(1)
