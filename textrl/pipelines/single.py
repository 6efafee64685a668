"""One learner on one environment: ``learner:``, ``env:``, ``settings:``, and what stands beside it.

On text ``rewards:`` weighs the ``sources:``; on control ``advice:`` and ``human:`` refer to them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, get_args

from textrl import checkpoint
from textrl.config import ConfigNode, build, to_plain
from textrl.errors import TrainingError, UserError, at_place, at_setting, did_you_mean
from textrl.models.precision import PrecisionName, resolve_precision
from textrl.pipelines.guided import build_beside
from textrl.registry import Registry
from textrl.report import write_report
from textrl.rewards import RewardSum, build_rewards
from textrl.runs import Run
from textrl.specs import LearnerSpec


@dataclass(frozen=True)
class SingleSettings:
    """A config with a learner.

    Attributes:
        learner: Registered name.
        env: ``id`` names the environment; all other keys are its arguments.
        total_timesteps: Length of the training; a token is a step.
        episodes: Length of the training where a learner counts in episodes; one of the two is needed.
        sources: Sources of reward by name; ``use`` names the plugin's record.
        rewards: Weight of each source.
        settings: Of the learner.
        advice: How a source that rates actions is combined with the learner (see `GuidanceSettings`).
        human: A person who teaches such a source (see `textrl.pipelines.guided.PersonSettings`).
    """

    learner: str
    env: Mapping[str, Any]
    total_timesteps: int | None = None
    episodes: int | None = None
    sources: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    rewards: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    advice: Mapping[str, Any] | None = None
    human: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if (self.total_timesteps is None) == (self.episodes is None):
            raise ValueError("give either total_timesteps or episodes")


def run(node: ConfigNode, registry: Registry, run_dir: Path, resume: bool, command: list[str]) -> int:
    """Train the learner of a config into `run_dir`; returns 0."""
    config = build(SingleSettings, node.data, where=node.where)
    # Whatever is wrong with the config is said before the run folder exists.
    learner, beside = _build_learner(config, registry, run_dir / "session.jsonl", node)
    # As the learner filled them in; a learner of somebody else's need not keep a dataclass.
    settings = getattr(learner, "settings", None)
    resolved = {"settings": to_plain(settings)} if is_dataclass(settings) else {}
    plain = to_plain(config) | resolved
    # A setting of that name of somebody else's learner may mean something else.
    wanted: Any = getattr(settings, "precision", None)
    precision = resolve_precision(wanted).name if wanted in get_args(PrecisionName) else None
    record = Run.create(run_dir, config=plain, command=command, resume=resume, precision=precision)
    folder = record.path / "checkpoints" / config.learner
    newest = checkpoint.latest(folder) if resume and folder.exists() else None
    if newest is not None:
        learner.restore(newest)
    record.rewind(config.learner, getattr(learner, "iteration", 0))
    learner.checkpoint_dir = folder
    learner.set_logger(record.logger(config.learner))
    length = {} if config.episodes is None else {"episodes": config.episodes}
    try:
        learner.learn(config.total_timesteps, progress_bar=True, **length)
    except TrainingError:
        raise
    except UserError:
        # Refused before the first round was over: nothing stands there that a mended config could want.
        if not record.metrics():
            record.discard()
        raise
    learner.save(str(record.path / "models" / config.learner))
    if config.human is not None:
        _save_h(record, str(config.human["source"]), beside["human"])
    if "guidance" in beside and _writes_text(learner.env):
        _tell_advice(record, learner)
    record.summarise(_outcome(record, config, learner))
    record.mark_done(config.learner, {"timesteps": learner.num_timesteps})
    write_report(record.path)
    return 0


def _build_learner(
    config: SingleSettings, registry: Registry, log: Path, node: ConfigNode
) -> tuple[Any, dict[str, Any]]:
    """Return the learner, and what stands beside its environment.

    Raises:
        UserError: When anything in the config is wrong, or the learner and its environment do not fit.
    """
    with at_place(node.where, "learner"):
        spec = registry.find("learner", config.learner)
    assert isinstance(spec, LearnerSpec)  # the registry keeps records by kind
    _check_length(config, spec.load(), node)
    settings_class = spec.load_settings()
    settings = (
        build(settings_class, config.settings, where=node.where, prefix="settings")
        if settings_class
        else None
    )
    env, rewards = make_env(config, registry, node)
    sections: Any = {
        "sources": config.sources,
        "advice": config.advice,
        "human": config.human,
        "registry": registry,
        "where": node.where,
        "seed": getattr(settings, "seed", 0),
        "log": log,
    }
    if _writes_text(env):
        from textrl.pipelines.guided_text import build_text_beside

        beside = build_text_beside(spec, rewards, **sections)
    else:
        beside = build_beside(spec, env, **sections).arguments()
    if rewards.sources and _takes_rewards(spec, rewards, node):
        beside["rewards"] = rewards.side("learner")
    # What the learner refuses is mostly the environment; errors about anything else name their own key.
    with at_place(node.where, "env"):
        return spec.load()(env, settings, **beside), beside


def _check_length(config: SingleSettings, learner: Any, node: ConfigNode) -> None:
    """Refuse a length in episodes where schedules, or batches of texts, need a number of steps."""
    learn = getattr(learner, "learn", None)  # a target may be a function that builds the learner
    counts = learn is None or "episodes" in inspect.signature(learn).parameters
    if config.episodes is not None and not (counts and getattr(learner, "counts_episodes", True)):
        raise UserError(
            f"{node.where('episodes')}: the learner '{config.learner}' counts in steps; give "
            "total_timesteps, not episodes."
        )


def _takes_rewards(spec: LearnerSpec, rewards: RewardSum, node: ConfigNode) -> bool:
    """Return whether a learner adds sources of its own side.

    Raises:
        UserError: When it does not, and there are such sources.
    """
    parameters = inspect.signature(spec.load()).parameters
    takes = "rewards" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for source in () if takes else rewards.side("learner").sources:
        raise UserError(
            f"{node.where(f'rewards.{source.name}')}: the learner '{spec.name}' takes rewards from the "
            f"environment only, and '{source.name}' ({source.spec.name}) is paid by a learner; use "
            "'ppo_ptx', 'rloo' or 'grpo' for it, or leave it out."
        )
    return takes


def _save_h(record: Run, source: str, human: Any) -> None:
    """Write what the person taught as what a later config can name: a linear H, or a head on text."""
    kept, tamer = record.path / "models" / source, getattr(human, "tamer", None)
    if tamer is None and getattr(human.source, "taught", False) and hasattr(human.source, "save_head"):
        human.source.save_head(kept)
    elif tamer is not None and tamer.settings.model == "linear":
        kept = kept.with_name(f"{source}.json")
        tamer.save_weights(kept)
    else:
        return
    print(f"[textrl] H is in {kept}; another config reads it as 'weights' of a source.", flush=True)  # noqa: T201


def _outcome(record: Run, config: SingleSettings, learner: Any) -> dict[str, Any]:
    """Return how the training ended: its length, and the last figures that were logged."""
    rows = record.metrics(config.learner)
    last = {key: value for key, value in rows[-1].items() if "/" in key} if rows else {}
    return {
        "learner": config.learner,
        "environment": config.env["id"],
        "timesteps": learner.num_timesteps,
        "last": last,
    }


def _writes_text(env: Any) -> bool:
    """Return whether steps are tokens; control does not wait for the import of language models."""
    task = getattr(env.unwrapped, "task", None)
    if task is None:
        return False
    from textrl.mdp.task import TokenTask

    return isinstance(task, TokenTask)


def _tell_advice(record: Run, learner: Any) -> None:
    """Evaluate with advice and without it, write that into the summary, and say it."""
    from textrl.learners.ppo_ptx.evaluation import with_and_without

    found = with_and_without(learner)
    record.summarise({"evaluation": found})
    said = ", ".join(
        f"{name.replace('_', ' ')} {one['total']:+.3f} [{one['total_lo']:+.3f}, {one['total_hi']:+.3f}]"
        for name, one in found.items()
    )
    print(f"[textrl] what the environment pays for an episode: {said}", flush=True)  # noqa: T201


def make_env(config: SingleSettings, registry: Registry, node: ConfigNode) -> tuple[Any, RewardSum]:
    """Make the environment, and the rewards that the sources pay in it.

    Raises:
        UserError: When the environment is unknown, or a source is wrong or never used.
    """
    import gymnasium

    arguments = dict(config.env)
    env_id = arguments.pop("id", None)
    if env_id is None:
        raise UserError(f"{node.where('env')}: the environment has no 'id'; give a registered name.")
    # What only advises or is taught is built by `build_beside`.
    elsewhere = {str((section or {}).get("source")) for section in (config.advice, config.human)}
    policy = config.settings.get("policy")
    sources = {
        name: with_tokenizer(name, section, policy)
        for name, section in config.sources.items()
        if name in config.rewards or name not in elsewhere
    }
    rewards = build_rewards(sources, config.rewards, registry, node.where)
    registry.register_envs()
    try:
        known = env_arguments(env_id)
    except gymnasium.error.UnregisteredEnv as error:
        ids = [*registry.specs("env"), *gymnasium.registry]
        raise UserError(
            f"{node.where('env.id')}: there is no environment '{env_id}'.{did_you_mean(str(env_id), ids)}"
        ) from error
    for name in arguments:
        if known is not None and name not in known:
            raise UserError(
                f"{node.where(f'env.{name}')}: the environment '{env_id}' has no argument '{name}'."
                f"{did_you_mean(name, known)}"
            )
    if rewards.sources:
        if known is not None and "rewards" not in known:
            raise UserError(
                f"{node.where('rewards')}: the environment '{env_id}' pays its own reward and takes no "
                "others; leave the sections 'sources' and 'rewards' out."
            )
        if arguments.get("rewards"):
            raise UserError(
                f"{node.where('env.rewards')}: 'env.rewards' and the section 'rewards' both say what is "
                "paid, and one would replace the other; give all sources under 'sources' and weigh them "
                "under 'rewards'."
            )
        arguments["rewards"] = rewards.side("env")
    with at_place(node.where, "env"), at_setting("env"):
        return gymnasium.make(env_id, **arguments), rewards


def env_arguments(env_id: str) -> list[str] | None:
    """Return what an environment can be given by name; None where it takes any name.

    Raises:
        UnregisteredEnv: When Gymnasium knows no such environment.
    """
    import gymnasium
    from gymnasium.envs.registration import load_env_creator

    target = gymnasium.spec(env_id).entry_point
    creator: Any = load_env_creator(target) if isinstance(target, str) else target
    own = inspect.signature(creator).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in own):
        return None
    return sorted({"max_episode_steps", "disable_env_checker", *(parameter.name for parameter in own)})


def with_tokenizer(name: str, section: Mapping[str, Any] | None, policy: Any) -> Mapping[str, Any] | None:
    """Tell a reward model whose tokens it will see, so that it need not tokenise them again."""
    if not isinstance(section, Mapping) or section.get("use", name) != "reward_model" or policy is None:
        return section
    return {"policy_tokenizer": policy, **section}
