"""The stages in order; a finished stage is skipped on resume, an unfinished one goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from textrl.config import ConfigNode, build, to_plain
from textrl.memory import peak_bytes, release_free_memory
from textrl.models.loading import load_causal_lm
from textrl.models.precision import resolve_precision
from textrl.pipelines.rlhf import stages
from textrl.pipelines.rlhf.evaluate import evaluate
from textrl.pipelines.rlhf.material import gather
from textrl.pipelines.rlhf.prepare import prepare
from textrl.pipelines.rlhf.settings import RLHFSettings
from textrl.pipelines.rlhf.stages import Context
from textrl.registry import Registry
from textrl.report import summary_sentence, write_report
from textrl.runs import Run

STAGES: tuple[tuple[str, str, Callable[[Context], dict[str, Any]]], ...] = (
    ("prepare", "fit the judges, set aside pretraining and perplexity text", prepare),
    ("sft", "step 1: supervised fine-tuning", stages.sft),
    ("reward_model", "step 2: reward model from rankings", stages.reward_model),
    ("ppo", "step 3: PPO-ptx", stages.ppo),
    ("evaluate", "held-out evaluation", evaluate),
)


def run(node: ConfigNode, registry: Registry, run_dir: Path, resume: bool, command: list[str]) -> int:
    """Run the pipeline of a config into `run_dir`; returns 0."""
    settings = build(RLHFSettings, node.data, where=node.where)
    names = [name for name, _, _ in STAGES]
    context = start(node, settings, to_plain(settings), registry, run_dir, resume, command, names)
    for name, title, stage in STAGES:
        say(title)
        run_stage(context, name, stage)
    finish(context.run, names)
    return 0


def start(
    node: ConfigNode,
    settings: RLHFSettings,
    config: Mapping[str, Any],
    registry: Registry,
    run_dir: Path,
    resume: bool,
    command: list[str],
    names: Sequence[str],
) -> Context:
    """Check the settings, open the run folder and gather the texts."""
    started = time.perf_counter()
    say("gather: weights and ratings (downloaded and converted once)")
    check(settings, registry, node)
    precision = resolve_precision(settings.ppo.precision).name
    record = Run.create(run_dir, config=config, command=command, resume=resume, precision=precision)
    record.summarise(
        {
            "command": command,
            "seed": settings.ppo.seed,
            "model": settings.model,
            "status": "running",
            "planned_stages": ["gather", *names],
            "targets": dict(settings.targets),
        }
    )
    load_causal_lm(settings.model, registry=registry)
    material = gather(settings, settings.ppo.seed)
    if not record.done("gather"):
        record.mark_done("gather", {"seconds": time.perf_counter() - started})
    return Context(record, settings, node, registry, material, resume)


def run_stage(context: Context, name: str, stage: Callable[[Context], dict[str, Any]]) -> None:
    """Run a stage unless it is finished, and keep what it says and how long it took."""
    if context.run.done(name):
        say(f"{name}: done before")
        return
    started = time.perf_counter()
    payload = stage(context)
    release_free_memory()
    seconds = time.perf_counter() - started
    context.run.mark_done(name, {**payload, "seconds": seconds})
    say(f"{name}: {seconds:.0f} s")


def check(settings: RLHFSettings, registry: Registry, node: ConfigNode) -> None:
    """Refuse what would only fail in a late stage, before anything is written."""
    from textrl.errors import UserError
    from textrl.models.sources import resolve

    for name, section in settings.sources.items():
        registry.find("reward", str((section or {}).get("use", name)))
    for name in settings.rewards:
        if name not in settings.sources:
            raise UserError(f"{node.where(f'rewards.{name}')}: there is no source called '{name}'.")
    resolve(settings.model, registry)


def finish(record: Run, names: Sequence[str]) -> None:
    """Add times and memory to the summary and write the report."""
    timed = [{"name": name, "seconds": record.payload(name)["seconds"]} for name in names]
    downloads = record.payload("gather")["seconds"]
    wall = downloads + sum(stage["seconds"] for stage in timed)
    record.summarise(
        {
            "status": "finished",
            "stages": timed,
            "downloads_s": downloads,
            "wall_s": wall,
            "peak_memory_gb": peak_bytes() / 2**30,
        }
    )
    say(summary_sentence(record.path))
    say(f"report: {write_report(record.path)}")


def say(line: str) -> None:
    """Print one line of progress at once."""
    print(f"[textrl] {line}", flush=True)  # noqa: T201
