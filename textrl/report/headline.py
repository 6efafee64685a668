"""The first screen: what came out of the run, in one sentence and a row of figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textrl.report.curves import stage_title
from textrl.report.reading import Estimate, RunData, Stage, estimate, perplexity_change
from textrl.report.text import esc, num, number, percent, seconds


@dataclass(frozen=True)
class Tile:
    """One figure with its interval, a plain-word explanation and, where set, its target."""

    what: str
    value: str
    interval: str = ""
    why: str = ""
    target: str = ""
    reached: bool | None = None


def sentence(run: RunData) -> str:
    """Return the run in plain words, as HTML."""
    head = run.headline
    gain, wins = estimate(head.get("judge_gain")), estimate(head.get("win_rate"))
    kl, change = estimate(head.get("kl_per_sequence")), perplexity_change(head)
    first = _what_improved(run, gain, wins)
    cost = []
    if kl:
        cost.append(f"<b>{num(kl.value, digits=1)} nats</b> of KL per sequence")
    if change is not None:
        corpus = f" ({esc(head['perplexity_corpus'])})" if head.get("perplexity_corpus") else ""
        word = "higher" if change > 0 else "lower" if change < 0 else "changed"
        cost.append(f"perplexity of ordinary text{corpus} <b>{num(abs(change), digits=1)}\u202f%</b> {word}")
    if first and cost:
        return f"{first} The price: {' and '.join(cost)}."
    if first or cost:
        return first or f"Measured: {' and '.join(cost)}."
    return _training_only(run)


def _what_improved(run: RunData, gain: Estimate | None, wins: Estimate | None) -> str:
    head = run.headline
    if gain is None and wins is None:
        return ""
    count = number(head.get("prompts"))
    where = f"On {num(count, digits=0)} prompts it never saw" if count else "On prompts it never saw"
    judge = f" ({esc(head['judge'])})" if head.get("judge") else ""
    parts = []
    if gain:
        known = gain.lo is not None and gain.hi is not None
        if gain.lo is not None and gain.hi is not None and gain.lo <= 0 <= gain.hi:
            parts.append(f"shows <b>no clear difference</b> to an independent judge{judge}: {_signed(gain)}")
        else:
            word = "higher" if gain.value > 0 else "lower"
            size = num(abs(gain.value), digits=2)
            interval = f" <small>({_signed_range(gain)})</small>" if known else ""
            parts.append(
                f"is rated <b>{size}</b>{interval} {word} by an independent judge{judge} than before RL"
            )
    if wins:
        interval = f" <small>({_share_range(wins)})</small>" if wins.lo is not None else ""
        parts.append(f"wins against it on <b>{percent(wins.value)}</b>{interval} of them")
    return f"{where}, the trained model\u2019s text {' and '.join(parts)}."


def _signed_range(gain: Estimate) -> str:
    return (
        f"95\u202f% interval {num(gain.lo, signed=True, digits=2)} to {num(gain.hi, signed=True, digits=2)}"
    )


def _signed(gain: Estimate) -> str:
    return f"<b>{num(gain.value, signed=True, digits=2)}</b> <small>({_signed_range(gain)})</small>"


def _share_range(wins: Estimate) -> str:
    return f"{percent(wins.lo)} to {percent(wins.hi)}"


def _training_only(run: RunData) -> str:
    """Return what the stages did when nothing was evaluated."""
    parts = []
    accuracy = number(run.part("reward_model").get("pair_accuracy"))
    for stage in run.stages:
        named = _main_metric(stage)
        if named:
            name, start, end = named
            title = esc(stage_title(stage.name))
            parts.append(f"{title}: {name} {num(start)} \u2192 <b>{num(end)}</b>")
    if accuracy is not None:
        parts.append(f"the reward model orders <b>{percent(accuracy)}</b> of held-out pairs as people did")
    if not parts:
        return "This run has no figures yet."
    text = "; ".join(parts)
    return f"{text}. No evaluation was recorded."


def _main_metric(stage: Stage) -> tuple[str, float, float] | None:
    choices = (
        "rollout/ep_rew_mean",
        "reward/total",
        "val_loss",
        "val/loss",
        "eval/loss",
        "train/loss",
        "loss",
    )
    for key in choices:
        series = stage.series.get(key)
        if series and series.values:
            name = {"rollout/ep_rew_mean": "episode reward", "reward/total": "reward"}.get(key)
            return name or ("validation loss" if "va" in key else "loss"), series.values[0], series.values[-1]
    return None


def tiles(run: RunData) -> str:
    """Return the row of figures."""
    found = [tile for tile in (_gain(run), _wins(run), _kl(run), _perplexity(run), _cost(run)) if tile]
    if not found:
        return ""
    items = "".join(_tile(tile) for tile in found)
    return f'<ul class="tiles" aria-label="Headline figures">{items}</ul>'


def _tile(tile: Tile) -> str:
    interval = f'<span class="range">{tile.interval}</span>' if tile.interval else ""
    why = f'<span class="why">{tile.why}</span>' if tile.why else ""
    target = ""
    if tile.target:
        css, word = ("good", "reached") if tile.reached else ("bad", "missed")
        target = f'<span class="pill {css}">target {tile.target} {word}</span>'
    return (
        f'<li class="tile"><span class="what">{tile.what}</span><span class="value">{tile.value}</span>'
        f"{interval}{why}{target}</li>"
    )


def _gain(run: RunData) -> Tile | None:
    gain = estimate(run.headline.get("judge_gain"))
    if gain is None:
        return None
    judge: Mapping[str, Any] = run.judges[0] if run.judges else {}
    before, after, anchor = (number(judge.get(key)) for key in ("before", "after", "anchor_human_2_5"))
    why = (
        f"{num(before, digits=2)} \u2192 {num(after, digits=2)}"
        if before is not None and after is not None
        else ""
    )
    if anchor is not None:
        why += f"{'; ' if why else ''}snippets people rated 2.5 and more get {num(anchor, digits=2)}"
    limit = number(run.part("targets").get("judge_gain_min"))
    return Tile(
        "Judge gain",
        num(gain.value, signed=True, digits=2),
        _signed_range(gain) if gain.lo is not None else "",
        why,
        f"\u2265 {num(limit, signed=True, digits=2)}" if limit is not None else "",
        limit is not None and gain.value >= limit,
    )


def _wins(run: RunData) -> Tile | None:
    wins = estimate(run.headline.get("win_rate"))
    if wins is None:
        return None
    limit = number(run.part("targets").get("win_rate_min"))
    return Tile(
        f"Win rate over {esc(run.name_of('before'))}",
        percent(wins.value),
        f"95\u202f% interval {_share_range(wins)}" if wins.lo is not None else "",
        "prompts on which the judge prefers the new text; 50\u202f% is a draw",
        f"\u2265 {percent(limit)}" if limit is not None else "",
        limit is not None and wins.value >= limit,
    )


def _kl(run: RunData) -> Tile | None:
    kl = estimate(run.headline.get("kl_per_sequence"))
    if kl is None:
        return None
    limit = number(run.part("targets").get("kl_max"))
    interval = (
        f"95\u202f% interval {num(kl.lo, digits=1)} to {num(kl.hi, digits=1)}" if kl.lo is not None else ""
    )
    return Tile(
        "KL to the reference",
        f"{num(kl.value, digits=1)} <small>nats / sequence</small>",
        interval,
        "how far the policy moved from where it began",
        f"\u2264 {num(limit, digits=0)}" if limit is not None else "",
        limit is not None and kl.value <= limit,
    )


def _perplexity(run: RunData) -> Tile | None:
    change = perplexity_change(run.headline)
    if change is None:
        return None
    head = run.headline
    before, after = number(head.get("perplexity_before")), number(head.get("perplexity_after"))
    limit = number(run.part("targets").get("perplexity_change_percent_max"))
    corpus = f"on {esc(head['perplexity_corpus'])}, " if head.get("perplexity_corpus") else ""
    return Tile(
        "Perplexity of ordinary text",
        f"{num(change, signed=True, digits=1)}\u202f%",
        f"{num(before, digits=1)} \u2192 {num(after, digits=1)}"
        if before is not None and after is not None
        else "",
        f"{corpus}what the gain cost in ordinary language",
        f"\u2264 {num(limit, signed=True, digits=0)}\u202f%" if limit is not None else "",
        limit is not None and change <= limit,
    )


def _cost(run: RunData) -> Tile | None:
    wall, memory = number(run.summary.get("wall_s")), number(run.summary.get("peak_memory_gb"))
    downloads = number(run.summary.get("downloads_s"))
    if wall is None:
        return None
    return Tile(
        "Time",
        seconds(wall),
        f"{num(memory, digits=1)} GB of memory at the peak" if memory is not None else "",
        f"of which downloads {seconds(downloads)}" if downloads else "",
    )
