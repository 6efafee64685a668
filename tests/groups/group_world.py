"""The two learners on groups in the tiny world of the tests of PPO-ptx."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_world import Env, kl_source, tiny_gpt2, tiny_task
from transformers import PreTrainedModel

from textrl.learners.groups.experience import Experience, collect
from textrl.learners.groups.learner import GroupLearner
from textrl.learners.grpo import GRPO, GRPOSettings
from textrl.learners.ppo_ptx.networks import Networks
from textrl.learners.rloo import RLOO, RLOOSettings
from textrl.mdp.task import TokenTask
from textrl.rewards import RewardSum, Source

KINDS: dict[str, tuple[type[Any], type[Any]]] = {"rloo": (RLOO, RLOOSettings), "grpo": (GRPO, GRPOSettings)}
BASE: dict[str, Any] = {
    "policy": "unused", "episodes_per_iteration": 32, "group_size": 4, "minibatches": 2,
    "micro_batch_size": 32, "learning_rate": 3e-3, "warmup_iterations": 0, "precision": "fp32",
}  # fmt: skip


def made(
    kind: str,
    *,
    folder: Path | None = None,
    task: TokenTask | None = None,
    model: PreTrainedModel | None = None,
    sources: tuple[Source, ...] | None = None,
    **changes: Any,
) -> GroupLearner:
    """Return a learner; the KL is paid with weight .5, unless the settings put it into the loss."""
    learner_class, settings_class = KINDS[kind]
    settings = settings_class(**{**BASE, **changes})
    if sources is None:
        sources = () if getattr(settings, "kl", "") == "loss" else (kl_source(0.5),)
    networks = Networks(model if model is not None else tiny_gpt2(), None, None, settings.engine())
    networks.value.to(networks.policy.dtype)  # the head, which stands on the policy's own body
    return learner_class(
        Env(task or tiny_task()),
        settings,
        rewards=RewardSum(list(sources)),
        networks=networks,
        checkpoint_dir=folder,
    )


def experience(learner: GroupLearner, first_group: int = 0) -> Experience:
    """Sample and score one iteration."""
    return collect(
        learner.networks,
        learner.task,
        learner.rewards,
        learner.settings,
        learner.accelerator,
        first_group,
        learner.advantages,
        learner.updater.sizes,
    )
