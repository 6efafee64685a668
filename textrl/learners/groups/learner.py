"""What learners on groups share: what an iteration of `TokenLearner` collects, learns from and keeps.

One timestep is one token, as in PPO-ptx. What differs between the learners is how the responses of a group
are compared and how a decision is weighed: `GroupLearner.advantages`, `aggregation` and `beta`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from textrl import checkpoint
from textrl.distributed import broadcast_parameters
from textrl.errors import UserError
from textrl.learners.groups.experience import Experience, collect
from textrl.learners.groups.loss import Aggregation
from textrl.learners.groups.settings import GroupSettings
from textrl.learners.groups.update import GroupUpdater
from textrl.learners.next_token import next_tokens
from textrl.learners.ppo_ptx.export import export_policy
from textrl.learners.ppo_ptx.fitting import fit
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.surface import check_same_settings
from textrl.learners.token_learner import TokenLearner
from textrl.rewards import RewardSum, join_tensors, split_tensors
from textrl.settings import describe, to_plain
from textrl.training_state import capture_rng, pack_optimizer, restore_rng, unpack_optimizer


class GroupLearner(TokenLearner):
    """A learner that compares responses to one prompt, over a token environment.

    Attributes:
        networks: Policy and reference, and a value head that is not used.
        settings: As given.
        updater: The optimizer and what it does.
    """

    settings: GroupSettings
    updater: GroupUpdater

    def __init__(
        self,
        env: Any,
        settings: Any,
        *,
        rewards: RewardSum | None = None,
        networks: Networks | None = None,
        checkpoint_dir: Path | None = None,
    ) -> None:
        """Load the networks.

        Args:
            env: A token environment, scalar or vector: anything with a `task`.
            settings: An instance of `settings_class`.
            rewards: Learner-side sources, such as the KL penalty.
            networks: Built elsewhere with ``settings.engine()``; by default loaded as the settings say.
            checkpoint_dir: Where checkpoints go; None keeps none.

        Raises:
            UserError: When the environment has no token task, or one with an action mask: scoring would
                not see the mask, and the logged KL would be wrong. When the KL would be counted twice, the
                task's tokens are not the policy's, or a source rates those of another model.
        """
        super().__init__(env, settings, rewards, checkpoint_dir)
        self._check_kl()
        self.networks = networks or Networks.load(settings.engine(), self.accelerator.device)
        fit(self.networks, env, self.task, rewards, settings.policy)
        self.updater = GroupUpdater(
            self.networks,
            settings,
            self.accelerator,
            aggregation=self.aggregation,
            beta=self.beta,
            longest=self.task.max_new_tokens,
        )
        broadcast_parameters(self.accelerator, self.updater.policy_params)

    @abstractmethod
    def advantages(self, returns: Tensor) -> Tensor:
        """Compare the responses of each group.

        Args:
            returns: (G, K) float64 rewards of whole responses.

        Returns:
            (G, K) float64.
        """

    @property
    @abstractmethod
    def aggregation(self) -> Aggregation:
        """What a decision weighs in the loss."""

    @property
    def beta(self) -> float:
        """Weight of k3 as a term of the loss; 0 where the KL is paid in the reward."""
        return 0.0

    def collect(self) -> Experience:
        """Sample groups of texts, score them, and compare them."""
        return collect(
            self.networks,
            self.task,
            self.rewards,
            self.settings,
            self.accelerator,
            self.iteration * self.settings.groups_per_iteration,
            self.advantages,
            self.updater.sizes,
        )

    def policy_weights(self) -> Mapping[str, Tensor]:
        """Return the policy's trained weights by name."""
        return self.updater.trained

    def predict(
        self,
        observation: Mapping[str, Any],
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        *,
        episodes: Any = None,
        positions: Any = None,
    ) -> tuple[Any, Any]:
        """Choose the next token for one observation or a batch of them; see `next_tokens`.

        Returns:
            (actions, None): () or (B,) int64. Text has no hidden state outside the observation.
        """
        chosen = next_tokens(
            self.networks.policy,
            observation,
            temperature=self.settings.temperature,
            seed=self.settings.seed,
            deterministic=deterministic,
            episodes=episodes,
            positions=positions,
            context=self.networks.autocast(),
        )
        return chosen, None

    def save(self, path: str | Path) -> None:
        """Write a checkpoint folder from which `load` continues bit for bit.

        It holds what changes during training. Frozen blocks and the reference are those of the folder
        that `settings.policy` names.
        """
        updater, limit = self.updater, self.kl_limit
        tensors: dict[str, dict[str, Tensor]] = {
            "policy": {name: p.detach() for name, p in updater.trained.items()}
        }
        tensors |= {name: kept for name, kept in {"ema": updater.ema, "kl_kept": limit.kept}.items() if kept}
        state: dict[str, Any] = {
            "learner": self.label,
            "num_timesteps": self.num_timesteps,
            "iteration": self.iteration,
            "sizes": updater.sizes.state_dict(),
            "kl_halvings": limit.halvings,
            "kl_offset": self.kl_offset,
        }
        tensors["rng"], state["rng"] = capture_rng()
        tensors["optimizer"], state["optimizer"] = pack_optimizer(updater.optimizer)
        for name, rewards in self._stateful().items():
            tensors[name], state[name] = split_tensors(rewards.state_dict())
        checkpoint.save(path, config=to_plain(self.settings), tensors=tensors, state=state)

    def restore(self, path: str | Path) -> Self:
        """Continue from a checkpoint that `save` wrote.

        Raises:
            UserError: When the folder is damaged or belongs to another learner or other settings.
        """
        loaded = checkpoint.load(path)
        found = loaded.state.get("learner", "another learner")
        if found != self.label:
            raise UserError(f"{path} was written by {found}; '{self.label}' cannot go on from it.")
        # A setting that did not exist yet was at what is now its default.
        defaults = {
            field.name: field.default for field in describe(self.settings_class) if not field.required
        }
        check_same_settings(path, defaults | loaded.config, self.settings)
        updater, state = self.updater, loaded.state
        with torch.no_grad():
            for name, param in updater.trained.items():
                param.copy_(loaded.tensors["policy"][name])
            for name, tensor in updater.ema.items():
                tensor.copy_(loaded.tensors["ema"][name])
        unpack_optimizer(updater.optimizer, loaded.tensors["optimizer"], state["optimizer"])
        for name, rewards in self._stateful().items():
            rewards.load_state_dict(join_tensors(loaded.tensors.get(name, {}), state[name]))
        restore_rng(loaded.tensors["rng"], state["rng"])
        self.num_timesteps, self.iteration = state["num_timesteps"], state["iteration"]
        updater.sizes.load_state_dict(state["sizes"])
        self.kl_limit.halvings, self.kl_offset = state["kl_halvings"], state["kl_offset"]
        kept, device = loaded.tensors.get("kl_kept", {}), self.accelerator.device
        self.kl_limit.kept = {name: tensor.to(device, copy=True) for name, tensor in kept.items()}
        return self

    def export(self, path: str | Path, *, averaged: bool = False) -> None:
        """Write the policy as a folder that transformers alone can load.

        Args:
            path: The folder.
            averaged: Export the averaged weights instead of the last ones.
        """
        export_policy(self.networks, path, self.updater.ema if averaged else {})

    def _stateful(self) -> dict[str, RewardSum]:
        both = {"env_rewards": self.task.rewards, "learner_rewards": self.rewards}
        return {name: rewards for name, rewards in both.items() if rewards is not None}

    def _check_kl(self) -> None:
        """Refuse a KL that is paid in the reward and stands in the loss as well."""
        paid = (
            [source.name for source in self.rewards.sources if source.spec.name == "kl"]
            if self.rewards
            else []
        )
        if self.beta and paid:
            raise UserError(
                f"The KL is in the loss (kl: loss, beta {self.beta:g}) and in the reward (the source "
                f"'{paid[0]}'); leave one of them out.",
                key="settings.kl",
            )
