"""The stages in order: gather, train each member of each arm, evaluate, report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from textrl.config import ConfigNode, build, to_plain
from textrl.errors import UserError
from textrl.memory import peak_bytes
from textrl.models.precision import resolve_precision
from textrl.models.sources import resolve
from textrl.pipelines.reward_model.care import oddities
from textrl.pipelines.reward_model.material import Material, gather
from textrl.pipelines.reward_model.measure import (
    Floats,
    group_accuracy,
    order_ceiling,
    rated_accuracy,
    rater_accuracy,
)
from textrl.pipelines.reward_model.settings import ArmSettings, RewardModelRunSettings
from textrl.pipelines.reward_model.stages import Context, Member, score_test, train
from textrl.registry import Registry
from textrl.report import write_report
from textrl.runs import Run


def run(node: ConfigNode, registry: Registry, run_dir: Path, resume: bool, command: list[str]) -> int:
    """Train and measure the reward models of a config, into `run_dir`; returns 0."""
    settings = build(RewardModelRunSettings, node.data, where=node.where)
    arms = arms_of(settings, node)
    members = [
        Member(name, number, settings.members, arm)
        for name, arm in arms.items()
        for number in range(1, settings.members + 1)
    ]
    resolve(settings.model, registry)
    began_s = time.perf_counter()
    material = gather(settings.data, [arm.loss for arm in arms.values()])
    _refuse_unmeasurable(material)
    notes = list(oddities(material)) if settings.data.source == "file" else []
    for note in notes:
        _say(f"note: {note}")
    precision = resolve_precision(settings.training.precision).name
    record = Run.create(
        run_dir, config=to_plain(settings), command=command, resume=resume, precision=precision
    )
    names = ["gather", *(member.stage for member in members), "evaluate"]
    record.summarise(
        {"command": command, "seed": settings.training.seed, "model": settings.model, "status": "running",
         "planned_stages": names, "targets": dict(settings.targets), "data_notes": notes}
    )  # fmt: skip
    if not record.done("gather"):
        record.mark_done("gather", {"seconds": time.perf_counter() - began_s})
    context = Context(record, settings, registry, material, resume)
    for member in members:
        if record.done(member.stage):
            _say(f"{member.stage}: done before")
            continue
        began_s = time.perf_counter()
        try:
            payload = train(context, member)
        except UserError:
            record.discard()  # mended data or settings need no other name
            raise
        record.mark_done(member.stage, {**payload, "seconds": time.perf_counter() - began_s})
        _say(f"{member.stage}: {time.perf_counter() - began_s:.0f} s")
    began_s = time.perf_counter()
    found = evaluate(context, members)
    record.mark_done("evaluate", {"seconds": time.perf_counter() - began_s})
    _finish(context, names, found)
    return 0


def _refuse_unmeasurable(material: Material) -> None:
    """Refuse a test part on which no accuracy can be counted.

    Raises:
        UserError: When it holds no two texts of which people preferred one.
    """
    decided = any(len(set(group.ranks)) > 1 and len(set(group.completions)) > 1 for group in material.test)
    if not decided and len({text.mean for text in material.test_texts}) < 2:
        raise UserError(
            f"None of the {len(material.test):,} rankings of the test part prefers one text to another, so "
            "accuracy cannot be measured; give more rankings, or data.test."
        )


def arms_of(settings: RewardModelRunSettings, node: ConfigNode) -> dict[str, ArmSettings]:
    """Return the training settings of each arm by its name.

    Raises:
        UserError: When an arm sets what is no setting, or to a value that cannot be.
    """
    if not settings.arms:
        return {"reward_model": settings.training}
    plain = to_plain(settings.training)
    return {
        name: build(ArmSettings, {**plain, **changes}, where=node.where, prefix=f"arms.{name}")
        for name, changes in settings.arms.items()
    }


def evaluate(context: Context, members: Sequence[Member]) -> list[dict[str, Any]]:
    """Return the figures of each arm, on the test part: of its members, and of what they say together."""
    material, gap = context.material, context.settings.data.gap
    means = np.array([text.mean for text in material.test_texts])
    rows = []
    for arm in dict.fromkeys(member.arm for member in members):
        own = [member for member in members if member.arm == arm]
        scored = [score_test(context, member) for member in own]
        together = [np.mean(scores, axis=0) for scores in zip(*(groups for groups, _ in scored), strict=True)]
        inside, pairs, ties = group_accuracy(together, material.test)
        row: dict[str, Any] = {
            "arm": arm,
            "group_accuracy": inside.plain(),
            "group_pairs": pairs,
            "group_ties": ties,
            "members": [
                _member_row(context, member, groups) for member, (groups, _) in zip(own, scored, strict=True)
            ],
        }
        if material.test_texts:
            scores = np.mean([texts for _, texts in scored], axis=0)
            accuracy, count = rated_accuracy(scores, means, gap=gap)
            row |= {"pair_accuracy": accuracy.plain(), "pairs": count}
        rows.append(row)
    return rows


def _member_row(context: Context, member: Member, scores: Sequence[Floats]) -> dict[str, Any]:
    """Return what one member cost and reached within groups."""
    accuracy, _, _ = group_accuracy(scores, context.material.test)
    payload = context.run.payload(member.stage)
    kept = ("steps", "l2", "theta", "val_loss", "val_accuracy", "rows", "shown", "cpu_s", "seconds")
    return {"group_accuracy": accuracy.plain()} | {key: payload.get(key) for key in kept}


def _finish(context: Context, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the summary and the report, and print what came out."""
    record, data = context.run, context.settings.data
    first = rows[0]
    headline = first.get("pair_accuracy", first["group_accuracy"])
    timed = [{"name": name, "seconds": record.payload(name)["seconds"]} for name in names]
    summary: dict[str, Any] = {
        "status": "finished",
        "stages": timed,
        "wall_s": sum(stage["seconds"] for stage in timed),
        "peak_memory_gb": peak_bytes() / 2**30,
        "reward_model": {"pair_accuracy": headline["value"]},
        "arms": list(rows),
    }
    if context.material.test_texts and data.source == "ratings":
        rater = rater_accuracy(context.material.test_texts, gap=data.gap)
        summary["single_rater"] = rater.plain()
    if data.source == "file":
        summary["order_ceiling"] = order_ceiling(context.material.test)
    record.summarise(summary)
    for row in rows:
        _say(_sentence(row, data.gap))
    if "single_rater" in summary:
        _say(
            f"one person's ratings: {_shown(summary['single_rater'])} of those pairs as the means order them"
        )
    if summary.get("order_ceiling", 1.0) < 1.0:
        _say(f"people contradict each other: no order has more than {summary['order_ceiling']:.3f}")
    wanted = context.settings.targets.get("pair_accuracy_min")
    if wanted is not None:
        word = "reached" if headline["value"] >= wanted else "missed"
        _say(f"target {wanted:.3f} {word}: {headline['value']:.3f}")
    _say(f"report: {write_report(record.path)}")


def _sentence(row: Mapping[str, Any], gap: float) -> str:
    parts = []
    if "pair_accuracy" in row:
        parts.append(
            f"{_shown(row['pair_accuracy'])} of {row['pairs']:,} held-out pairs with a gap of {gap:g} or more"
        )
    if row["group_pairs"]:
        parts.append(f"{_shown(row['group_accuracy'])} of {row['group_pairs']:,} pairs within groups")
    passes = [f"{member['rows'] / member['shown']:.2f}" for member in row["members"] if member.get("rows")]
    cost = f"; {', '.join(passes)} forward rows a completion" if passes else ""
    return f"{row['arm']}: {'; '.join(parts)} in people's order{cost}"


def _shown(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.3f} [{figure['lo']:.3f}, {figure['hi']:.3f}]"


def _say(line: str) -> None:
    """Print one line of progress at once."""
    print(f"[textrl] {line}", flush=True)  # noqa: T201
