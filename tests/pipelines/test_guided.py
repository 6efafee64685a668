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
BOUNDS = {"per_dimension": 4, "low": [-2.4, -6.0, -0.2, -6.0], "high": [2.4, 6.0, 0.2, 6.0]}
PLAIN: dict[str, Any] = {"sources": {}, "advice": None, "human": None}
POLE: dict[str, Any] = {
    "learner": "tamer", "settings": {}, "advice": None, "env": {"id": "CartPole-v1"},
    "sources": {"h": {"use": "tamer", "features": BOUNDS}},
}  # fmt: skip
DQN: dict[str, Any] = {"learner": "sb3/dqn", "settings": {}, "episodes": None, "total_timesteps": 10}
TEXT: dict[str, Any] = {
    "learner": "ppo_ptx", "settings": {"policy": "tiny"}, "env": {"id": "TextRL/Copy-v0"},
}  # fmt: skip


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


def test_a_log_of_another_task_or_of_other_steps_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, {**CONFIG, "episodes": 1}, "--name", "first") == 0
    log = tmp_path / "runs" / "first" / "session.jsonl"
    human = {**CONFIG["human"], "feedback": {"use": "replay", "path": str(log)}}
    assert run(tmp_path, {**CONFIG, **POLE, "human": human}, "--name", "pole") == 2
    assert "which is none of this environment's" in capsys.readouterr().err
    lines = log.read_text().splitlines()
    elsewhere = tmp_path / "maze.jsonl"  # two numbers as well, but no position and velocity of a car
    elsewhere.write_text(
        "\n".join(line.replace('"observation": [-0.', '"observation": [4.') for line in lines)
    )
    maze = {**CONFIG["human"], "feedback": {"use": "replay", "path": str(elsewhere)}}
    assert run(tmp_path, {**CONFIG, "human": maze}, "--name", "maze") == 2
    assert "which is none of this environment's" in capsys.readouterr().err
    assert not any((tmp_path / "runs" / name).exists() for name in ("pole", "maze"))
    seeded = {**CONFIG, "human": human, "settings": {**CONFIG["settings"], "seed": 5}}
    assert run(tmp_path, seeded, "--name", "seed") == 2
    assert "replay it with the environment, learner, seed and settings" in capsys.readouterr().err


def test_what_was_taught_is_a_file_that_another_config_reads(tmp_path: Path) -> None:
    teaching = {**CONFIG, "learner": "tamer", "advice": None, "settings": {}}
    assert run(tmp_path, teaching, "--name", "teach") == 0
    weights = tmp_path / "runs" / "teach" / "models" / "h.json"
    taught = json.loads(weights.read_text())
    assert len(taught) == 3 * (8 * 8 + 1)
    assert any(taught)
    source = {**CONFIG["sources"]["h"], "weights": str(weights)}
    advice = {"technique": "action_biasing", "source": "h", "beta": 100, "anneal": 0.98}
    advised = {**CONFIG, "sources": {"h": source}, "advice": advice, "human": None}
    assert run(tmp_path, advised, "--name", "advised") == 0


def test_the_folder_says_what_was_run_and_how_it_ended(tmp_path: Path) -> None:
    assert run(tmp_path, CONFIG, "--name", "one") == 0
    folder = tmp_path / "runs" / "one"
    summary = json.loads((folder / "summary.json").read_text())
    returns = sum(row["rollout/ep_rew"] for row in rows(folder))
    assert summary["timesteps"] == -returns  # every step costs 1
    assert summary["last"]["rollout/ep_rew"] == rows(folder)[-1]["rollout/ep_rew"]
    # The config of the folder is resolved, and is a config itself.
    resolved = yaml.safe_load((folder / "config.yaml").read_text())
    assert (resolved["settings"]["alpha"], resolved["settings"]["initial_weight"]) == (0.15, -10.0)
    assert run(tmp_path, resolved, "--name", "two") == 0
    assert [row["rollout/ep_rew"] for row in rows(folder)] == [
        row["rollout/ep_rew"] for row in rows(tmp_path / "runs" / "two")
    ]
    dqn = {**PLAIN, **DQN, "env": {"id": "CartPole-v1"}, "total_timesteps": 40}
    assert run(tmp_path, {key: value for key, value in dqn.items() if value}, "--name", "dqn") == 0
    resolved = yaml.safe_load((tmp_path / "runs" / "dqn" / "config.yaml").read_text())
    assert resolved["settings"]["exploration_final_eps"] == 0.04  # the Zoo's, which the config left open
    assert run(tmp_path, resolved, "--name", "dqn2") == 0


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
        ({"human": {**CONFIG["human"], "feedback": {"use": "realtime"}}}, "textrl feedback control"),
        (POLE, "line 6: 'human.feedback.truth': The truth 'rule' is for Mountain Car"),
        ({"env": {"id": "CartPole-v1"}}, "need finite bounds"),
        ({"env": {"id": "MountainCarContinuous-v0"}, **PLAIN}, "one.yaml, line 2: The learner sarsa needs"),
        (
            {"env": {"id": "CartPole-v1"}, **PLAIN},
            "one.yaml, line 2: Features of kind rbf need finite bounds",
        ),
        ({"env": {"id": "MountainCarContinuous-v0"}, **PLAIN, **DQN}, "one.yaml, line"),
        ({**PLAIN, **DQN, "learner": "contrib/maskable_ppo"}, "action_masks"),
        ({**PLAIN, **DQN, "total_timesteps": None, "episodes": 3}, "give total_timesteps, not episodes"),
        (
            {**PLAIN, **TEXT, "total_timesteps": None, "episodes": 3},
            "'ppo_ptx' counts in steps; give total_timesteps, not episodes",
        ),
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
