"""Stepping the copies of an environment, and judging what was done.

Shapes: ``B`` copies, ``T`` steps of each, ``N`` = B T decisions, copy by copy, ``S`` numbers of an
observation, ``A`` actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from textrl.errors import UserError
from textrl.learners.ppo.networks import ActorCritic
from textrl.learners.ppo.settings import PPOSettings
from textrl.learners.sb3.environments import Environments
from textrl.mdp.gae import gae
from textrl.mdp.sampling import gumbel


@dataclass(frozen=True)
class Segments:
    """What happened in T steps of B copies; episodes begin and end anywhere in it.

    Attributes:
        observations: (B, T, S) what was seen.
        next_observations: (B, T, S) what came of it; after an episode's last step its own last
            observation, not the next episode's first.
        actions: (B, T) int64, 0 .. A-1.
        rewards: (B, T).
        terminated: (B, T) bool; nothing follows, the value after it is 0.
        ends: (B, T) bool; the episode is over, terminated or cut off.
    """

    observations: Tensor
    next_observations: Tensor
    actions: Tensor
    rewards: Tensor
    terminated: Tensor
    ends: Tensor


@dataclass(frozen=True)
class Experience:
    """Decisions and what the update needs to know of them.

    Attributes:
        observations: (N, S).
        actions: (N,) int64.
        logprobs: (N,) of the actions, by the policy that acted.
        values: (N,) at that time.
        advantages: (N,).
        returns: (N,) value targets.
    """

    observations: Tensor
    actions: Tensor
    logprobs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor


class Stepper:
    """Steps the copies, and knows where they are.

    Attributes:
        environments: The copies.
        observation: (B, S) what is seen now; None before the first reset.
    """

    def __init__(self, environments: Environments, first_action: int, seed: int) -> None:
        """Keep what is given; nothing is reset yet.

        Args:
            environments: The copies.
            first_action: The environment's number of action 0.
            seed: Keys the actions.
        """
        self.environments, self._first_action, self._seed = environments, first_action, seed
        self.observation: NDArray[Any] | None = None

    def collect(
        self,
        network: ActorCritic,
        steps: int,
        first: int,
        after_step: Callable[[dict[str, Any]], bool],
    ) -> Segments | None:
        """Step every copy.

        Args:
            network: Acts; its probabilities are sampled from.
            steps: T.
            first: Steps that each copy has made before; keys the actions together with the copy's number.
            after_step: Told each step of all copies, under the names of SB3's locals; False stops.

        Returns:
            What happened, or None where it was stopped.

        Raises:
            UserError: When an observation or a reward is not finite.
        """
        vec = self.environments.vec
        noise = self._noise(vec.num_envs, int(vec.action_space.n), first, steps)
        if self.observation is None:
            self.observation = vec.reset()
        rows: list[tuple[NDArray[Any], ...]] = []
        for t in range(steps):
            seen = self.observation
            with torch.no_grad():
                logprobs = network.policy(torch.as_tensor(seen, dtype=network.dtype))
            chosen = (logprobs + noise[:, t]).argmax(-1).numpy()
            actions = self._first_action + chosen
            self.observation, rewards, ends, infos = vec.step(actions)
            after = self.observation
            terminated = ends.copy()
            if ends.any():
                after = after.copy()
                for i in np.flatnonzero(ends):
                    after[i] = infos[i]["terminal_observation"]
                    terminated[i] = not infos[i].get("TimeLimit.truncated", False)
            rows.append((seen, after, chosen, rewards, terminated, ends))
            seen_by_callbacks = {
                "dones": ends, "rewards": rewards, "infos": infos, "actions": actions,
                "new_obs": self.observation,
            }  # fmt: skip
            if not after_step(seen_by_callbacks):
                return None
        return _stacked(rows, network.dtype)

    def _noise(self, copies: int, actions: int, first: int, steps: int) -> Tensor:
        """Return (B, T, A) Gumbel numbers: log-probabilities plus these have their maximum at a sample."""
        numbers = torch.arange(copies).repeat_interleave(steps)
        positions = torch.arange(first, first + steps).repeat(copies)
        return gumbel(self._seed, numbers, positions, actions).view(copies, steps, actions)


def _stacked(rows: list[tuple[NDArray[Any], ...]], dtype: torch.dtype) -> Segments:
    seen, after, actions, rewards, terminated, ends = (
        torch.from_numpy(np.stack(column, axis=1)) for column in zip(*rows, strict=True)
    )
    for name, tensor in (("an observation", seen), ("an observation", after), ("a reward", rewards)):
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"The environment gave {name} that is not finite; correct the environment.")
    return Segments(
        observations=seen.to(dtype),
        next_observations=after.to(dtype),
        actions=actions,
        rewards=rewards.to(dtype),
        terminated=terminated,
        ends=ends,
    )


@torch.no_grad()
def judge(network: ActorCritic, segments: Segments, settings: PPOSettings) -> Experience:
    """Score the decisions once with the networks that acted, and estimate their advantages."""
    copies, steps = segments.actions.shape
    observations = segments.observations.flatten(0, 1)
    actions = segments.actions.flatten()
    values = network.values(observations)
    advantages, returns = gae(
        segments.rewards,
        values.view(copies, steps),
        network.values(segments.next_observations.flatten(0, 1)).view(copies, steps),
        torch.ones_like(segments.ends),
        terminated=segments.terminated,
        ends=segments.ends,
        gamma=settings.gamma,
        lam=settings.gae_lambda,
    )
    return Experience(
        observations=observations,
        actions=actions,
        logprobs=network.policy(observations).gather(1, actions[:, None]).squeeze(1),
        values=values,
        advantages=advantages.flatten(),
        returns=returns.flatten(),
    )
