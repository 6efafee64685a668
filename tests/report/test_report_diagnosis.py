from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import run_folder

from textrl.report.diagnosis import diagnose
from textrl.report.outcome_rules import RUN_RULES
from textrl.report.reading import RunData, Series, Stage, read_run
from textrl.report.training_rules import STAGE_RULES
from textrl.report.verdicts import Finding

STEPS = tuple(float(step) for step in range(1, 41))


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    return read_run(run_folder.write_run(tmp_path_factory.mktemp("healthy")))


def finding(run: RunData, title: str) -> Finding:
    (found,) = [each for each in diagnose(run) if each.title == title]
    return found


def with_metrics(run: RunData, **curves: Callable[[float], float]) -> RunData:
    """Replace metrics of the PPO stage by curves over 0..1; ``__`` stands for a slash."""
    ppo = next(stage for stage in run.stages if stage.name == "ppo")
    series = dict(ppo.series)
    for name, curve in curves.items():
        values = tuple(curve(i / (len(STEPS) - 1)) for i in range(len(STEPS)))
        series[name.replace("__", "/")] = Series(STEPS, values)
    changed = replace(ppo, series=series)
    return replace(run, stages=tuple(changed if stage is ppo else stage for stage in run.stages))


def with_summary(run: RunData, change: Callable[[dict[str, Any]], object]) -> RunData:
    summary: dict[str, Any] = run_folder.summary()
    change(summary)
    return replace(run, summary=summary)


def test_a_healthy_run_passes_every_rule_it_can_read(healthy: RunData) -> None:
    findings = diagnose(healthy)
    assert [each for each in findings if each.level != "quiet"] == []
    known = {title for title, _, _ in RUN_RULES} | {title for title, _, _ in STAGE_RULES}
    # Everything but the rule on judges' curves, which this run does not log.
    assert known - {each.title for each in findings} == {"Judge turns down"}
    assert all(each.text.endswith(".") and each.threshold for each in findings)


RNG = random.Random(0)
NOISE = [RNG.gauss(0, 1) for _ in STEPS]


def noisy(t: float) -> float:
    return 0.3 + NOISE[round(t * (len(STEPS) - 1))]


