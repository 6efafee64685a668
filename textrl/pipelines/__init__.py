"""Pipelines: what `textrl run CONFIG` runs. A config names one by `pipeline:`, or a single learner."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from textrl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from textrl.config import ConfigNode
    from textrl.registry import Registry

#: ``(node, registry, run_dir, resume, command) -> exit code``
Pipeline = Callable[["ConfigNode", "Registry", Path, bool, list[str]], int]

PIPELINES = {
    "rlhf": "textrl.pipelines.rlhf:run",
    "frontier": "textrl.pipelines.frontier:run",
    "reward_model": "textrl.pipelines.reward_model:run",
    "online_loop": "textrl.pipelines.loop:run",
    "summarize": "textrl.pipelines.summaries:run",
}


def run_config(
    node: ConfigNode, *, registry: Registry, run_dir: Path, resume: bool, command: list[str]
) -> int:
    """Run the pipeline or the learner that a config names, into `run_dir`.

    Args:
        node: The config.
        registry: Where rewards, models, environments and learners are looked up.
        run_dir: The run folder; must not exist unless `resume`.
        resume: Continue an interrupted run.
        command: The exact command line, for the report.

    Returns:
        0.

    Raises:
        UserError: On a config that names neither, or something unknown.
    """
    name = node.data.get("pipeline")
    if name is None and "learner" in node.data:
        target = "textrl.pipelines.single:run"
    elif name is None:
        raise UserError(f"{node.name}: name a 'pipeline' ({', '.join(PIPELINES)}) or a 'learner'.")
    elif not isinstance(name, str) or name not in PIPELINES:
        known = did_you_mean(str(name), PIPELINES)
        raise UserError(f"{node.where('pipeline')}: there is no pipeline '{name}'.{known}")
    else:
        target = PIPELINES[name]
    module, _, attribute = target.partition(":")
    run: Pipeline = getattr(importlib.import_module(module), attribute)
    return run(node, registry, run_dir, resume, command)
