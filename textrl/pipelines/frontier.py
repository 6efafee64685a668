"""Several arms of one pipeline on shared models, evaluated as they train: the KL frontier.

SFT, reward model and judges are made once; each arm and seed then runs PPO from the same models, and
every few iterations the policy is measured on held-out prompts. Arms so become comparable at equal KL,
which two end points are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from textrl.config import ConfigNode, build, to_plain
from textrl.errors import UserError
from textrl.learners.ppo_ptx import PPOPTX
from textrl.pipelines.rlhf import pipeline as rlhf
from textrl.pipelines.rlhf import stages
from textrl.pipelines.rlhf.evaluate import measure_point
from textrl.pipelines.rlhf.prepare import prepare
from textrl.pipelines.rlhf.settings import RLHFSettings
from textrl.pipelines.rlhf.stages import Context
from textrl.registry import Registry


@dataclass(frozen=True)
class FrontierSettings:
    """A frontier.

    Attributes:
        base: An `RLHFSettings` section.
        arms: Name -> settings of ``ppo`` that differ from the base.
        seeds: Each arm runs once per seed.
        every: Iterations between two points.
        pipeline: ``frontier``.
    """

    base: RLHFSettings
    arms: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...] = (0, 1, 2)
    every: int = 3
    pipeline: str = "frontier"


def run(node: ConfigNode, registry: Registry, run_dir: Path, resume: bool, command: list[str]) -> int:
    """Run all arms and seeds into `run_dir`; returns 0."""
    settings = build(FrontierSettings, node.data, where=node.where)
    arms = {name: arm_settings(settings.base, name, changes, node) for name, changes in settings.arms.items()}
    shared = {"prepare": prepare, "sft": stages.sft, "reward_model": stages.reward_model}
    names = [*shared, *(f"{name}_seed{seed}" for seed in settings.seeds for name in arms)]
    context = rlhf.start(node, settings.base, to_plain(settings), registry, run_dir, resume, command, names)
    for name, stage in shared.items():
        rlhf.run_stage(context, name, stage)
    for seed in settings.seeds:
        for name, arm in arms.items():
            seeded = replace(arm, ppo=replace(arm.ppo, seed=seed))
            train = partial(one_arm, arm=name, seed=seed, every=settings.every)
            rlhf.run_stage(replace(context, settings=seeded), f"{name}_seed{seed}", train)
    rlhf.finish(context.run, names)
    return 0


def arm_settings(base: RLHFSettings, name: str, changes: Mapping[str, Any], node: ConfigNode) -> RLHFSettings:
    """Return the base with an arm's changes to ``ppo``."""
    unknown = set(changes) - set(vars(base.ppo))
    if unknown:
        raise UserError(f"{node.where(f'arms.{name}')}: PPO-ptx has no setting '{sorted(unknown)[0]}'.")
    return replace(base, ppo=replace(base.ppo, **changes))


def one_arm(context: Context, *, arm: str, seed: int, every: int) -> dict[str, Any]:
    """Train one arm with one seed and append its points to ``frontier.jsonl``."""
    stage = f"{arm}_seed{seed}"
    learner = stages.make_learner(context, stage)
    stages.continue_from_checkpoint(context, learner, stage)
    learner.set_logger(context.run.logger(stage))
    file = context.run.path / "frontier.jsonl"
    points = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    points = [p for p in points if (p["arm"], p["seed"]) != (arm, seed) or p["step"] <= learner.iteration]

    def look(learner: PPOPTX) -> None:
        if learner.iteration % every == 0 or learner.iteration == context.settings.iterations:
            with learner.updater.averaged():  # the weights that the pipeline would export
                point = measure_point(context, learner)
            points.append({"arm": arm, "seed": seed, "step": learner.iteration, **point})
            context.run.write_jsonl("frontier.jsonl", points)
            context.run.summarise({"frontier": points})

    learner.learn(iterations=context.settings.iterations, callback=look, progress_bar=True)
    return {"iterations": learner.iteration}