TRAINING: list[tuple[str, str, dict[str, Callable[[float], float]], str]] = [
    ("Negative KL", "alarm", {"train__kl_ref": lambda t: -2 * t}, "the lowest mean of 5 steps is \u22121.90"),
    ("Flat reward", "notice", {"reward__rm": noisy}, "standard error"),
    (
        "Negative KL",
        "alarm",
        {"train__kl_ref": lambda t: -2 * t, "train__logprob_gap": lambda t: 0.4},
        "sampled from another distribution than it is scored under (log-probs differ by up to 0.400 nats)",
    ),
    (
        "Negative KL",
        "alarm",
        {"train__kl_ref": lambda t: -2 * t, "train__kl_offset": lambda t: -1.9},
        "the reference is stored in low precision, which alone gave \u22121.90 nats at step 0: set",
    ),
    (
        "Negative KL",
        "alarm",
        {"train__kl_ref": lambda t: -0.3, "train__kl_ref_k3": lambda t: 0.02},
        "the policy has hardly moved (k3, which is never negative, is 0.020)",
    ),
    ("Negative KL", "alarm", {"train__kl_ref": lambda t: -2 * t}, "likelier under the reference"),
    (
        "Flat reward",
        "notice",
        {"reward__rm": lambda t: 1.0, "reward__length": lambda t: 0.0},
        "every text gets the same reward (rm, length never changed)",
    ),
    (
        "Flat reward",
        "notice",
        {"reward__rm": noisy, "train__kl_back_off": lambda t: 1 - 0.9 * t},
        "kl_limit holds the policy back: raise it",
    ),
    (
        "Flat reward",
        "notice",
        {"reward__rm": noisy, "train__approx_kl": lambda t: 1e-8},
        "the policy hardly moves (1.0e\u22128 nats per token and update): raise learning_rate",
    ),
    ("Flat reward", "notice", {"reward__rm": noisy}, "not towards reward, so the signal is lost in noise"),
    (
        "Flat reward",
        "notice",
        {"reward__rm": noisy, "train__kl_ref": lambda t: 0.1},
        "lower the KL reward's weight",
    ),
    (
        "Entropy",
        "alarm",
        {"train__entropy": lambda t: 3 - 2.9 * t},
        "narrows to the few texts that the reward likes best (KL ",
    ),
    (
        "Entropy",
        "alarm",
        {"train__entropy": lambda t: 3 - 2.9 * t, "reward__rm": lambda t: -t},
        "narrows without gaining reward",
    ),
    ("Entropy", "notice", {"train__entropy": lambda t: 3 + 4 * t}, "dissolves into noise"),
    (
        "Response length",
        "alarm",
        {"rollout__ep_len_mean": lambda t: 20 + 40 * t},
        "the reward grows with length, so length is what is learnt",
    ),
    (
        "Response length",
        "alarm",
        {"rollout__ep_len_mean": lambda t: 20 + 40 * t, "rollout__eos_rate": lambda t: 0.6 - 0.5 * t},
        "it unlearns to stop (14\u202f% still end by themselves)",
    ),
    (
        "Response length",
        "alarm",
        {"rollout__ep_len_mean": lambda t: 20 - 15 * t},
        "ending early is the cheapest",
    ),
    (
        "Ratio at the start",
        "notice",
        {"train__ratio_first_max": lambda t: 1 + 0.01 * t},
        "within 0.010 of 1; something random",
    ),
    (
        "KL before training",
        "notice",
        {"train__kl_offset": lambda t: 0.4},
        "before any step the KL was 0.400 nats per sequence; set reference_precision",
    ),
    ("Entropy", "alarm", {"train__entropy": lambda t: 3 - 2.9 * t}, "entropy went from"),
    ("Entropy", "notice", {"train__entropy": lambda t: 3 - 1.9 * t}, "entropy went from"),
    ("Entropy", "notice", {"train__entropy": lambda t: 3 + 4 * t}, "entropy went from"),
    ("Response length", "alarm", {"rollout__ep_len_mean": lambda t: 20 + 40 * t}, "tokens; 6"),
    ("Response length", "alarm", {"rollout__ep_len_mean": lambda t: 20 - 15 * t}, "tokens; 6"),
    ("Far from the reference", "notice", {"train__kl_ref": lambda t: 50 * t}, "45.5 nats per sequence"),
    ("Clipping", "notice", {"train__clip_fraction": lambda t: 0.6 * t}, "55\u202f% of tokens"),
    ("Critic", "notice", {"train__explained_variance": lambda t: -0.4}, "\u22120.400 at the end"),
    ("Pretraining loss", "notice", {"train__ptx_loss": lambda t: 3 + 0.3 * t}, "from 3.03 to 3.27"),
    ("Gradient spikes", "notice", {"train__grad_norm": lambda t: 50.0 if t == 1 else 1.0}, "1 of 40 steps"),
    ("Rollout against training", "notice", {"train__logprob_gap": lambda t: 0.3 * t}, "up to 0.300 nats"),
    ("Judge turns down", "alarm", {"eval__judge": lambda t: t if t < 0.5 else 1 - t}, "ended at 0 while"),
]


@pytest.mark.parametrize(("title", "level", "curves", "words"), TRAINING)
def test_training_rules(
    healthy: RunData, title: str, level: str, curves: dict[str, Callable[[float], float]], words: str
) -> None:
    found = finding(with_metrics(healthy, **curves), title)
    assert found.level == level
    assert words in found.text


def test_a_rising_reward_is_not_flat_though_the_penalty_eats_the_total(healthy: RunData) -> None:
    run = with_metrics(
        healthy, reward__rm=lambda t: 2 * t, reward__kl=lambda t: -2 * t, reward__length=lambda t: 0.0
    )
    found = finding(run, "Flat reward")
    assert found.level == "quiet"
    # Fifths of 40 steps: the means of 8 steps at either end of 0..2.
    assert "from 0.179 to 1.82" in found.text


def test_a_constant_reward_is_flat(healthy: RunData) -> None:
    run = with_metrics(
        healthy, reward__rm=lambda t: 1.0, reward__length=lambda t: 0.0, reward__kl=lambda t: -t
    )
    assert finding(run, "Flat reward").level == "notice"


def test_ten_steps_are_needed_to_call_a_reward_flat(healthy: RunData) -> None:
    short = Series((1.0, 2.0, 3.0), (1.0, 1.0, 1.0))
    run = replace(healthy, stages=(Stage("ppo", {"rollout/ep_rew_mean": short}, 3, None),))
    assert "Flat reward" not in {each.title for each in diagnose(run)}


def _pair(key: str, before: float, after: float) -> Callable[[dict[str, Any]], object]:
    return lambda summary: summary["text"].update({key: {"before": before, "after": after}})


def _judge(index: int, **figures: Any) -> Callable[[dict[str, Any]], object]:
    return lambda summary: summary["judges"][index].update(figures)


