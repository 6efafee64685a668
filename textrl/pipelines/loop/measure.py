"""After every round: policies on held-out prompts, by judges that took no part; and round against round."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from textrl.evaluation.compare import compare_scores, evaluate_texts, sample_summary, score_samples
from textrl.evaluation.judges import FittedJudge
from textrl.evaluation.reward_judge import trusted
from textrl.models.loading import load_causal_lm
from textrl.pipelines.loop.world import DIRECT, LOOP, World, labeler_judge
from textrl.pipelines.rlhf.evaluate import evaluation_task, forgetting, held_out_kl, responses, sample_all
from textrl.pipelines.rlhf.judging import judges_of
from textrl.rewards import RewardSum

#: A column of the table: name, key of a point, how it is shown.
_COLUMNS = (
    ("labels", "labels", "{:,.0f}"),
    ("judge gain", "gain", "{:+.2f}"),
    ("win rate", "win_rate", "{:.0%}"),
    ("labeler's gain", "labeler_gain", "{:+.2f}"),
    ("KL", "kl", "{:.1f}"),
    ("perplexity", "ppl_change", "{:+.1f} %"),
    ("RM accuracy", "rm_accuracy", "{:.3f}"),
    ("before", "rm_accuracy_before", "{:.3f}"),
)


def evaluate_sft(world: World) -> dict[str, Any]:
    """Sample from the SFT model on the held-out prompts, once for all comparisons."""
    model, tokenizer = load_causal_lm(str(world.sft))
    task = evaluation_task(world.context, tokenizer, RewardSum([]))
    rows = sample_all(world.context, model.requires_grad_(False), task)
    texts = [task.decode(row) for row in responses(rows)]
    world.context.run.write_jsonl(
        "data/sft_samples.jsonl",
        (
            {"prompt": prompt.text, "completion": text}
            for prompt, text in zip(task.prompts, texts, strict=True)
        ),
    )
    return {"prompts": len(texts)}


def evaluate(world: World, number: int, arm: str) -> dict[str, Any]:
    """Measure an arm's policy after a round; the last round of the loop gives the run's headline.

    Returns:
        The point of this arm and round, which ``rounds.jsonl`` and the summary collect.
    """
    context = world.context
    before, _ = load_causal_lm(str(world.sft))
    after, tokenizer = load_causal_lm(str(world.policy(number, arm)))
    for model in (before, after):
        model.requires_grad_(False)
    task = evaluation_task(context, tokenizer, RewardSum([]))
    rows = sample_all(context, after, task)
    texts = [task.decode(row) for row in responses(rows)]
    prompts, first = _sft_samples(world)
    judges = judges_of(context)
    summary = evaluate_texts(first, texts, prompts, judges, tokenizer=tokenizer)
    summary["headline"] |= held_out_kl(before, rows, temperature=context.settings.ppo.temperature)
    summary["headline"] |= forgetting(context, before, after, tokenizer)
    labeler = labeler_of(world)
    if labeler is not None:
        old, new = score_samples(
            labeler.judge, prompts, *([[text] for text in side] for side in (first, texts))
        )
        summary["judges"].append(_row(labeler, compare_scores(old, new)))
    point = _point(world, number, arm, summary)
    if (number, arm) == (world.settings.rounds, LOOP):
        names = {"before": "SFT", "after": f"round {number}"}
        context.run.summarise(summary | {"names": names})
        shown = sample_summary(
            first, texts, prompts, judges[0].judge, count=context.settings.evaluation.shown
        )
        context.run.write_jsonl("samples.jsonl", shown)
    drawn = {f"eval/{name}": point[name] for _, name, _ in _COLUMNS if _is_number(point.get(name))}
    context.run.rewind(f"rounds_{arm}", number - 1)  # a kill may have come between row and stage
    context.run.append_metrics(f"rounds_{arm}", number, drawn)
    return point


def labeler_of(world: World) -> FittedJudge | None:
    """Return the labeler's own taste as a judge of the evaluation; None where people rank."""
    if world.settings.labels.labeler == "file":
        return None
    judge = labeler_judge(world)
    material = world.context.material
    return trusted(judge, material.judge_test, material.anchors)


def _row(fitted: FittedJudge, scores: Mapping[str, Any]) -> dict[str, Any]:
    figures = {
        "name": fitted.judge.name,
        "features": f"the labels: {fitted.judge.features}",
        "pair_accuracy": fitted.report.pair_accuracy,
        "anchor_human_2_5": fitted.report.anchor,
    }
    known = {
        key: value for key, value in figures.items() if not (isinstance(value, float) and math.isnan(value))
    }
    return known | dict(scores)


def _sft_samples(world: World) -> tuple[list[str], list[str]]:
    lines = (world.context.run.path / "data" / "sft_samples.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    return [row["prompt"] for row in rows], [row["completion"] for row in rows]


def _point(world: World, number: int, arm: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    head, run = summary["headline"], world.context.run
    rounds = range(1, number + 1)
    stage, counted = ("collect", "rankings") if arm == LOOP else ("direct", "rankings")
    point: dict[str, Any] = {
        "arm": arm,
        "seed": world.context.settings.ppo.seed,
        "step": number,
        "labels": sum(int(run.payload(f"{stage}_{one}")[counted]) for one in rounds),
        "gain": head["judge_gain"]["value"],
        "gain_lo": head["judge_gain"]["lo"],
        "gain_hi": head["judge_gain"]["hi"],
        "win_rate": head["win_rate"]["value"],
        "kl": head["kl_per_sequence"]["value"],
        "ppl_change": head["perplexity_change_percent"]["value"],
    }
    own = [row for row in summary["judges"] if row["name"] == "labeler"]
    if own:
        point["labeler_gain"] = own[0]["gain"]["value"]
    if arm == LOOP:
        trained = run.payload(f"reward_model_{number}")
        point["rm_accuracy"] = trained.get("accuracy")
        point["rm_accuracy_before"] = trained.get("accuracy_of_the_one_before")
    return point


def compare_rounds(world: World) -> list[dict[str, Any]]:
    """Collect the points of the rounds that are done into ``rounds.jsonl`` and the summary; return them."""
    run = world.context.run
    stages = [
        (f"evaluate_{arm}_{number}") for arm in world.arms for number in range(1, world.settings.rounds + 1)
    ]
    points = [run.payload(stage) for stage in stages if run.done(stage)]
    for point in points:
        point.pop("seconds", None)
    run.write_jsonl("rounds.jsonl", points)
    run.summarise({"rounds": points, "frontier": [p for p in points if _is_number(p.get("kl"))]})
    return points


def show_rounds(points: Sequence[Mapping[str, Any]]) -> None:
    """Print the rounds side by side."""
    columns = [column for column in _COLUMNS if any(_is_number(point.get(column[1])) for point in points)]
    table = Table(title="Round by round, against the SFT model", title_justify="left")
    for name in ("arm", "round", *(column[0] for column in columns)):
        table.add_column(name, justify="left" if name == "arm" else "right")
    for point in points:
        cells = [_shown(point.get(key), form) for _, key, form in columns]
        arm = "direct" if point["arm"] == DIRECT else "reward model"
        table.add_row(arm, str(point["step"]), *cells)
    Console(width=130).print(table)


def _shown(value: Any, form: str) -> str:
    return form.format(value) if _is_number(value) else "\u2013"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def free() -> None:
    """Give memory back between stages, which each load models of their own."""
    import gc

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
