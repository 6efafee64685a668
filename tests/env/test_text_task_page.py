"""docs/text_tasks.md is true: its table, its outputs, its config."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from textrl_text.tasks import DIFFICULTIES, TASKS
from textrl_text.tasks.lookup import make_text_task, task_facts, text_task

from textrl.learners.ppo_ptx.settings import PPOPTXSettings
from textrl.pipelines.single import SingleSettings
from textrl.settings import build

PAGE = Path(__file__).parents[2] / "docs" / "text_tasks.md"
TABLE = re.compile(r"(?<=<!-- tasks:begin -->\n).*?(?=<!-- tasks:end -->)", re.S)
BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.S)
HEAD = (
    "| environment | difficulty | V | prompts | longest response | random | optimum | budget |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


def rows() -> list[tuple[str, ...]]:
    """Return the cells of the table, worked out anew; the two values of "medium" would take too long."""
    found = []
    for name, entry in TASKS.items():
        for difficulty in DIFFICULTIES:
            recipe: Any = text_task(name)
            values = ("", "")
            if difficulty != "medium":
                facts = task_facts(name, difficulty)
                values = (value(facts.random), value(facts.optimum))
            task = make_text_task(name, difficulty) if small_words(recipe, difficulty) else None
            size = recipe.size(difficulty, {})
            sizes = (
                "49,152" if task is None else f"{task.vocab_size:,}",
                f"{len(recipe.prompts(size)):,}",
                str(recipe.horizon(size)),
            )
            budget = f"{recipe.budgets[difficulty]:,}"
            found.append((f"`{entry.env_id}`", difficulty, *sizes, *values, budget))
    return found


def small_words(recipe: Any, difficulty: str) -> bool:
    """Whether the vocabulary is the task's own; SmolLM2's may not be on this machine."""
    return getattr(recipe.size(difficulty, {}), "model", None) is None


def value(figure: float | None) -> str:
    """Return a figure as the table shows it."""
    return "not known" if figure is None else f"{figure:.4f}"


def printed(code: str) -> str:
    """Return what a block prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, str(PAGE), "exec"), {})
    return out.getvalue()


def test_the_table_is_true() -> None:
    written = TABLE.search(PAGE.read_text(encoding="utf-8"))
    assert written
    assert written[0].startswith(HEAD)
    lines = [tuple(cell.strip() for cell in line.split("|")[1:-1]) for line in written[0].splitlines()[2:]]
    for line, row in zip(lines, rows(), strict=True):
        assert line[:5] + line[7:] == row[:5] + row[7:]
        for one, other in zip(line[5:7], row[5:7], strict=True):
            # A prior is fitted on the machine that asks, in float32.
            near = 2e-3 if row[0].strip("`") in ("TextRL/Keyword-v0", "TextRL/Sentiment-v0") else 1e-4
            assert one == other or float(one) == pytest.approx(float(other), abs=near)


def test_the_outputs_are_true() -> None:
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) == 1
    for code, shown in blocks:
        assert printed(code) == shown


def test_the_config_builds_and_keeps_to_the_budget() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    config = build(SingleSettings, yaml.safe_load(text), where=str)
    settings = build(PPOPTXSettings, config.settings, where=str)
    facts, task = task_facts("reverse", "small"), make_text_task("reverse", "small")
    assert config.total_timesteps == facts.budget
    assert settings.policy == "task-reverse-small"
    per_iteration = settings.episodes_per_iteration * task.max_new_tokens
    assert settings.decay_iterations == facts.budget // per_iteration


if __name__ == "__main__":  # writes table and outputs anew: python tests/env/test_text_task_page.py
    page = PAGE.read_text(encoding="utf-8")
    table = HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows())
    page = TABLE.sub(lambda _: table, page)
    page = BLOCK.sub(lambda block: f"```python\n{block[1]}```\n\n```text\n{printed(block[1])}```", page)
    PAGE.write_text(page, encoding="utf-8")
