"""A learner with a person beside it, from a config: run, resume, replay, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from textrl.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "classic_control.md"
CONFIG: dict[str, Any] = {
    "learner": "sarsa",
    "env": {"id": "MountainCar-v0"},
    "episodes": 4,
    "settings": {"initial_weight": -10.0, "checkpoint_every": 2, "features": {"per_dimension": 8}},
    "sources": {"h": {"use": "tamer", "features": {"per_dimension": 8}}},
    "advice": {"technique": "action_biasing", "source": "h", "beta": 10, "eligibility": {}},
    "human": {
        "source": "h",
        "feedback": {"use": "simulated", "preset": "oracle"},
        "session": {"schedule": [[0, 3]]},
    },
}


def run(folder: Path, config: dict[str, Any], *more: str) -> int:
    path = folder / "one.yaml"
    path.write_text(yaml.safe_dump(config))
    return main(["run", str(path), "--runs-dir", str(folder / "runs"), *more])


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_person_teaches_while_the_learner_learns(tmp_path: Path) -> None:
    assert run(tmp_path, CONFIG, "--name", "one") == 0
    folder = tmp_path / "runs" / "one"
    logged = rows(folder)
    assert [row["step"] for row in logged] == [1, 2, 3, 4]
    assert [row["human/training"] for row in logged] == [1, 1, 0, 0]  # as it is after each episode
    assert logged[2]["human/signals"] > 0
    assert logged[3]["human/signals"] == logged[2]["human/signals"]
    kinds = {json.loads(line)["kind"] for line in (folder / "session.jsonl").read_text().splitlines()}
    assert {"shown", "press", "end_episode", "tick"} <= kinds
    assert (folder / "report.html").exists()


def test_a_resumed_run_ends_with_the_same_numbers(tmp_path: Path) -> None:
    assert run(tmp_path, CONFIG, "--name", "straight") == 0
    assert run(tmp_path, {**CONFIG, "episodes": 2}, "--name", "broken") == 0
    short = tmp_path / "runs" / "broken"
    # The same run, stopped early: its settings say four episodes.
    written = (short / "config.yaml").read_text().replace("episodes: 2", "episodes: 4")
    (short / "config.yaml").write_text(written)
    assert run(tmp_path, CONFIG, "--name", "broken", "--resume") == 0
    timed = {"time_s", "time/fps"}
    for one, other in zip(rows(tmp_path / "runs" / "straight"), rows(short), strict=True):
        assert {k: v for k, v in one.items() if k not in timed} == {
            k: v for k, v in other.items() if k not in timed
        }


def test_a_recorded_session_is_replayed_to_the_same_returns(tmp_path: Path) -> None:
    assert run(tmp_path, CONFIG, "--name", "first") == 0
    log = tmp_path / "runs" / "first" / "session.jsonl"
    human = {**CONFIG["human"], "feedback": {"use": "replay", "path": str(log)}}
    assert run(tmp_path, {**CONFIG, "human": human}, "--name", "again") == 0
    first, again = (rows(tmp_path / "runs" / name) for name in ("first", "again"))
    assert [row["rollout/ep_rew"] for row in first] == [row["rollout/ep_rew"] for row in again]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"advice": {**CONFIG["advice"], "source": "k"}}, "no source called 'k'"),
        ({"advice": {**CONFIG["advice"], "technique": "action_bias"}}, "advice.technique"),
        ({"sources": {"h": {"use": "sentiment"}}}, "gives no advice"),
        ({"human": {**CONFIG["human"], "feedback": {"use": "simulatd"}}}, "simulated"),
        ({"human": {**CONFIG["human"], "feedback": {"preset": "oracle"}}}, "'use'"),
        ({"learner": "contrib/ars", "settings": {}, "episodes": None, "total_timesteps": 10}, "contrib/ars"),
        (
            {"learner": "sb3/dqn", "settings": {}, "advice": None, "episodes": None, "total_timesteps": 10},
            "The learner 'sb3/dqn' has no person beside it",
        ),
        (
            {"learner": "ppo", "settings": {}, "advice": None, "episodes": None, "total_timesteps": 10},
            "The learner 'ppo' has no person beside it",
        ),
        ({"env": {"id": "MountainCra-v0"}}, "MountainCar-v0"),
        ({"env": {"id": "MountainCar-v0", "goal_velocty": 0.1}}, "Did you mean 'goal_velocity'?"),
        ({"env": {"id": "TextRL/Copy-v0", "difficlty": "tiny"}}, "Did you mean 'difficulty'?"),
        ({"env": {"id": "MountainCarContinuous-v0"}}, "Discrete"),
        ({"total_timesteps": 5}, "either total_timesteps or episodes"),
    ],
)
def test_wrong_sections_are_refused_in_a_sentence(
    change: dict[str, Any], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, {**CONFIG, **change}, "--name", "one") == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "runs" / "one").exists()


def test_the_configs_of_the_page_run(tmp_path: Path) -> None:
    blocks = [
        yaml.safe_load(block)
        for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
        if "learner:" in block
    ]
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        assert run(tmp_path, {**block, "episodes": 1}, "--name", str(number)) == 0


def test_the_python_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    exec(compile(code, str(PAGE), "exec"), {})
    assert capsys.readouterr().out.startswith("(")
