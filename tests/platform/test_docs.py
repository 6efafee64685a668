"""The plugin author's guide is complete and true, and every built-in entry resolves and conforms in form."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from textrl.discovery import KINDS
from textrl.registry import get_registry
from textrl.settings import describe
from textrl.specs import API_VERSION, NEEDS, EnvSpec, Spec, resolve

GUIDE = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
ENTRIES = [(kind, name) for kind in KINDS for name in get_registry(strict=True).specs(kind)]


def section(title: str) -> str:
    """Return the text under a heading, up to the next heading of its level or above."""
    start = re.search(rf"^(#+) {re.escape(title)}$", GUIDE, re.M)
    assert start, f"docs/plugins.md has no section '{title}'"
    rest = GUIDE[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.M)
    return rest[: end.start()] if end else rest


@pytest.mark.parametrize(("hook", "cls"), KINDS.values(), ids=KINDS)
def test_every_hook_and_every_field_of_its_record_is_documented(hook: str, cls: type[Spec]) -> None:
    text = section(f"`{hook}`")
    assert f"`{cls.__name__}`" in text
    common = {field.name for field in fields(Spec)}
    for field in fields(cls):
        if field.name not in common:
            assert f"| `{field.name}` |" in text, f"{cls.__name__}.{field.name} is not in the guide"


@pytest.mark.parametrize("field", [field.name for field in fields(Spec)])
def test_every_common_field_is_documented(field: str) -> None:
    assert f"| `{field}` |" in section("Records")


@pytest.mark.parametrize("need", sorted(NEEDS))
def test_everything_a_reward_may_need_is_documented(need: str) -> None:
    assert f"| `{need}` |" in section("`textrl_rewards`")


def test_the_guide_names_the_current_record_format() -> None:
    assert f"the current one, {API_VERSION}" in section("Records")


@pytest.mark.parametrize("variable", ["TEXTRL_PLUGINS", "TEXTRL_DISABLE", "TEXTRL_STRICT"])
def test_every_switch_is_documented(variable: str) -> None:
    assert variable in section("What happens to a plugin")


def test_the_guide_shows_no_hook_that_is_not_there() -> None:
    hooks = {hook for hook, _ in KINDS.values()}
    assert set(re.findall(r"^### `(textrl_\w+)`$", GUIDE, re.M)) == hooks


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_built_in_entry_is_documented(kind: str, name: str) -> None:
    rows = [row for row in section("What comes with textrl").splitlines() if row.startswith(f"| {kind} ")]
    assert any(f"`{name}`" in row for row in rows)


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_built_in_entry_resolves_and_explains_its_settings(kind: str, name: str) -> None:
    spec = get_registry().find(kind, name)
    assert callable(spec.load())
    if isinstance(spec, EnvSpec) and spec.vector_target is not None:
        assert callable(resolve(spec.vector_target, name))
    settings = spec.load_settings()
    if settings is not None:
        assert [item.name for item in describe(settings) if not item.help] == []


def test_the_guide_lists_nothing_that_is_not_there() -> None:
    rows = re.findall(r"^\| (\w+) \| (`.*?`) \| ", section("What comes with textrl"), re.M)
    listed = {(kind, name) for kind, names in rows for name in re.findall(r"`(.+?)`", names)}
    assert listed == set(ENTRIES)


def test_the_twenty_lines_work(plugin_file: Callable[[str, str], str]) -> None:
    from textrl.testing import check_reward

    code = re.search(r"```python\n(.*?)```", section("Twenty lines"), re.S)
    assert code
    assert len([line for line in code[1].splitlines() if line.strip()]) <= 20
    registry = get_registry(plugins=[plugin_file("my_reward", code[1])])
    results = check_reward("shouting", registry=registry)
    assert [f"{result.name}: {result.detail}" for result in results if not result.ok] == []
