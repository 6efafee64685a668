"""`textrl bench classic-control`: the numbers by hand, the trials by seed, the command from end to end."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from bench_kit import timeless

from textrl.bench import classic_grid, drawing, measures, tables, tamer_arms, trial
from textrl.bench.classic_control import reached, table
from textrl.bench.jobs import Job
from textrl.bench.page import page
from textrl.cli import main
from textrl.registry import get_registry

SMALL = {"features": {"per_dimension": 6}, "epsilon": 0.1}


def spec(learner: str, **more: Any) -> dict[str, Any]:
    """A trial that takes a moment."""
    return {
        "learner": learner, "env": {"id": "MountainCar-v0", "max_episode_steps": 40}, "seed": 0,
        "evaluation": 2, "reach": -110.0, **more,
    }  # fmt: skip


def run(given: Mapping[str, Any]) -> dict[str, Any]:
    return trial.run_trial(given, {}, lambda share: None)


# Numbers -----------------------------------------------------------------------------------------------


def test_a_summary_by_hand() -> None:
    summary = measures.summarise([1.0, 2.0, 3.0])
    assert summary.mean == 2.0
    assert summary.sem == pytest.approx(1 / math.sqrt(3))  # standard deviation 1, three seeds
    # Of two seeds a resample has the mean 0, .5 or 1 with probability 1/4, 1/2, 1/4.
    two = measures.summarise([0.0, 1.0])
    assert (two.lo, two.hi) == (0.0, 1.0)
    assert two.sem == pytest.approx(0.5)
    one = measures.summarise([5.0])
    assert (one.mean, one.sem, one.lo, one.hi) == (5.0, None, None, None)


def test_steps_to_reach_by_hand() -> None:
    returns = [-200.0] * 100 + [-100.0] * 100
    ends = [1000 * (i + 1) for i in range(200)]
    # 90 of the last 100 are -100 at the 190th episode: (10 x -200 + 90 x -100) / 100 = -110.
    assert measures.steps_to_reach(ends, returns, -110.0) == 190_000
    assert measures.steps_to_reach(ends, returns, -99.0) is None
    assert measures.steps_to_reach(ends[:99], [0.0] * 99, -110.0) is None
    assert measures.steps_to_reach(ends[:100], [0.0] * 100, -110.0) == 100_000


def test_a_thinned_curve_keeps_the_mean_and_the_last_step() -> None:
    assert measures.thinned([3, 5, 9], [1.0, 2.0, 6.0]) == [[3, 1.0], [5, 2.0], [9, 6.0]]
    assert measures.thinned([3, 5, 9, 10], [1.0, 3.0, 6.0, 8.0], points=2) == [[5, 2.0], [10, 7.0]]
    assert measures.thinned([], []) == []


def test_a_band_by_hand() -> None:
    x, mean, low, high = measures.band([[[0, 0.0], [10, 10.0]], [[0, 2.0], [10, 12.0]]], points=3)
    assert x == [0.0, 10.0]
    assert mean == [1.0, 11.0]
    half = 1.96 * math.sqrt(2) / math.sqrt(2)  # standard deviation sqrt(2), two seeds
    assert low == pytest.approx([1.0 - half, 11.0 - half])
    assert high == pytest.approx([1.0 + half, 11.0 + half])
    assert measures.band([]) == ([], [], [], [])
    assert measures.band([[[0, 0.0]], [[5, 0.0], [9, 1.0]]]) == ([], [], [], [])


# Trials ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        spec("sarsa", episodes=3, settings=SMALL, maps=3),
        spec(
            "sarsa", episodes=3, settings=SMALL, maps=3,
            sources={"h": {"use": "tamer", "features": SMALL["features"]}},
            advice={"technique": "action_biasing", "source": "h", "beta": 10.0,
                    "eligibility": {"features": SMALL["features"]}},
            human={"source": "h", "feedback": {"use": "simulated"}, "session": {"schedule": [[0, 2]]}},
        ),
        spec(
            "sb3/dqn", total_timesteps=200, settings={"learning_starts": 20, "net_arch": [8]},
            env={"id": "CartPole-v1"},
        ),
    ],
    ids=["sarsa", "tamer+rl", "dqn"],
)  # fmt: skip
def test_a_trial_is_decided_by_its_seed(given: dict[str, Any]) -> None:
    first, second = run(given), run(given)
    assert timeless(first) == timeless(second)
    other = run(given | {"seed": 1})
    assert other["settings"]["seed"] == 1
    assert (other["curve"], other["maps"]) != (first["curve"], first["maps"])
    json.dumps(first, allow_nan=False)


def test_a_trial_says_what_its_episodes_were() -> None:
    found = run(spec("sarsa", episodes=3, settings=SMALL))
    assert found["episodes"] == 3
    assert found["steps"] == 120  # nobody reaches the goal in 40 steps
    assert found["curve"] == [[40, -40.0], [80, -40.0], [120, -40.0]]
    assert (found["mean"], found["last"], found["final"], found["reached"]) == (-40.0, -40.0, -40.0, None)
    versions = found["machine"]["versions"]
    assert versions["gymnasium"] == gymnasium.__version__
    assert versions["stable-baselines3"] == metadata.version("stable-baselines3")
    assert versions["sb3-contrib"] == metadata.version("sb3-contrib")  # its learners' figures depend on it
    assert found["settings"]["features"]["per_dimension"] == 6


def test_episodes_of_several_copies_are_put_in_order() -> None:
    given = {"learner": "sb3/a2c", "env": {"id": "CartPole-v1"}, "seed": 0, "evaluation": 1,
             "total_timesteps": 400, "settings": {"n_envs": 4, "tuned": False}}  # fmt: skip
    from textrl.registry import get_registry

    learner, _ = trial._build(given, get_registry())
    learner.learn(400)
    ends, returns = trial.episodes_of(learner)
    assert ends == sorted(ends)
    assert len(ends) == len(returns) >= 4
    assert all(end % 4 == 0 and end <= learner.num_timesteps for end in ends)
    # Cart Pole pays 1 a step: what the episodes took is what they earned.
    assert sum(returns) <= learner.num_timesteps


def test_evaluation_is_the_same_as_playing_one_episode_after_the_other() -> None:
    given = spec("sarsa", episodes=2, settings=SMALL)
    from textrl.registry import get_registry

    learner, _ = trial._build(given, get_registry())
    learner.learn(episodes=2)
    env = gymnasium.make("CartPole-v1")
    pole, _ = trial._build(
        {"learner": "sb3/a2c", "env": {"id": "CartPole-v1"}, "seed": 0,
         "settings": {"normalize": True, "n_envs": 2}}, get_registry(),
    )  # fmt: skip
    pole.learn(64)
    one_by_one = []
    for number in range(3):
        seen, _ = env.reset(seed=trial.EVALUATION_SEED + number)
        total, over = 0.0, False
        while not over:
            action, _ = pole.predict(pole.get_vec_normalize_env().normalize_obs(seen), deterministic=True)
            seen, reward, terminated, truncated, _ = env.step(int(action))
            total, over = total + float(reward), terminated or truncated
        one_by_one.append(total)
    assert trial.evaluate(pole, {"id": "CartPole-v1"}, 3) == one_by_one
    assert trial.evaluate(learner, given["env"], 2) == [-40.0, -40.0]


def test_learner_and_trainer_have_different_streams() -> None:
    given = spec(
        "tamer", seed=3, episodes=1, sources={"h": {"use": "tamer"}},
        human={"source": "h", "feedback": {"use": "simulated"}},
    )  # fmt: skip
    from textrl.registry import get_registry

    learner, beside = trial._build(given, get_registry())
    assert beside.human is not None
    assert learner.settings.seed == 3
    trainer = beside.human.feedback
    assert trainer.trainer.seed == 3
    drawn = {tuple(rng.random(3)) for rng in (*learner.generators().values(), trainer._rng, trainer._delays)}
    assert len(drawn) == 5


def test_results_of_another_revision_are_not_taken_for_these(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = classic_grid.grid(quick=True)[0]
    (arm, *_) = tamer_arms.simultaneous(quick=True)

    def keys() -> list[str]:
        specs = (cell.spec(0, evaluation=1), arm.spec(0))
        return [Job("one", trial.TARGET, given).key for given in specs]

    before = keys()
    assert keys() == before
    monkeypatch.setattr(trial, "REVISION", trial.REVISION + 1)
    assert not set(keys()) & set(before)


# The grid ----------------------------------------------------------------------------------------------


def test_every_learner_is_on_every_environment_or_it_is_said_why_not() -> None:
    cells = {(cell.row, cell.env) for cell in classic_grid.grid(quick=False)}
    assert len(cells) == len(classic_grid.grid(quick=False))
    everything = {(row, env) for row in classic_grid.ROWS for env in classic_grid.ENVS}
    assert cells | set(classic_grid.SKIPPED) == everything
    assert not cells & set(classic_grid.SKIPPED)
    assert set(classic_grid.PUBLISHED) <= cells
    # No learner of control is forgotten.
    run = {cell.learner for cell in classic_grid.grid(quick=False)} | {row for row, _ in classic_grid.SKIPPED}
    on_text = {"ppo_ptx", "rloo", "grpo"}
    assert set(get_registry().specs("learner")) - on_text == run & set(get_registry().specs("learner"))


def test_budgets_are_the_published_ones_and_quick_ones_small() -> None:
    full = {(cell.row, cell.env): cell for cell in classic_grid.grid(quick=False)}
    assert full["sb3/dqn", "MountainCar-v0"].timesteps == 120_000
    assert full["sb3/ppo", "MountainCar-v0"].timesteps == 1_000_000
    assert full["sarsa/rbf-optimistic", "MountainCar-v0"].episodes == 500
    assert full["sarsa/rbf-pessimistic", "CartPole-v1"].episodes == 150
    assert full["sarsa/rbf-pessimistic", "CartPole-v1"].seeds == 60
    quick = classic_grid.grid(quick=True)
    for cell in quick:
        reaches = cell.env == "MountainCar-v0" and cell.row.startswith("sarsa/")
        assert (cell.timesteps or 0) <= 2048
        assert (cell.episodes or 0) <= (300 if reaches else 12)
    assert sum(cell.cost() for cell in quick) < 90  # two seeds on two cores: as many seconds


def test_a_registered_name_selects_all_its_rows() -> None:
    cells = classic_grid.grid(quick=False)
    chosen = classic_grid.select(cells, ["sarsa"], ["MountainCar-v0"])
    assert [cell.row for cell in chosen] == [
        "sarsa/rbf-optimistic", "sarsa/rbf-pessimistic", "sarsa/tiles", "tamer+rl",
    ]  # fmt: skip
    assert [cell.row for cell in classic_grid.select(cells, ["tamer"], [])] == ["tamer", "tamer"]


# The command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["--learners", "sb3/dpn"], r"no learner 'sb3/dpn' in this benchmark. Did you mean 'sb3/dqn'?"),
        (["--learners", "sarsa", "ppo_ptx"], "no learner 'ppo_ptx' in this benchmark."),
        (["--envs", "MountainCar-v1"], "no environment 'MountainCar-v1' in this benchmark. Did you mean"),
        (["--learners", "tamer", "--envs", "Acrobot-v1"], "Nothing is left to run: tamer on Acrobot-v1"),
        (["--seeds", "0"], "--seeds is 0; it must be at least 1."),
        (["--jobs", "-1"], "--jobs is -1; it must be at least 1."),
        (["--only", "sequential"], "--only does nothing in 'textrl bench classic-control'"),
    ],
)  # fmt: skip
def test_mistakes_get_a_sentence(
    line: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "classic-control", "--out", str(tmp_path / "b"), *line]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_options_of_others_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "startup", "--quick"]) == 2
    assert "--quick does nothing in 'textrl bench startup'" in capsys.readouterr().err
    assert main(["bench", "clasic-control"]) == 2
    assert "classic-control" in capsys.readouterr().err


def test_quick_runs_end_to_end_and_its_tables_hold_what_the_jobs_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classic_grid, "QUICK_EPISODES", 2)
    monkeypatch.setattr(classic_grid, "QUICK_STEPS", 500)
    line = ["bench", "classic-control", "--quick", "--envs", "CartPole-v1", "--jobs", "1"]
    line += ["--learners", "sarsa/tiles", "tamer+rl", "sb3/a2c", "--out", str(tmp_path)]
    assert main([*line, "--seeds", "1"]) == 0
    assert capsys.readouterr().out.count("  1  ") >= 3  # a table of one seed is a table
    first = {file: file.stat().st_mtime_ns for file in (tmp_path / "jobs").glob("*.json")}
    assert len(first) == 3
    assert main([*line, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {file: file.stat().st_mtime_ns for file in first} == first  # more seeds begin where fewer ended
    assert data == json.loads((tmp_path / "results.json").read_text())
    files = sorted((tmp_path / "jobs").glob("*.json"))
    assert len(files) == 6
    before = {file: file.stat().st_mtime_ns for file in files}
    assert main(line) == 0
    shown = capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in files} == before  # nothing was run again
    assert shown == (tmp_path / "tables.txt").read_text()
    assert "QUICK: budgets are small" in shown
    for cell in data["cells"]:
        values = [
            json.loads(file.read_text())["result"] for file in files if file.name.startswith(
                cell["row"].replace("/", "_") + "_CartPole")
        ]  # fmt: skip
        assert len(values) == cell["finished"] == 2
        for key in ("final", "mean", "last"):
            assert cell[key]["mean"] == pytest.approx(np.mean([value[key] for value in values]))
            assert f"{cell[key]['mean']:,.1f}" in shown
        assert cell["settings"]["seed"] == 0
    html = (tmp_path / "report.html").read_text()
    assert "<svg" in html
    assert "<script" not in html
    assert (tmp_path / "figures" / "curves-CartPole-v1.svg").read_text().startswith("<svg")
    assert "| sb3/a2c |" in (tmp_path / "tables.md").read_text()


def test_a_failing_job_is_reported_and_the_rest_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(classic_grid, "QUICK_EPISODES", 1)
    monkeypatch.setattr(classic_grid, "QUICK_REACHING", 1)
    monkeypatch.setattr(classic_grid.papers, "MOUNTAIN_CAR_TILES", {"alpha": -1.0})
    line = ["bench", "classic-control", "--quick", "--seeds", "1", "--jobs", "1", "--out", str(tmp_path)]
    line += ["--envs", "MountainCar-v0", "--learners", "sarsa/tiles", "sarsa/rbf-optimistic"]
    assert main(line) == 1
    said = capsys.readouterr()
    assert "settings: 'alpha': alpha is -1.0; it must be above 0" in said.err
    assert "0/1" in said.out
    assert "-200.0" in said.out


# Tables, pictures, pages ---------------------------------------------------------------------------------


def _rows(**changes: Any) -> list[dict[str, Any]]:
    def over(values: list[float]) -> dict[str, Any]:
        return asdict(measures.summarise(values))

    usual = {"learner": "sarsa", "training": "500 episodes", "seeds": 2, "finished": 2, "reach": -110.0,
             "reached": over([50_000.0, 60_000.0]), "reached_by": 2, "steps_per_s": over([9e3, 1e4]),
             "final": over([-100.0, -102.0]), "published": []}  # fmt: skip
    car = {"row": "sarsa/rbf-optimistic", "env": "MountainCar-v0", "mean": over([-112.0, -113.0]),
           "last": over([-101.0, -102.0])}  # fmt: skip
    pole = {"row": "sarsa/rbf-pessimistic", "env": "CartPole-v1", "mean": over([300.0, 310.0]),
            "last": over([350.0, 500.0])}  # fmt: skip
    return [usual | car | changes, usual | pole]


def test_figures_to_reach_are_held_against_the_rows() -> None:
    assert [check.holds for check in reached(_rows())] == [True, True, True]
    worse = _rows(mean={**_rows()[0]["mean"], "mean": -115.0}, last={**_rows()[0]["last"], "mean": -105.0})
    assert [check.holds for check in reached(worse)] == [False, False, True]
    assert len(reached(_rows(finished=1))) == 1  # an unfinished cell proves nothing
    apart = _rows()
    apart[1]["last"] = {**apart[1]["last"], "lo": 450.0}
    assert [check.holds for check in reached(apart)] == [True, True, False]


def test_a_table_says_how_many_reached_the_level() -> None:
    same = {"source": "measured with NumPy", "note": "30 seeds"}
    mean = {"measure": "mean", "value": -112.3, "sem": 0.3, **same}
    last = {"measure": "last", "value": -101.4, "sem": None, **same}
    row = _rows(reached_by=1, published=[mean, last])[0]
    text = tables.plain(table("MountainCar-v0", [row], []))
    assert "55,000 [50,000, 60,000] (1 of 2)" in text
    assert "-112.5 [-113.0, -112.0]" in text
    assert "mean -112.3 +- 0.3, last 50 -101.4 (NumPy; 30 seeds)" in text
    nobody = {**row, "reached": None, "reached_by": 0}
    assert "never (0 of 2)" in tables.plain(table("MountainCar-v0", [{**nobody, "steps": None}], []))
    steps = asdict(measures.summarise([2000.0, 2096.0]))
    assert "not in 2,048 (0 of 2)" in tables.plain(table("MountainCar-v0", [{**nobody, "steps": steps}], []))


def test_text_is_escaped_everywhere() -> None:
    evil = '<script>"|*_x_</script>'
    shown = tables.Table(evil, ("a", evil), ((evil, evil),), (evil,))
    picture = drawing.chart(
        evil, [drawing.Curve(evil, [1, 2], [0.0, 1.0])], x_label=evil, y_label=evil
    ) + drawing.maps(
        evil,
        [drawing.Map(evil, [[0, 1], [1, 0]], (0, 1), (0, 1), (evil, evil))],
        x_label=evil,
        y_label=evil,
    )
    html = page(evil, evil, [(evil, [shown], [picture])])
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<script" not in tables.markdown(shown)
    assert "\\|" in tables.markdown(shown)


def test_pictures_of_nothing_are_nothing() -> None:
    assert drawing.chart("t", [drawing.Curve("a", [], [])], x_label="x", y_label="y") == ""
    assert drawing.maps("t", [], x_label="x", y_label="y") == ""
    flat = drawing.maps("t", [drawing.Map("m", [[1.0, 1.0]], (0, 1), (0, 1))], x_label="x", y_label="y")
    assert flat.startswith("<svg")
