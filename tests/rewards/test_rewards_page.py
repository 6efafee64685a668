"""docs/rewards.md: every reward and every setting with its type and default, and examples that work."""

import re
from pathlib import Path

import pytest
import yaml
from textrl_judges.conformance import serve_words
from textrl_reward_model.conformance import tiny_scorer

from textrl.registry import get_registry
from textrl.rewards import build_rewards
from textrl.settings import describe
from textrl.testing import make_batch, samples

PAGE = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text(encoding="utf-8")
REWARDS = get_registry().specs("reward")
BUILT_IN = [name for name in REWARDS if "(textrl-mdp " in get_registry().owner("reward", name)]


def section(name):
    found = re.search(rf"^## `{name}`\n(.*?)(?=^## |\Z)", PAGE, re.S | re.M)
    assert found, f"docs/rewards.md has no section on {name}"
    return found[1]


def test_the_page_has_the_registered_rewards_and_no_others():
    assert sorted(re.findall(r"^## `(\w+)`", PAGE, re.M)) == sorted(BUILT_IN)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_setting_stands_with_its_type_and_default(name):
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \| (.+?) \| .+ \|$", section(name), re.M)
    documented = {row[0]: (row[1].replace("\\|", "|"), row[2]) for row in rows}
    wanted = {
        item.name: (item.type, "required" if item.required else f"`{item.default!r}`")
        for item in describe(REWARDS[name].load_settings())
    }
    assert documented == wanted


def examples():
    return [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)]


@pytest.mark.parametrize("number", range(len(examples())))
def test_every_example_builds_and_scores(number, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function = re.search(r"```python\n# score.py\n(.*?)```", PAGE, re.S)
    (tmp_path / "score.py").write_text(function[1])
    example = examples()[number]
    for settings in example["sources"].values():
        if "model" in settings:
            tiny_scorer(tmp_path / settings["model"])
        if "url" in settings:
            settings["url"] = serve_words()
    rewards = build_rewards(example["sources"], example["rewards"], get_registry(), str)
    scored = rewards(make_batch(samples({"solution": "4"}), rewards.needs))
    assert set(scored.components) == set(example["sources"])


def test_every_reward_has_an_example():
    used = {(s or {}).get("use", name) for example in examples() for name, s in example["sources"].items()}
    assert used == set(BUILT_IN)


def test_the_python_example_runs():
    (code,) = re.findall(r"```python\n(from .*?)```", PAGE, re.S)
    names = {}
    exec(compile(code, "docs/rewards.md", "exec"), names)
    assert names["rewards"].weights == {"brief": 0.2, "sentiment": 1.0}
    scored = names["rewards"](make_batch(samples(), names["rewards"].needs))
    assert scored.total.shape == scored.components["brief"].shape == (6, 9)


def test_lines_of_prose_are_short():
    long = [line for line in PAGE.splitlines() if len(line) > 120 and not line.startswith("|")]
    assert long == []
