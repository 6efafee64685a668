"""`textrl bench text-feedback`: agents of every kind really run, the same twice, and the command resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from textrl.bench import text_feedback, text_feedback_arms, text_feedback_language, text_feedback_sentiment
from textrl.bench.jobs import Job
from textrl.bench.running import Options
from textrl.bench.text_feedback_arms import PARTS, Arm, every_arm
from textrl.bench.text_feedback_trial import run_trial
from textrl.cli import main
from textrl.config import load_config

ROOT = Path(__file__).parents[2]
TINY: dict[str, Any] = {
    "world": {"words": 12, "horizon": 5, "prompts": 2, "beta": 1.0}, "iterations": 2, "episodes": 64,
}  # fmt: skip
ARMS = {arm.key: arm for arm in every_arm()}


def tiny(key: str, **changes: Any) -> dict[str, Any]:
    spec = ARMS[key].job(0, quick=True)
    small = {**spec["settings"], "episodes_per_iteration": 16, "micro_batch_size": 16, "epochs": 1}
    iterations = min(TINY["iterations"], spec["iterations"])
    found = {**spec, **TINY, "iterations": iterations, "settings": small, **changes}
    if "human" in found:
        session = {**found["human"]["session"], "max_presses": 25}
        found["human"] = {**found["human"], "session": session}
    return found


def run(spec: dict[str, Any]) -> dict[str, Any]:
    return run_trial(spec, {}, lambda share: None)


def test_names_are_unique_and_every_rival_is_there() -> None:
    arms = every_arm()
    assert len({arm.key for arm in arms}) == len(arms)
    assert {arm.part for arm in arms} == set(PARTS)
    assert all(arm.rival is None or arm.rival in ARMS for arm in arms)
    assert all(ARMS[arm.rival].presses == 0 for arm in arms if arm.rival)
    settings = [arm.job(0, quick=False)["settings"] for arm in arms]
    assert all(one == settings[0] for one in settings), "all agents learn with the same settings"


def test_ppo_alone_starts_at_the_prior_and_nobody_presses() -> None:
    found = run(tiny("techniques/plain"))
    first = found["curve"][0]
    assert first["kl"] == pytest.approx(0.0, abs=1e-6)
    assert first["closed"] == pytest.approx(0.0, abs=0.2)
    assert found["presses"] is None
    assert found["h"] is None
    assert [point["steps"] for point in found["curve"]] == [0.0, 80.0, 160.0]


@pytest.mark.parametrize(
    "key", ["techniques/sim-ab", "techniques/sim-cs", "techniques/seq-qp", "rewards/seq-rs-none"]
)
def test_agents_with_a_reader_run_and_stop_at_their_presses(key: str) -> None:
    found = run(tiny(key))
    assert found["presses"] == 25
    assert found["h"]["correlation"] != 0.0
    assert [point["presses"] for point in found["curve"]][-1] == 25.0
    before = ARMS[key].mode == "seq"
    assert found["curve"][0]["presses"] == (25.0 if before else 0.0)


def test_h_acts_before_anything_is_trained_and_only_with_advice() -> None:
    found = run(tiny("rewards/seq-ab-untrained"))
    (only,) = found["curve"]
    assert only["kl_policy"] == pytest.approx(only["kl"] / 5, rel=1e-4), "the policy is still the prior"
    assert only["kl"] > 0.01
    assert only["kl_without"] == pytest.approx(0.0, abs=1e-6)
    assert only["score"] != only["score_without"]


def test_a_trial_is_the_same_twice_and_another_with_another_seed() -> None:
    first, again, other = (run(tiny("techniques/sim-ab", seed=seed)) for seed in (0, 0, 1))
    assert first["curve"] == again["curve"]
    assert first["optimum"] == again["optimum"] != other["optimum"]


def test_an_adversary_teaches_the_opposite() -> None:
    kind, cruel = (
        run(tiny("readers/sim-ab-adversarial", human=_reader(preset))) for preset in ("oracle", "adversarial")
    )
    assert kind["h"]["good"] > kind["h"]["bad"]
    assert cruel["h"]["good"] < cruel["h"]["bad"]


def _reader(preset: str) -> dict[str, Any]:
    human = ARMS["readers/sim-ab-adversarial"].spec["human"]
    session = {**human["session"], "max_presses": 60}
    return {**human, "feedback": {"use": "simulated_text", "preset": preset}, "session": session}


def test_a_reward_model_pays_something_else_than_the_truth() -> None:
    found = run(tiny("rewards/model-plain", pairs=20))
    assert 0.0 < found["agreement"] < 0.99


def test_the_command_publishes_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def two() -> list[Arm]:
        return [_Tiny(**vars(ARMS[key])) for key in ("techniques/plain", "techniques/sim-ab")]

    monkeypatch.setattr(text_feedback, "every_arm", two)
    options = Options("text-feedback", seeds=1, quick=True, jobs=1, out=tmp_path)
    assert text_feedback.bench(options, ["techniques"]) == 0
    data = json.loads((tmp_path / "results.json").read_text())
    assert [one["finished"] for one in data["arms"]] == [1, 1]
    assert "action biasing" in (tmp_path / "tables.md").read_text()
    assert (tmp_path / "figures" / "text-feedback-simultaneous.svg").read_text().startswith("<svg")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "jobs").glob("*.json")}
    assert len(stamps) == 2
    assert text_feedback.bench(options, ["techniques"]) == 0
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "jobs").glob("*.json")}
    assert "QUICK" in capsys.readouterr().out


class _Tiny(Arm):
    def job(self, seed: int, quick: bool) -> dict[str, Any]:
        return tiny(self.key, seed=seed)


def test_an_unknown_part_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "text-feedback", "--only", "technique"]) == 2
    assert "Did you mean 'techniques'?" in capsys.readouterr().err


def test_the_sentiment_configs_are_the_arms_of_the_study() -> None:
    arms = {arm.name: arm for arm in text_feedback_sentiment.arms()}
    for stem, name in (("text_sentiment", "sim-ab"), ("text_sentiment_plain", "plain")):
        data = load_config(ROOT / "configs" / "tamer" / f"{stem}.yaml").data
        spec = json.loads(json.dumps(arms[name].job(0, quick=False).spec))
        for section in ("env", "settings", "sources", "rewards", "advice", "human"):
            assert data.get(section) == spec.get(section), f"{stem}: {section}"
        per_iteration = spec["settings"]["episodes_per_iteration"] * 16
        assert data["total_timesteps"] == spec["iterations"] * per_iteration


def test_a_language_model_is_taught_and_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    job: Job = next(arm for arm in text_feedback_sentiment.arms() if arm.name == "sim-ab").job(0, quick=True)
    assert job.target == text_feedback_language.TARGET
    found = text_feedback_language.run_language(job.spec, {}, lambda share: None)
    assert len(found["curve"]) == text_feedback_sentiment.QUICK_ITERATIONS
    assert found["presses"] > 0
    assert set(found["favourites"]["best"]) & {"good", "fine", "bad", "dull"}
    rows = text_feedback_sentiment.rows({"sim-ab": {0: found}, "plain": {0: found}}, 1)
    assert rows[1]["to_score"]["ratio"]["mean"] == 1.0
    assert torch.get_num_threads() == 1
    assert text_feedback_arms.PRESSES == text_feedback_sentiment.PRESSES == 300
