"""One learner on one environment: ``learner:``, ``env:``, ``sources:``, ``rewards:``, ``settings:``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textrl import checkpoint
from textrl.config import ConfigNode, build, to_plain
from textrl.errors import UserError
from textrl.registry import Registry
from textrl.report import write_report
from textrl.rewards import build_rewards
from textrl.runs import Run


@dataclass(frozen=True)
class SingleSettings:
    """A config with a learner.

    Attributes:
        learner: Registered name.
        env: ``id`` names the environment; all other keys are its arguments.
        total_timesteps: Length of the training; a token is a step.
        sources: Sources of reward by name; ``use`` names the plugin's record.
        rewards: Weight of each source.
        settings: Of the learner.
    """

    learner: str
    env: Mapping[str, Any]
    total_timesteps: int
    sources: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    rewards: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def run(node: ConfigNode, registry: Registry, run_dir: Path, resume: bool, command: list[str]) -> int:
    """Train the learner of a config into `run_dir`; returns 0."""
    import gymnasium

    config = build(SingleSettings, node.data, where=node.where)
    spec = registry.find("learner", config.learner)
    settings_class = spec.load_settings()
    settings = (
        build(settings_class, config.settings, where=node.where, prefix="settings")
        if settings_class
        else None
    )
    arguments = dict(config.env)
    env_id = arguments.pop("id", None)
    if env_id is None:
        raise UserError(f"{node.where('env')}: the environment has no 'id'; give a registered name.")
    registry.find("env", env_id)
    policy = config.settings.get("policy")
    sources = {name: with_tokenizer(name, section, policy) for name, section in config.sources.items()}
    rewards = build_rewards(sources, config.rewards, registry, node.where)
    registry.register_envs()
    if rewards.sources:
        arguments["rewards"] = rewards.side("env")
    env = gymnasium.make(env_id, **arguments)
    record = Run.create(run_dir, config=to_plain(config), command=command, resume=resume)
    learner = spec.load()(env, settings, **({"rewards": rewards.side("learner")} if rewards.sources else {}))
    folder = record.path / "checkpoints" / config.learner
    newest = checkpoint.latest(folder) if resume and folder.exists() else None
    if newest is not None:
        learner.restore(newest)
    record.rewind(config.learner, getattr(learner, "iteration", 0))
    learner.checkpoint_dir = folder
    learner.set_logger(record.logger(config.learner))
    learner.learn(config.total_timesteps, progress_bar=True)
    learner.save(str(record.path / "models" / config.learner))
    record.mark_done(config.learner, {"timesteps": learner.num_timesteps})
    write_report(record.path)
    return 0


def with_tokenizer(name: str, section: Mapping[str, Any] | None, policy: Any) -> Mapping[str, Any] | None:
    """Tell a reward model whose tokens it will see, so that it need not tokenise them again."""
    if not isinstance(section, Mapping) or section.get("use", name) != "reward_model" or policy is None:
        return section
    return {"policy_tokenizer": policy, **section}
