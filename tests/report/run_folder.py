"""Writes run folders as a real run leaves them: learning curves with noise, judges, samples, a frontier."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

#: Text that a language model can emit and a report must survive.
HOSTILE = (
    "<script>document.title='owned'</script>",
    "</bdi></style><img src=x onerror=alert(1)>",
    "left \u202egnirts desrever\u202c right",
    "nul \x00 bell \x07 escape \x1b[31m red",
    "w" * 900,
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd, \u0645\u0631\u062d\u0628\u0627",
    "z" + "\u0301\u0327\u0323" * 60 + "algo",
    "lone \ud800 surrogate & \"quotes\" 'single' &amp; &#60;b&#62;",
)

_PAIRS = (
    (
        "The director's second film is",
        "a bit of a mess, and the last act never quite knows where it is going.",
        "a warm, funny and beautifully acted piece of work that stays with you.",
        (-0.31, 2.12),
    ),
    (
        "What the script lacks in",
        "subtlety it also lacks in wit, and the jokes are as tired as the cast.",
        "polish it makes up for with heart, and the two leads are a delight.",
        (-0.92, 1.71),
    ),
    (
        "A thriller that",
        "takes an hour to begin and then ends before anything happens.",
        "grips from the first frame, smart and gorgeously shot.",
        (-0.64, 1.96),
    ),
)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def sft_rows(rng: random.Random, steps: int = 120) -> list[dict[str, Any]]:
    rows = []
    for step in range(1, steps + 1):
        row = {
            "stage": "sft",
            "step": step,
            "time_s": 20 + 0.6 * step,
            "train/loss": 2.9 + 1.1 * math.exp(-step / 25) + rng.gauss(0, 0.08),
            "train/grad_norm": 1.4 * math.exp(rng.gauss(0, 0.2)),
            "train/learning_rate": 1e-4 * (0.55 + 0.45 * math.cos(math.pi * step / steps)),
            "time/fps": rng.gauss(1900, 60),
        }
        if step % 20 == 0:
            row["eval/loss"] = 3.05 + 0.6 * math.exp(-step / 30)
        rows.append(row)
    return rows


def reward_model_rows(rng: random.Random, steps: int = 60) -> list[dict[str, Any]]:
    return [
        {
            "stage": "reward_model",
            "step": step,
            "time_s": 95 + step,
            "train/loss": 0.42 + 0.28 * math.exp(-step / 15) + rng.gauss(0, 0.02),
            **({"eval/accuracy": 0.8 - 0.2 * math.exp(-step / 15)} if step % 10 == 0 else {}),
            "train/accuracy": 0.83 - 0.32 * math.exp(-step / 15) + rng.gauss(0, 0.02),
            "train/grad_norm": 3 * math.exp(rng.gauss(0, 0.3)),
        }
        for step in range(1, steps + 1)
    ]


def ppo_rows(rng: random.Random, steps: int = 60, stage: str = "ppo") -> list[dict[str, Any]]:
    rows = []
    for step in range(1, steps + 1):
        rise = 1 - math.exp(-2.4 * step / steps)
        kl = 9.6 * (step / steps) ** 1.4
        parts = {
            "rm": -0.1 + 2.1 * rise + rng.gauss(0, 0.12),
            "kl": -0.04 * kl,
            "length": 0.05 * rng.random(),
        }
        total = sum(parts.values())
        rows.append(
            {
                "stage": stage,
                "step": step,
                "time_s": 165 + 4.1 * step,
                **{f"reward/{name}": value for name, value in parts.items()},
                "reward/total": total,
                "rollout/ep_rew_mean": total,
                "rollout/ep_len_mean": 24 + rng.gauss(0, 0.8),
                "rollout/eos_rate": 0.62 + rng.gauss(0, 0.04),
                "time/fps": rng.gauss(610, 14),
                "train/approx_kl": abs(rng.gauss(0.006, 0.002)),
                "train/kl_ref": kl + rng.gauss(0, 0.1),
                "train/kl_ref_k2": 1.1 * kl,
                "train/kl_ref_k3": 1.02 * kl,
                "train/clip_fraction": 0.05 + 0.06 * rise + rng.gauss(0, 0.01),
                "train/value_clip_fraction": 0.03 + abs(rng.gauss(0, 0.01)),
                "train/policy_loss": rng.gauss(-0.02, 0.006),
                "train/value_loss": 0.6 * math.exp(-step / 8) + 0.08 + abs(rng.gauss(0, 0.01)),
                "train/ptx_loss": 3.31 - 0.02 * rise + rng.gauss(0, 0.01),
                "train/explained_variance": 0.62 - 0.9 * math.exp(-step / 7) + rng.gauss(0, 0.03),
                "train/entropy": 2.9 - 0.6 * rise + rng.gauss(0, 0.03),
                "train/grad_norm": 1.1 * math.exp(rng.gauss(0, 0.25)),
                "train/value_grad_norm": 4.5 * math.exp(rng.gauss(0, 0.3)),
                "train/learning_rate": 2e-4,
                "train/logprob_gap": 2e-6 + 1e-6 * rng.random(),
                "train/logprob_gap_mean": 2e-7,
                "train/kl_offset": 0.0,
                "train/ratio_first_mean": 1.0,
                "train/ratio_first_min": 1 - 2e-7,
                "train/ratio_first_max": 1 + 2e-7,
                "train/ratio_first_std": 1e-7,
                "train/ratio_later_mean": 1 + rng.gauss(0, 0.002),
                "train/ratio_later_min": 0.7 - 0.1 * rng.random(),
                "train/ratio_later_max": 1.4 + 0.2 * rng.random(),
                "train/ratio_later_std": 0.06,
                "memory/rss_gb": 1.1,
                "memory/peak_rss_gb": 1.6,
                "time/rollout_tokens_per_s": rng.gauss(1400, 30),
                "time/update_tokens_per_s": rng.gauss(1100, 30),
            }
        )
    return rows


def frontier(rng: random.Random) -> list[dict[str, Any]]:
    points = []
    for arm, slope in (("with ptx", 0.0), ("without ptx", 1.0)):
        for seed in range(3):
            for step in range(10, 61, 10):
                kl = (9.6 + 3.5 * slope + rng.gauss(0, 0.4)) * (step / 60) ** 1.3
                gain = (0.56 + 0.06 * slope) * math.sqrt(kl) + rng.gauss(0, 0.03)
                points.append(
                    {
                        "arm": arm,
                        "seed": seed,
                        "step": step,
                        "kl": kl,
                        "gain": gain,
                        "gain_lo": gain - 0.13,
                        "gain_hi": gain + 0.13,
                        "ppl_change": 0.45 * kl + slope * 0.3 * kl**2 + rng.gauss(0, 0.4),
                        "win_rate": min(0.97, 0.5 + 0.11 * kl**0.55),
                    }
                )
    return points


def summary() -> dict[str, Any]:
    return {
        "title": "quickstart",
        "model": "smollm2-135m",
        "status": "finished",
        "names": {"before": "SFT", "after": "PPO-ptx"},
        "seed": 0,
        "command": "textrl run configs/quickstart.yaml --name quickstart",
        "data_notes": [],
        "headline": {
            "prompts": 240,
            "judge": "MiniLM",
            "judge_gain": {"value": 1.62, "lo": 1.48, "hi": 1.75},
            "win_rate": {"value": 0.842, "lo": 0.794, "hi": 0.883},
            "kl_per_sequence": {"value": 9.64, "lo": 9.12, "hi": 10.2},
            "perplexity_before": 21.42,
            "perplexity_after": 22.08,
            "perplexity_change_percent": {"value": 3.08, "lo": 2.61, "hi": 3.52},
            "perplexity_corpus": "NYT editorials",
        },
        "targets": {
            "judge_gain_min": 1.5,
            "win_rate_min": 0.8,
            "kl_max": 12,
            "perplexity_change_percent_max": 5,
        },
        "judges": [
            {
                "name": "MiniLM",
                "features": "ridge on frozen all-MiniLM-L6-v2 sentence features",
                "pair_accuracy": 0.831,
                "anchor_human_2_5": 1.74,
                "before": -0.02,
                "after": 1.60,
                "gain": {"value": 1.62, "lo": 1.48, "hi": 1.75},
                "win_rate": {"value": 0.842, "lo": 0.794, "hi": 0.883},
            },
            {
                "name": "TF-IDF",
                "features": "ridge on word and character n-grams",
                "pair_accuracy": 0.742,
                "anchor_human_2_5": 0.96,
                "before": 0.05,
                "after": 0.71,
                "gain": {"value": 0.66, "lo": 0.57, "hi": 0.75},
                "win_rate": {"value": 0.771, "lo": 0.717, "hi": 0.821},
            },
        ],
        "reward_model": {
            "before": 0.02,
            "after": 2.31,
            "gain": {"value": 2.29, "lo": 2.11, "hi": 2.46},
            "win_rate": {"value": 0.912, "lo": 0.871, "hi": 0.946},
            "pair_accuracy": 0.805,
        },
        "text": {
            "distinct_1": {"before": 0.402, "after": 0.351},
            "distinct_2": {"before": 0.861, "after": 0.774},
            "repetition": {"before": 0.031, "after": 0.044},
            "length_tokens": {"before": 23.8, "after": 24.6},
        },
        "phrases": {
            "before": [{"phrase": "of the film", "share": 0.062}, {"phrase": "one of the", "share": 0.051}],
            "after": [
                {"phrase": "one of the", "share": 0.113},
                {"phrase": "a beautifully acted", "share": 0.084},
            ],
        },
        "stages": [
            {"name": "sft", "seconds": 74.2},
            {"name": "reward_model", "seconds": 61.0},
            {"name": "ppo", "seconds": 252.3},
            {"name": "evaluate", "seconds": 58.9},
        ],
        "downloads_s": 31.5,
        "wall_s": 450.5,
        "peak_memory_gb": 2.9,
        "frontier": frontier(random.Random(1)),
    }


def samples(count: int = 240) -> list[dict[str, Any]]:
    rows = []
    for index in range(count):
        prompt, before, after, (low, high) = _PAIRS[index % len(_PAIRS)]
        rows.append(
            {"prompt": prompt, "before": before, "after": after, "judge_before": low, "judge_after": high}
        )
    return rows


def hostile_samples() -> list[dict[str, Any]]:
    return [
        {"prompt": text, "before": text, "after": text + " after", "judge_before": 0.1, "judge_after": 0.2}
        for text in HOSTILE
    ]


def write_run(folder: Path, *, rows: list[dict[str, Any]] | None = None, **changes: Any) -> Path:
    """Write a whole run; `changes` replace files by stem, and None leaves the file out."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    files: dict[str, Any] = {
        "summary": summary(),
        "samples": samples(),
        "stages": {"gather": {}, "sft": {}, "reward_model": {}, "ppo": {}, "evaluate": {}},
        "environment": {
            "date": "2026-11-21T10:46:12",
            "versions": {
                "python": "3.11.7",
                "textrl-mdp": "0.1.0",
                "torch": "2.13.0",
                "transformers": "5.23.0",
            },
            "cpu": "Some CPU at 2.5 GHz",
            "cores": 2,
            "gpus": [],
            "sessions": [
                {"started": "2026-11-21T10:46:12", "command": ["textrl", "run", "a b.yaml"], "resume": False}
            ],
            "threads": 2,
            "precision": "fp32",
        },
        "config": "pipeline: instructgpt\nmodel: smollm2-135m\nrewards:\n  rm: 1.0\n  kl: 0.04\n",
    }
    files.update(changes)
    metrics = sft_rows(rng) + reward_model_rows(rng) + ppo_rows(rng) if rows is None else rows
    if metrics:
        _write_rows(folder / "metrics.jsonl", metrics)
    for name in ("summary", "stages", "environment"):
        if files[name] is not None:
            _write_json(folder / f"{name}.json", files[name])
    if files["samples"] is not None:
        _write_rows(folder / "samples.jsonl", files["samples"])
    if files["config"] is not None:
        (folder / "config.yaml").write_text(files["config"], encoding="utf-8")
    return folder