OUTCOME: list[tuple[str, str, Callable[[dict[str, Any]], object], str]] = [
    (
        "Reward up, judge down",
        "alarm",
        _judge(0, gain={"value": -0.4, "lo": -0.6, "hi": -0.2}),
        "MiniLM \u22120.40",
    ),
    ("Judges disagree", "alarm", _judge(1, gain=-0.2), "TF-IDF \u22120.20"),
    (
        "Beyond people's best",
        "notice",
        _judge(0, after=1.9),
        "MiniLM gives 1.90, people's best snippets 1.74",
    ),
    ("Repetition", "alarm", _pair("repetition", 0.03, 0.2), "from 0.030 to 0.200"),
    (
        "Stock phrases",
        "alarm",
        lambda s: s["phrases"].update(after=[{"phrase": "a must see", "share": 0.4}]),
        "\u201ca must see\u201d stands in 40\u202f% of the texts",
    ),
    ("Variety", "alarm", _pair("distinct_2", 0.8, 0.5), "from 0.800 to 0.500"),
    ("Length on held-out prompts", "alarm", _pair("length_tokens", 20, 40), "from 20.0 to 40.0 tokens"),
    ("Length on held-out prompts", "alarm", _pair("length_tokens", 20, 8), "from 20.0 to 8.00 tokens"),
    (
        "Ordinary text",
        "alarm",
        lambda s: s["headline"].update(perplexity_change_percent=70),
        "changed by +70.0\u202f%",
    ),
    (
        "No clear gain",
        "notice",
        lambda s: s["headline"].update(judge_gain={"value": 0.1, "lo": -0.1, "hi": 0.3}),
        "+0.10 (\u22120.10 to +0.30)",
    ),
    ("Reward model", "alarm", lambda s: s["reward_model"].update(pair_accuracy=0.51), "orders 51\u202f%"),
    (
        "Reward model",
        "notice",
        lambda s: (s["reward_model"].update(pair_accuracy=0.5), s.update(order_ceiling=0.5)),
        "no order has more than 50\u202f%",
    ),
    (
        "Reward model",
        "alarm",
        lambda s: (s["reward_model"].update(pair_accuracy=0.5), s.update(order_ceiling=0.7)),
        "no order has more than 70\u202f%",
    ),
    ("Preferences", "notice", lambda s: s.update(data_notes=["2 circles", "1 tie"]), "2 circles; 1 tie."),
]


@pytest.mark.parametrize(("title", "level", "change", "words"), OUTCOME)
def test_outcome_rules(
    healthy: RunData, title: str, level: str, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    found = finding(with_summary(healthy, change), title)
    assert found.level == level
    assert words in found.text


def test_reward_model_is_not_needed_to_see_a_gamed_reward(healthy: RunData) -> None:
    def change(summary: dict[str, Any]) -> None:
        del summary["reward_model"]
        summary["judges"][0]["gain"] = -0.4

    assert finding(with_summary(healthy, change), "Reward up, judge down").level == "alarm"


def test_overfitting(healthy: RunData) -> None:
    stage = Stage("sft", {"eval/loss": Series((1.0, 2.0, 3.0), (3.0, 2.0, 2.5))}, 3, None)
    found = finding(replace(healthy, stages=(stage,)), "Overfitting")
    assert (found.level, found.text) == ("notice", "sft: lowest validation loss 2.00, last 2.50.")


@pytest.mark.parametrize(("key", "level"), [("train/policy_loss", "alarm"), ("eval/accuracy", "notice")])
def test_broken_numbers(healthy: RunData, key: str, level: str) -> None:
    stage = Stage("ppo", {key: Series((1.0,), (1.0,), nonfinite=2)}, 1, None)
    found = finding(replace(healthy, stages=(stage,)), "Broken numbers")
    assert (found.level, found.text) == (level, f"NaN or infinite values in ppo {key}.")


def test_several_rl_stages_are_named(tmp_path: Path) -> None:
    rows = run_folder.ppo_rows(random.Random(0), 20, "ppo_seed0") + run_folder.ppo_rows(
        random.Random(1), 20, "ppo_seed1"
    )
    run = read_run(run_folder.write_run(tmp_path, rows=rows))
    texts = [each.text for each in diagnose(run) if each.title == "Critic"]
    assert [text.split(":")[0] for text in texts] == ["ppo seed0", "ppo seed1"]


def test_alarms_come_first(healthy: RunData) -> None:
    run = with_metrics(healthy, train__kl_ref=lambda t: -2 * t, train__clip_fraction=lambda t: 0.9)
    levels = [each.level for each in diagnose(run)]
    assert levels[:2] == ["alarm", "notice"]
    assert set(levels[2:]) == {"quiet"}
