"""The stages of the loop in order; what is finished is skipped on resume, as in the three-step pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from textrl.config import ConfigNode, build, to_plain
from textrl.errors import UserError
from textrl.pipelines.loop.collect import collect
from textrl.pipelines.loop.direct import direct
from textrl.pipelines.loop.measure import compare_rounds, evaluate, evaluate_sft, free, show_rounds
from textrl.pipelines.loop.settings import LoopSettings
from textrl.pipelines.loop.train import ppo, reward_model
from textrl.pipelines.loop.world import DIRECT, LOOP, NO_RATINGS, World, deal_prompts
from textrl.pipelines.rlhf import pipeline as rlhf
from textrl.pipelines.rlhf import stages
from textrl.pipelines.rlhf.prepare import prepare
from textrl.registry import Registry

Stage = Callable[[World], dict[str, Any]]


def run(node: ConfigNode, registry: Registry, run_dir: Any, resume: bool, command: list[str]) -> int:
    """Run the loop of a config into `run_dir`; returns 0."""
    settings = build(LoopSettings, node.data, where=node.where)
    check(settings, registry, node)
    planned = list(plan(settings))
    names = [name for name, _, _ in planned]
    context = rlhf.start(node, settings.base, to_plain(settings), registry, run_dir, resume, command, names)
    world = World(context, settings)
    deal_prompts(context.material.prompts, settings, settings.base.ppo.seed, 1)  # refuses too few of them
    for name, title, stage in planned:
        rlhf.say(title)
        rlhf.run_stage(context, name, _on(world, stage))
        if name.startswith("evaluate_") and context.run.done(name):
            compare_rounds(world)
        free()
    show_rounds(compare_rounds(world))
    rlhf.finish(context.run, names)
    return 0


def plan(settings: LoopSettings) -> Iterator[tuple[str, str, Stage]]:
    """Yield name, title and function of every stage."""
    yield "prepare", "fit the judges, set aside pretraining and perplexity text", _shared(prepare)
    yield "sft", "supervised fine-tuning", _shared(stages.sft)
    yield "evaluate_sft", "sample from the SFT model", evaluate_sft
    for number in range(1, settings.rounds + 1):
        of = f"round {number} of {settings.rounds}"
        yield f"collect_{number}", f"{of}: sample and rank", partial(collect, number=number)
        yield f"reward_model_{number}", f"{of}: reward model", partial(reward_model, number=number)
        yield f"ppo_{number}", f"{of}: PPO-ptx", partial(ppo, number=number)
        yield f"evaluate_{LOOP}_{number}", f"{of}: evaluation", partial(evaluate, number=number, arm=LOOP)
    for number in range(1, settings.rounds + 1) if settings.direct.enabled else ():
        of = f"directly from rankings, round {number} of {settings.rounds}"
        yield f"direct_{number}", of, partial(direct, number=number)
        yield f"evaluate_{DIRECT}_{number}", f"{of}: evaluation", partial(evaluate, number=number, arm=DIRECT)


def _on(world: World, stage: Stage) -> Callable[[stages.Context], dict[str, Any]]:
    return lambda _: stage(world)


def _shared(stage: Callable[[stages.Context], dict[str, Any]]) -> Stage:
    return lambda world: stage(world.context)


def check(settings: LoopSettings, registry: Registry, node: ConfigNode) -> None:
    """Refuse what would only fail in a late stage, before anything is written.

    Raises:
        UserError: Names the place in the config.
    """
    labels = settings.labels
    for name, section in labels.sources.items():
        try:
            registry.find("reward", str((section or {}).get("use", name)))
        except UserError as error:
            raise UserError(f"{node.where(f'labels.sources.{name}')}: {error}") from error
        if name not in labels.rewards:
            raise UserError(
                f"{node.where(f'labels.sources.{name}')}: the source '{name}' has no weight under 'rewards'."
            )
    for name in labels.rewards:
        if name not in labels.sources:
            raise UserError(f"{node.where(f'labels.rewards.{name}')}: there is no source called '{name}'.")
    if labels.labeler == "simulated" and not labels.sources and settings.base.data.source == "made":
        raise UserError(f"{node.where('labels')}: {NO_RATINGS}")
    learned = [n for n, s in settings.base.sources.items() if (s or {}).get("use", n) == "reward_model"]
    if not learned:
        raise UserError(
            f"{node.where('base.sources')}: no source uses 'reward_model', which the loop retrains; add one."
        )
