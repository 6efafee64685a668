"""Every command that the README and the configs show exists; every config is complete and valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from textrl.cli import main
from textrl.config import build, load_config
from textrl.pipelines import PIPELINES
from textrl.pipelines.frontier import FrontierSettings, arm_settings
from textrl.pipelines.guided import build_beside
from textrl.pipelines.guided_text import build_text_beside
from textrl.pipelines.loop.pipeline import check
from textrl.pipelines.loop.settings import LoopSettings
from textrl.pipelines.reward_model.pipeline import arms_of
from textrl.pipelines.reward_model.settings import RewardModelRunSettings
from textrl.pipelines.rlhf.settings import RLHFSettings
from textrl.pipelines.single import SingleSettings, make_env
from textrl.pipelines.summaries.settings import SummarizeSettings
from textrl.registry import get_registry
from textrl.rewards import RewardSum
from textrl.specs import LearnerSpec

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^(?:    |\$ )textrl (.+?)(?:\s{2,}#.*)?$", re.M)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_states_command_hardware_and_result(path: Path) -> None:
    header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert f"command:  textrl run {path.relative_to(ROOT)}" in " ".join(line.lstrip("# ") for line in header)
    for key in ("hardware:", "expected:"):
        assert any(key in line for line in header)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_builds(path: Path) -> None:
    node, registry = load_config(path), get_registry()
    if "learner" in node.data:
        single = build(SingleSettings, node.data, where=node.where)
        settings_class = registry.find("learner", single.learner).load_settings()
        assert settings_class is not None
        build(settings_class, single.settings, where=node.where, prefix="settings")
        beside = [section["source"] for section in (single.advice, single.human) if section]
        sources, used = single.sources, {*single.rewards, *beside}
        if beside:
            spec = registry.find("learner", single.learner)
            assert isinstance(spec, LearnerSpec)
            sections = {"sources": sources, "advice": single.advice, "human": single.human}
            if "policy" in single.settings:  # text, where the environment would fetch the model
                build_text_beside(
                    spec, RewardSum([]), registry=registry, where=node.where, seed=0, **sections
                )
            else:
                env, _ = make_env(single, registry, node)
                build_beside(spec, env, registry=registry, where=node.where, seed=0, **sections)
    elif node.data["pipeline"] == "frontier":
        frontier = build(FrontierSettings, node.data, where=node.where)
        for name, changes in frontier.arms.items():
            arm_settings(frontier.base, name, changes, node)
        sources, used = frontier.base.sources, set(frontier.base.rewards)
    elif node.data["pipeline"] == "reward_model":
        arms_of(build(RewardModelRunSettings, node.data, where=node.where), node)
        sources, used = {}, set()
    elif node.data["pipeline"] == "online_loop":
        loop = build(LoopSettings, node.data, where=node.where)
        check(loop, registry, node)
        sources, used = loop.base.sources, set(loop.base.rewards)
    elif node.data["pipeline"] == "summarize":
        summarize = build(SummarizeSettings, node.data, where=node.where)
        sources, used = summarize.sources, set(summarize.rewards)
    else:
        assert node.data["pipeline"] in PIPELINES
        rlhf = build(RLHFSettings, node.data, where=node.where)
        sources, used = rlhf.sources, set(rlhf.rewards)
    assert set(sources) == used
    for name, section in sources.items():
        spec = registry.find("reward", str((section or {}).get("use", name)))
        settings_class = spec.load_settings()
        rest = {key: value for key, value in (section or {}).items() if key != "use"}
        if settings_class is not None and spec.name != "reward_model":
            build(settings_class, rest, where=node.where)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_files_on_a_page_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"\bconfigs/[\w/]+\.yaml\b", text):
        assert (ROOT / name).is_file(), f"{page.name} names {name}"
    for link in re.findall(r"\]\(((?!http)[^)#]+)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"
    for command in sorted({line.split()[0] for line in COMMAND.findall(text)}):
        assert main([command, "--help"]) == 0, f"{page.name} shows 'textrl {command}'"
    capsys.readouterr()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for target in re.findall(r"^    make (\w+)", text, re.M):
        assert target in targets


def test_help_leads_to_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for word in ("run", "plugins", "rewards", "envs", "learners", "new", "check", "quickstart"):
        assert word in shown
