"""Tasks: described by plain arguments, or one of the built-in text tasks by name."""

from textrl_text.catalog import DIFFICULTIES, TASKS, Difficulty
from textrl_text.tasks.arguments import (
    DEFAULT_PROMPTS,
    PromptSource,
    Rewards,
    TaskArguments,
    make_task,
    task_from,
)

__all__ = [
    "DEFAULT_PROMPTS",
    "DIFFICULTIES",
    "TASKS",
    "Difficulty",
    "PromptSource",
    "Rewards",
    "TaskArguments",
    "make_task",
    "task_from",
]
