"""The loop of learners on text: collect, check the KL, update, let the controllers read it, log, keep.

One timestep is one token. What is collected, and how it is learnt from, is each learner's own.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from textrl.distributed import global_count, make_accelerator
from textrl.errors import UserError
from textrl.learners.callbacks import Callback, Callbacks
from textrl.learners.iteration_bar import IterationBar
from textrl.learners.kl_limit import KlLimit
from textrl.learners.surface import LearnerSurface
from textrl.mdp.task import TokenTask
from textrl.memory import memory_figures
from textrl.rewards import RewardSum


class Collected(Protocol):
    """What an iteration learns from."""

    @property
    def actions(self) -> Tensor:
        """(B, T) bool, which tokens were sampled."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """Figures to log."""
        ...

    @property
    def stats(self) -> Any:
        """What adaptive weights of rewards read."""
        ...


class TokenUpdater(Protocol):
    """What learns from it.

    Attributes:
        policy_rate_factor: Below 1 while the KL is above its limit.
    """

    policy_rate_factor: float

    def update(self, experience: Any, iteration: int) -> dict[str, float]:
        """Take the optimizer steps of one iteration and return the figures to log."""
        ...


class TokenLearner(LearnerSurface):
    """A learner over a token environment, without its way to collect and to learn.

    Attributes:
        num_timesteps: Tokens sampled so far, over all processes.
        iteration: Iterations finished.
        rewards: Learner-side sources, or None.
        task: Of the environment.
        accelerator: Of the process group.
        kl_limit: What happens where the policy goes too far from the reference.
        kl_offset: What the KL to the reference was before anything was learnt; empty until it is measured.
    """

    #: In progress bars and errors.
    label: ClassVar[str]
    updater: TokenUpdater

    def __init__(
        self, env: Any, settings: Any, rewards: RewardSum | None, checkpoint_dir: Path | None
    ) -> None:
        """Keep what is given, and seed torch's global generator.

        Raises:
            UserError: When the environment has no token task, or one with an action mask: scoring would
                not see the mask, and the logged KL would be wrong.
        """
        super().__init__(env, settings, checkpoint_dir)
        self.rewards, self.task = rewards, token_task(env, self.label)
        self.accelerator = make_accelerator()
        torch.manual_seed(settings.seed)
        self.kl_limit = KlLimit(settings.kl_limit, settings.kl_limit_action)
        self.kl_offset: dict[str, float] = {}
        self.iteration = 0

    @property
    def writes(self) -> bool:
        """Whether this process logs and keeps checkpoints: the main one does."""
        return bool(self.accelerator.is_main_process)

    @abstractmethod
    def collect(self) -> Collected:
        """Sample and score what this iteration learns from."""

    @abstractmethod
    def policy_weights(self) -> Mapping[str, Tensor]:
        """Return the policy's trained weights by name."""

    def after(self, experience: Any) -> dict[str, float]:
        """Do what comes after an update; returns figures to log."""
        return {}

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
        started = time.perf_counter()
        experience = self.collect()
        collected = time.perf_counter()
        metrics = dict(experience.metrics)
        if self.iteration == 0:
            self.kl_offset = {name: metrics[name] for name in metrics if name.startswith("train/kl_offset")}
        metrics |= self.kl_offset
        near = self.kl_limit.check(metrics["train/kl_ref"], self.policy_weights())
        self.updater.policy_rate_factor = self.kl_limit.factor
        metrics |= self.updater.update(experience, self.iteration) if near else {"train/steps": 0.0}
        metrics |= self.kl_limit.figures()
        if self.rewards is not None:
            metrics |= {f"weight/{name}": weight for name, weight in self.rewards.weights.items()}
            self.rewards.adapt_weights(experience.stats)
        metrics |= self.after(experience)
        tokens = global_count(self.accelerator, int(experience.actions.sum()))
        finished = time.perf_counter()
        self.num_timesteps += tokens
        self.iteration += 1
        metrics |= throughput(
            tokens,
            metrics["train/steps"] / self.settings.minibatches,
            rollout_s=metrics["time/rollout_s"],
            collect_s=collected - started,
            update_s=finished - collected,
        )
        metrics["time/total_timesteps"] = float(self.num_timesteps)
        self.log(metrics | memory_figures(), self.iteration)


def token_task(env: Any, label: str) -> TokenTask:
    """Return the task of a token environment.

    Raises:
        UserError: When it has none, or one with an action mask.
    """
    task = getattr(getattr(env, "unwrapped", env), "task", None)
    if not isinstance(task, TokenTask):
        raise UserError(
            f"The learner '{label}' needs a token environment such as TextRL/Tokens-v0, not "
            f"{type(env).__name__}."
        )
    if task.allowed is not None:
        raise UserError(
            f"The learner '{label}' does not take a task with an action mask: scoring would not see the mask."
        )
    return task


def throughput(
    tokens: int, passes: float, *, rollout_s: float, collect_s: float, update_s: float
) -> dict[str, float]:
    """Return seconds and response tokens per second of an iteration, by part.

    Args:
        tokens: Response tokens of the iteration, over all processes.
        passes: How often the update went through them.
        rollout_s: Generating, in seconds.
        collect_s: Generating, scoring and paying rewards.
        update_s: All optimizer steps.
    """
    return {
        "time/fps": tokens / (collect_s + update_s),
        "time/rollout_tokens_per_s": tokens / rollout_s,
        "time/update_tokens_per_s": tokens * passes / update_s,
        "time/rollout_s": rollout_s,
        "time/collect_s": collect_s,
        "time/update_s": update_s,
    }
