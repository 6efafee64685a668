"""The loop that learners on groups share: collect, update, log, keep checkpoints.

One timestep is one token, as in PPO-ptx. What differs between the learners is how the responses of a group
are compared and how a decision is weighed: `GroupLearner.advantages`, `aggregation` and `beta`.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from textrl import checkpoint
from textrl.distributed import broadcast_parameters, global_count, make_accelerator
from textrl.errors import UserError
from textrl.learners.callbacks import Callback, Callbacks
from textrl.learners.groups.experience import collect
from textrl.learners.groups.loss import Aggregation
from textrl.learners.groups.settings import GroupSettings
from textrl.learners.groups.update import GroupUpdater
from textrl.learners.iteration_bar import IterationBar
from textrl.learners.next_token import next_tokens
from textrl.learners.ppo_ptx.diagnostics import throughput
from textrl.learners.ppo_ptx.export import export_policy
from textrl.learners.ppo_ptx.guards import KlLimit
from textrl.learners.ppo_ptx.memory import memory_figures
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.surface import LearnerSurface, check_same_settings
from textrl.mdp.task import TokenTask
from textrl.rewards import RewardSum, join_tensors, split_tensors
from textrl.settings import describe, to_plain
from textrl.training_state import capture_rng, pack_optimizer, restore_rng, unpack_optimizer


class GroupLearner(LearnerSurface):
    """A learner that compares responses to one prompt, over a token environment.

    Attributes:
        num_timesteps: Tokens sampled so far, over all processes.
        iteration: Iterations finished.
        networks: Policy and reference, and a value head that is not used.
        settings: As given.
        updater: The optimizer and what it does.
        kl_offset: What the KL to the reference was before anything was learnt; empty until it is measured.
    """

    #: Registered name.
    label: ClassVar[str]
    settings: GroupSettings

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
                not see the mask, and the logged KL would be wrong. When the KL would be counted twice.
        """
        super().__init__(env, settings, checkpoint_dir)
        self.rewards, self.task = rewards, self._task()
        self._check_kl()
        self.accelerator = make_accelerator()
        torch.manual_seed(settings.seed)
        self.networks = networks or Networks.load(settings.engine(), self.accelerator.device)
        self.updater = GroupUpdater(
            self.networks,
            settings,
            self.accelerator,
            aggregation=self.aggregation,
            beta=self.beta,
            longest=self.task.max_new_tokens,
        )
        broadcast_parameters(self.accelerator, self.updater.policy_params)
        self.kl_limit = KlLimit(settings.kl_limit, settings.kl_limit_action)
        self.kl_offset: dict[str, float] = {}
        self.iteration = 0

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

    @property
    def writes(self) -> bool:
        """Whether this process logs and keeps checkpoints: the main one does."""
        return bool(self.accelerator.is_main_process)

    def learn(
        self,
        total_timesteps: int | None = None,
        callback: Callback = None,
        progress_bar: bool = False,
        *,
        iterations: int | None = None,
    ) -> Self:
        """Train until `num_timesteps` reaches `total_timesteps`, or for a number of iterations in all.

        Args:
            total_timesteps: Tokens, counted from the beginning of the run.
            callback: SB3's callback objects, whose steps are our iterations, or a function of the learner
                that is called after each iteration; returning False stops.
            progress_bar: Show progress and the time left.
            iterations: Counted from the beginning of the run; resuming continues the count.

        Raises:
            UserError: When neither limit is given, or the KL exceeds its limit, or anything that is
                trained on is not finite; the newest checkpoint is intact.
        """
        if total_timesteps is None and iterations is None:
            raise UserError("learn() needs total_timesteps or iterations.")
        bar = IterationBar(progress_bar, self, total_timesteps, iterations)
        with bar as progress, Callbacks(callback, self) as callbacks:
            while (total_timesteps is None or self.num_timesteps < total_timesteps) and (
                iterations is None or self.iteration < iterations
            ):
                callbacks.before_round()
                self._iterate()
                progress.show()
                if not callbacks.after_round():
                    break
                self.keep(self.iteration)
        return self

    def _iterate(self) -> None:
        """Collect, check the KL, update, let the controllers read the KL, log."""
        settings, started = self.settings, time.perf_counter()
        experience = collect(
            self.networks,
            self.task,
            self.rewards,
            settings,
            self.accelerator,
            self.iteration * settings.groups_per_iteration,
            self.advantages,
            self.updater.sizes,
        )
        collected = time.perf_counter()
        metrics = dict(experience.metrics)
        if self.iteration == 0:
            self.kl_offset = {name: metrics[name] for name in metrics if name.startswith("train/kl_offset")}
        metrics |= self.kl_offset
        near = self.kl_limit.check(metrics["train/kl_ref"], self.updater.trained)
        self.updater.policy_rate_factor = self.kl_limit.factor
        metrics |= self.updater.update(experience, self.iteration) if near else {"train/steps": 0.0}
        metrics |= self.kl_limit.figures()
        if self.rewards is not None:
            metrics |= {f"weight/{name}": weight for name, weight in self.rewards.weights.items()}
            self.rewards.adapt_weights(experience.stats)
        tokens = global_count(self.accelerator, int(experience.actions.sum()))
        finished = time.perf_counter()
        self.num_timesteps += tokens
        self.iteration += 1
        metrics |= throughput(
            tokens,
            metrics["train/steps"] / settings.minibatches,
            rollout_s=metrics["time/rollout_s"],
            collect_s=collected - started,
            update_s=finished - collected,
        )
        metrics["time/total_timesteps"] = float(self.num_timesteps)
        self.log(metrics | memory_figures(), self.iteration)

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

    def _task(self) -> TokenTask:
        task = getattr(getattr(self.env, "unwrapped", self.env), "task", None)
        if not isinstance(task, TokenTask):
            raise UserError(
                f"The learner '{self.label}' needs a token environment such as TextRL/Tokens-v0, not "
                f"{type(self.env).__name__}."
            )
        if task.allowed is not None:
            raise UserError(
                f"The learner '{self.label}' does not take a task with an action mask: scoring would not "
                "see the mask."
            )
        return task

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
                f"'{paid[0]}'); leave one of them out."
            )
