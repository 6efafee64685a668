"""The stages in order: supervised model, candidates and their rankings, reward model, PPO, evaluation.

It is InstructGPT's ancestor and shares its stages (`textrl.pipelines.rlhf.stages`); what is its own is the
set of texts, the candidates from several policies, the reward that is 0 on average for reference summaries,
and ROUGE-L.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from textrl.config import ConfigNode, build, to_plain
from textrl.data.summaries import deal, read_summaries
from textrl.errors import UserError
from textrl.models.loading import load_causal_lm
from textrl.models.precision import resolve_precision
from textrl.models.sources import resolve
from textrl.models.tiny import tiny_gpt2
from textrl.pipelines.rlhf import stages
from textrl.pipelines.rlhf.material import Material
from textrl.pipelines.rlhf.pipeline import finish, run_stage, say
from textrl.pipelines.rlhf.stages import Context
from textrl.pipelines.summaries.candidates import read_ranked, write_candidates
from textrl.pipelines.summaries.evaluate import evaluate, table_of
from textrl.pipelines.summaries.settings import SummarizeSettings
from textrl.registry import Registry
from textrl.runs import Run
from textrl.sft import SFTExample

#: Name of the model that is made on the spot, with a tokenizer of the set's own words.
MADE = "made"
STAGES = ("sft", "candidates", "reward_model", "ppo", "evaluate")


def run(node: ConfigNode, registry: Registry, run_dir: Path, resume: bool, command: list[str]) -> int:
    """Run the pipeline of a config into `run_dir`; returns 0."""
    settings = build(SummarizeSettings, node.data, where=node.where)
    check(settings, registry, node)
    say("gather: the texts and their reference summaries")
    started = time.perf_counter()
    data = settings.data
    # Before the run folder exists: whatever is wrong with the set leaves nothing behind.
    count = sum(vars(data.sizes).values())
    texts = read_summaries(data.source, split=data.split, count=count, seed=data.seed)
    parts = deal(texts, data.sizes, data.seed)
    given = settings
    if settings.model == MADE:
        texts_sft = [one.prompt + one.completion for one in parts["sft"]]
        settings = replace(settings, model=str(tiny_gpt2(texts_sft)))
    load_causal_lm(settings.model, registry=registry)
    record = _open(given, run_dir, resume, command)
    if not record.done("gather"):
        record.mark_done("gather", {"seconds": time.perf_counter() - started})
    material = Material(
        demonstrations=[SFTExample(one.prompt, one.completion) for one in parts["sft"]],
        rankings=(),
        rankings_test=(),
        judge=(),
        judge_test=(),
        anchors=(),
        prompts=[one.prompt for part in ("sft", "rm") for one in parts[part]],
        prompts_test=[one.prompt for one in parts["test"]],
        download_s=0.0,
    )
    context = Context(record, settings.as_rlhf(), node, registry, material, resume)
    say("step 1: supervised fine-tuning on reference summaries")
    run_stage(context, "sft", stages.sft)
    say(f"step 2: candidates from {', '.join(settings.candidates.origins)}, and their rankings")
    run_stage(context, "candidates", partial(_candidates, settings=settings, parts=parts))
    train, test = read_ranked(record.path / "data")
    context = replace(context, material=replace(material, rankings=train, rankings_test=test))
    say("step 2: reward model, with mean 0 on reference summaries")
    run_stage(context, "reward_model", stages.reward_model)
    say("step 3: PPO against reward - beta * log(pi / pi_SFT)")
    run_stage(context, "ppo", stages.ppo)
    run_stage(context, "evaluate", partial(_evaluate, settings=settings, parts=parts))
    finish(record, STAGES)
    print(table_of(record.payload("evaluate")["summaries"]), flush=True)  # noqa: T201
    return 0


def check(settings: SummarizeSettings, registry: Registry, node: ConfigNode) -> None:
    """Refuse what would only fail in a late stage, before anything is written.

    Raises:
        UserError: On an unknown reward, an unused weight or a model that cannot be found.
    """
    for name, section in settings.sources.items():
        registry.find("reward", str((section or {}).get("use", name)))
    for name in settings.rewards:
        if name not in settings.sources:
            raise UserError(f"{node.where(f'rewards.{name}')}: there is no source called '{name}'.")
    if settings.model != MADE:
        resolve(settings.model, registry)
    current = settings.candidates.current
    if current is not None:
        if "current" not in settings.candidates.origins:
            raise UserError(
                f"{node.where('candidates.current')}: 'current' names {current}, but is not one of the "
                "origins; add it to candidates.origins or leave it out."
            )
        resolve(current, registry)


def _open(settings: SummarizeSettings, run_dir: Path, resume: bool, command: list[str]) -> Run:
    precision = resolve_precision(settings.ppo.precision).name
    config = to_plain(settings)
    record = Run.create(run_dir, config=config, command=command, resume=resume, precision=precision)
    record.summarise(
        {
            "command": command,
            "seed": settings.ppo.seed,
            "model": settings.model,
            "status": "running",
            "planned_stages": ["gather", *STAGES],
            "targets": dict(settings.targets),
        }
    )
    return record


def _candidates(context: Context, *, settings: SummarizeSettings, parts: Any) -> dict[str, Any]:
    return write_candidates(context, settings, parts)


def _evaluate(context: Context, *, settings: SummarizeSettings, parts: Any) -> dict[str, Any]:
    return evaluate(context, settings, parts["test"])
