"""Text tasks by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textrl.errors import UserError, did_you_mean
from textrl.mdp.task import TokenTask
from textrl.specs import resolve
from textrl_text.catalog import TASKS, Difficulty
from textrl_text.tasks.base import TextTask
from textrl_text.tasks.facts import TaskFacts


def text_task(name: str) -> TextTask[Any]:
    """Return a task by its name in `textrl_text.catalog.TASKS`.

    Raises:
        UserError: When there is none.
    """
    if name not in TASKS:
        raise UserError(f"There is no text task '{name}'.{did_you_mean(name, TASKS)}")
    found: TextTask[Any] = resolve(TASKS[name].target, TASKS[name].env_id).recipe
    return found


def make_text_task(
    name: str, difficulty: Difficulty = "small", seed: int = 0, *, masks: bool = False, **overrides: Any
) -> TokenTask:
    """Return a token task; see `TextTask.make`."""
    return text_task(name).make(difficulty, seed, masks=masks, **overrides)


def task_facts(
    name: str, difficulty: Difficulty = "small", *, masks: bool = False, **overrides: Any
) -> TaskFacts:
    """Return what is known about a task; see `TextTask.facts`."""
    return text_task(name).facts(difficulty, masks=masks, **overrides)


def task_policy(name: str, difficulty: Difficulty = "small", seed: int = 0, **overrides: Any) -> Path:
    """Return the folder of the language model that learning starts from; see `TextTask.policy`."""
    return text_task(name).policy(difficulty, seed, **overrides)
