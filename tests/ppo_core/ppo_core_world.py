"""Small learners on Cart Pole, and Stable-Baselines3's PPO with the same weights."""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger

from textrl.learners.ppo import PPO, PPOSettings
from textrl.learners.ppo.segments import Segments

SMALL: dict[str, Any] = {
    "n_envs": 4, "n_steps": 32, "batch_size": 128, "n_epochs": 4, "gamma": 0.98, "gae_lambda": 0.8,
    "learning_rate": 1e-3, "net_arch": (16, 16), "seed": 3,
}  # fmt: skip


def cart_pole(limit: int | None = None) -> Any:
    """Return Cart Pole; with `limit` its episodes are cut off after so many steps."""
    return gymnasium.make("CartPole-v1", max_episode_steps=limit)


def made(env: Any = None, **changes: Any) -> PPO:
    parts = {key: changes.pop(key) for key in ("checkpoint_dir",) if key in changes}
    return PPO(cart_pole() if env is None else env, PPOSettings(**{**SMALL, **changes}), **parts)


def collected(learner: PPO, *, first: int = 0) -> Segments:
    segments = learner.stepper.collect(learner.network, learner.settings.n_steps, first, lambda seen: True)
    assert segments is not None
    return segments


def weights(learner: PPO) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.network.state_dict().items()}


def same(mine: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return list(mine) == list(theirs) and all(torch.equal(mine[name], theirs[name]) for name in mine)


def twin(learner: PPO, **changes: Any) -> SB3PPO:
    """Return SB3's PPO with the settings and the weights of ours, and a logger that writes nothing."""
    mine = learner.settings
    names = (
        "learning_rate", "n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "clip_range",
        "clip_range_vf", "normalize_advantage", "ent_coef", "vf_coef", "max_grad_norm",
    )  # fmt: skip
    arguments = {name: getattr(mine, name) for name in names} | changes
    theirs = SB3PPO(
        "MlpPolicy", learner.get_env(), policy_kwargs={"net_arch": list(mine.net_arch)}, device="cpu",
        **arguments,
    )  # fmt: skip
    theirs.set_logger(Logger(folder=None, output_formats=[]))
    with torch.no_grad():
        for their, my in zip(their_parameters(theirs), my_parameters(learner), strict=True):
            their.copy_(my)
    return theirs


def their_parameters(theirs: SB3PPO) -> list[torch.nn.Parameter]:
    policy = theirs.policy
    hidden = policy.mlp_extractor
    parts = (hidden.policy_net, policy.action_net, hidden.value_net, policy.value_net)
    return [parameter for part in parts for parameter in part.parameters()]


def my_parameters(learner: PPO) -> list[torch.nn.Parameter]:
    return [*learner.network.actor.parameters(), *learner.network.critic.parameters()]


def fill(buffer: RolloutBuffer, theirs: SB3PPO, segments: Segments) -> None:
    """Give SB3's buffer our segments as its own loop would, and let it compute advantages.

    Values and log-probabilities are SB3's. An episode that a time limit cut pays gamma V(last
    observation) more, which is how SB3 bootstraps; the rest its buffer does by itself.
    """
    policy = theirs.policy
    buffer.reset()
    copies, steps = segments.actions.shape
    starts = torch.ones(copies)
    for t in range(steps):
        observations, actions = segments.observations[:, t], segments.actions[:, t]
        rewards = segments.rewards[:, t].clone()
        with torch.no_grad():
            values, logprobs, _ = policy.evaluate_actions(observations, actions)
            cut = segments.ends[:, t] & ~segments.terminated[:, t]
            if cut.any():
                last = policy.predict_values(segments.next_observations[:, t][cut]).flatten()
                rewards[cut] += theirs.gamma * last
        buffer.add(
            observations.numpy(), actions.numpy()[:, None], rewards.numpy(), starts.numpy(), values, logprobs
        )
        starts = segments.ends[:, t].float()
    with torch.no_grad():
        after = policy.predict_values(segments.next_observations[:, -1])
    buffer.compute_returns_and_advantage(last_values=after, dones=segments.ends[:, -1].numpy())
