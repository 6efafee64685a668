"""`textrl bench tamer`: the arms are those of the configs, H models are checked, the command runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from textrl.bench import drawing, measures, tamer, tamer_arms, trial
from textrl.bench.running import Options
from textrl.bench.tamer_arms import Arm
from textrl.bench.tamer_checks import reached
from textrl.bench.tamer_pictures import _smoothed, best_actions
from textrl.cli import main
from textrl.config import load_config
from textrl.errors import UserError
from textrl.tamer import Tamer, TamerSettings

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "tamer"
#: Config -> part and name of its arm.
ARM_OF = {
    "h_model": ("h-models", "good"),
    "alone": ("sequential", "alone"),
    "action_biasing": ("sequential", "action_biasing-100"),
    "control_sharing": ("sequential", "control_sharing-1"),
    "q_augmentation": ("sequential", "q_augmentation-10"),
    "reward_shaping": ("sequential", "reward_shaping-10"),
    "simultaneous": ("simultaneous", "action_biasing-early"),
    "simultaneous_control_sharing": ("simultaneous", "control_sharing-early"),
    "simultaneous_after": ("simultaneous", "action_biasing-after"),
    "simultaneous_noisy": ("simultaneous", "control_sharing-noisy"),
    "simultaneous_late": ("simultaneous", "action_biasing-late"),
    "simultaneous_adversarial": ("simultaneous", "action_biasing-adversarial"),
    "cart_pole": ("cart-pole", "action_biasing-early"),
}


def all_arms(models: tuple[str, ...] = ("good",), *, quick: bool = False) -> list[Arm]:
    return [
        *tamer_arms.h_models(quick),
        *tamer_arms.sequential(models, quick),
        *tamer_arms.simultaneous(quick),
        *tamer_arms.cart_pole(quick),
    ]


def run(spec: dict[str, Any], local: dict[str, Any] | None = None) -> dict[str, Any]:
    return trial.run_trial(spec, local or {}, lambda share: None)


def test_every_config_of_the_study_is_one_of_its_arms() -> None:
    # Those on text belong to `textrl bench text-feedback`.
    stems = {path.stem for path in CONFIGS.glob("*.yaml") if not path.stem.startswith("text_")}
    assert stems == set(ARM_OF)
    arms = {(arm.part, arm.name): arm for arm in all_arms()}
    for stem, key in ARM_OF.items():
        arm, data = arms[key], load_config(CONFIGS / f"{stem}.yaml").data
        assert (data["learner"], data["env"], data["episodes"]) == (
            arm.learner,
            {"id": arm.env},
            arm.episodes,
        )
        sections = json.loads(json.dumps(arm.sections))
        if arm.files:
            weights = data["sources"]["h"].pop("weights")
            assert (ROOT / weights).is_file()
        if stem == "simultaneous":  # says the same in other words
            data["human"]["feedback"] = {"use": "simulated", "preset": "reference"}
        for section in ("settings", "sources", "advice", "human"):
            assert data.get(section) == sections.get(section), f"{stem}: {section}"


def test_the_weights_of_the_configs_are_an_h_that_solves_the_task() -> None:
    env = gymnasium.make("MountainCar-v0")
    h = Tamer.from_weights(CONFIGS / "h_good.json", TamerSettings(), env.observation_space, 3)
    rng, returns = np.random.default_rng(0), []
    for seed in range(10):
        seen, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            seen, reward, terminated, truncated, _ = env.step(h.greedy(seen, rng))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    assert np.mean(returns) > -106


def test_names_are_unique_and_the_study_is_complete() -> None:
    arms = all_arms(("good", "mediocre"))
    assert len({arm.key for arm in arms}) == len(arms)
    names = [arm.name for arm in arms if arm.part == "sequential" and arm.model == "good"]
    assert names == [
        "h_alone", "action_biasing-1", "action_biasing-10", "action_biasing-100", "control_sharing-0.1",
        "control_sharing-0.3", "control_sharing-1", "q_augmentation-1", "q_augmentation-10",
        "q_augmentation-100", "reward_shaping-1", "reward_shaping-10", "reward_shaping-100",
    ]  # fmt: skip
    assert {arm.env for arm in arms} == {
        "MountainCar-v0", "TextRL/MountainCarRLLibrary-v0", "TextRL/CartPoleRLLibrary-v0",
    }  # fmt: skip
    early = next(arm for arm in arms if arm.name == "action_biasing-early" and arm.part == "simultaneous")
    assert early.sections["human"]["session"]["schedule"] == [[0, 16]]
    assert early.sections["advice"]["beta"] == 100.0
    assert all(arm.episodes <= 8 for arm in all_arms(quick=True))


def _short(part: str, name: str, **changes: Any) -> dict[str, Any]:
    arm = next(arm for arm in all_arms() if (arm.part, arm.name) == (part, name))
    env = {"id": arm.env, "max_episode_steps": 40}
    return {**arm.spec(0), "env": env, "episodes": 3, "evaluation": 0, **changes}


def test_beta_is_annealed_and_logged_per_episode() -> None:
    weights = CONFIGS / "h_good.json"
    digest = trial.digest(weights)
    spec = _short("sequential", "action_biasing-100", files={"sources.h.weights": digest}, maps=3)
    found = run(spec, {"sources.h.weights": str(weights)})
    assert found["betas"] == pytest.approx([100.0, 98.0, 96.04])
    assert found["maps"]["x"] == pytest.approx([-1.2, 0.6])
    # The corner of the map is H of the corner of the state space.
    h = Tamer.from_weights(weights, TamerSettings(), gymnasium.make("MountainCar-v0").observation_space, 3)
    corner = np.array([0.6, -0.07])
    assert found["maps"]["h"][0][2] == pytest.approx(h.rate(corner), abs=1e-4)
    assert np.shape(found["maps"]["q"]) == (3, 3, 3)


def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    weights = tmp_path / "h.json"
    weights.write_text("[1]")
    spec = _short("sequential", "h_alone", files={"settings.weights": trial.digest(weights)}, maps=0)
    weights.write_text("[2]")
    with pytest.raises(UserError, match="has changed since the benchmark began"):
        run(spec, {"settings.weights": str(weights)})


def test_an_adversarial_trainer_teaches_the_opposite() -> None:
    def taught(name: str, seed: int) -> float:
        """By how much H prefers pushing the way the car rolls, over the states where it knows something."""
        changes = {"env": {"id": "MountainCar-v0"}, "maps": 41, "seed": seed, "episodes": 6}
        h = np.asarray(run(_short("simultaneous", name, **changes))["maps"]["h"])
        preferred = (h[..., 2] - h[..., 0]) * np.sign(np.arange(41) - 20)[:, None]  # rows: velocity
        known = np.abs(h).max(axis=-1) > 0.05
        assert known.sum() > 50
        return float(preferred[known].mean())

    def mean(name: str) -> float:
        # Of several: a car that is taught nonsense wanders, and one sum rounded otherwise sends it elsewhere.
        return float(np.mean([taught(name, seed) for seed in range(5)]))

    assert mean("action_biasing-early") > 0.2
    assert mean("action_biasing-adversarial") < -0.03


def test_people_s_figures_stand_beside_their_own_h_only() -> None:
    arm = next(arm for arm in all_arms(("H2",)) if arm.name == "action_biasing-100")
    assert list(tamer._row(arm, [], 0, {"H2": "H2"})["theirs"]) == ["H2"]
    assert list(tamer._row(arm, [], 0, {"H2": None})["theirs"]) == ["H1", "H2"]
    row = tamer._row(arm, [], 0, {"H2": None})
    assert tamer.table("sequential", [row]).rows[0][-1] == "H1 -107.5, H2 -106.4"
    assert "are not the H models of these rows" in tamer.table("sequential", [row]).notes[-1]


def _claimed(part: str, model: str | None = None, person: str | None = None, **means: float) -> Any:
    return [
        {"part": part, "name": name, "h_model": model, "h_person": person, "seeds": 2, "finished": 2,
         "mean": asdict(measures.summarise([mean, mean]))}
        for name, mean in means.items()
    ]  # fmt: skip


def test_claims_hold_or_do_not() -> None:
    order = {"action_biasing-100": -107.0, "control_sharing-1": -112.0, "q_augmentation-10": -120.0}
    good = _claimed("sequential", "H2", "H2", h_alone=-106.0, **order, **{"reward_shaping-10": -150.0})
    assert [check.holds for check in reached(good)] == [True, True, True]
    bad = _claimed("sequential", "H2", "H2", h_alone=-100.0, **order, **{"reward_shaping-10": -110.0})
    assert [check.holds for check in reached(bad)] == [False, True, False]
    ours = _claimed("sequential", "good", None, **order, **{"reward_shaping-10": -150.0})
    assert [check.claim for check in reached(ours)] == [
        "AB(100) >= CS(1) > QA(10) > RS(10) with H model 'good'"
    ]
    simultaneous = _claimed(
        "simultaneous",
        alone=-144.0,
        **{"action_biasing-early": -111.0, "action_biasing-after": -141.0, "control_sharing-noisy": -150.0},
    )
    assert [check.holds for check in reached(simultaneous)] == [True, True, True]
    good[0]["finished"] = 1
    assert len(reached(good)) == 2


def test_curves_are_smoothed_over_the_last_episodes() -> None:
    smoothed = _smoothed(np.arange(12.0)[None])
    assert smoothed[0, :3] == pytest.approx([0.0, 0.5, 1.0])
    assert smoothed[0, 11] == pytest.approx(np.arange(2.0, 12.0).mean())


def test_where_nothing_was_learnt_no_action_is_the_best() -> None:
    values = np.array([[0.0, 0.0, 1.0], [0.5, 0.5, 0.4], [0.0, 0.0, 0.0], [0.2, 0.1, 0.2 + 1e-9]])
    assert best_actions(values).tolist() == [2, 3, 3, 3]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("{}", "not a JSON list of numbers"),
        ("[1, 2, 3]", "are 3 numbers, but these features and actions need 4803"),
    ],
)
def test_h_models_that_are_none_are_refused(
    text: str | None, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "h.json"
    if text is not None:
        file.write_text(text)
    good = str(CONFIGS / "h_good.json")
    assert main(["bench", "tamer", "--out", str(tmp_path / "b"), "--h-models", good, str(file)]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_unknown_parts_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "tamer", "--out", str(tmp_path), "--only", "sequental"]) == 2
    assert "no part 'sequental' in this benchmark. Did you mean 'sequential'?" in capsys.readouterr().err
    good = str(CONFIGS / "h_good.json")
    assert main(["bench", "tamer", "--only", "h-models", "--h-models", good, good]) == 2
    assert "with --h-models no H is trained" in capsys.readouterr().err
    assert main(["bench", "tamer", "--out", str(tmp_path), "--learners", "sarsa"]) == 2
    assert "it belongs to 'textrl bench classic-control'" in capsys.readouterr().err


def test_two_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "H.json").write_text((CONFIGS / "h_good.json").read_text())
    models = tamer._given((tmp_path / "a" / "H.json", tmp_path / "b" / "H.json"))
    assert [model.name for model in models] == ["H", "H-2"]
    assert [model.person for model in models] == [None, None]


def test_quick_runs_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in tamer_arms.PARTS:
        monkeypatch.setitem(tamer_arms.QUICK_EPISODES, part, 1)
    monkeypatch.setattr(tamer_arms, "QUICK_GREEDY", 1)
    monkeypatch.setattr(tamer_arms, "MAP", 5)
    line = ["bench", "tamer", "--quick", "--seeds", "1", "--jobs", "1", "--out", str(tmp_path)]
    assert main([*line, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["failures"] == {}
    assert [row["part"] for row in data["arms"]].count("sequential") == 1 + 2 * 13
    assert all(row["finished"] == row["seeds"] == 1 for row in data["arms"])
    weights = json.loads((tmp_path / "h_models" / "good.json").read_text())
    assert len(weights) == 4803
    assert [model["person"] for model in data["h_models"]] == [None, None]
    jobs = {file: file.stat().st_mtime_ns for file in (tmp_path / "jobs").glob("*.json")}
    assert len(jobs) == len(data["arms"])
    assert main([*line, "--only", "sequential"]) == 0
    shown = capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "jobs").glob("*.json")} == jobs
    assert "QUICK: runs are short" in shown
    for row in data["arms"]:
        (file,) = [file for file in jobs if json.loads(file.read_text())["job"] == f"{_key(row)} seed 0"]
        assert row["mean"]["mean"] == json.loads(file.read_text())["result"]["mean"]
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    assert drawn >= {"h-models-h-good", "sequential-q", "sequential-curves-good", "simultaneous-beta",
                     "simultaneous-curves-delays", "cart-pole-curves"}  # fmt: skip
    assert "<script" not in (tmp_path / "report.html").read_text()


def _key(row: dict[str, Any]) -> str:
    return f"{row['part']}/{row['name']}" + (f"/{row['h_model']}" if row["h_model"] else "")


def test_the_out_folder_depends_on_what_is_run() -> None:
    assert Options("tamer").folder == Path("runs/bench-tamer")
    assert Options("tamer", quick=True).folder == Path("runs/bench-tamer-quick")
    assert (Options("tamer").count(20), Options("tamer", quick=True).count(20)) == (20, 2)
    assert Options("tamer", seeds=3, quick=True).count(20) == 3


@pytest.mark.parametrize(("length", "columns"), [(8, 3), (26, 3), (30, 2), (50, 1), (200, 1)])
def test_labels_of_a_legend_do_not_overlap(length: int, columns: int) -> None:
    assert drawing.legend_columns(["short", "x" * length]) == columns
