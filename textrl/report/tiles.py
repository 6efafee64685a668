"""The row of figures below the first sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textrl.report.headline import share_range, signed_range
from textrl.report.reading import RunData, estimate, perplexity_change
from textrl.report.text import esc, num, number, percent, seconds, short


@dataclass(frozen=True)
class Tile:
    """One figure: what it is, its value, its interval, a plain-word explanation (all HTML)."""

    what: str
    value: str
    interval: str = ""
    why: str = ""
    target: str = ""


def tiles(run: RunData) -> str:
    """Return the row of figures; empty when the run has none."""
    makers = (_gain, _wins, _kl, _perplexity, _time)
    items = "".join(_tile(tile) for make in makers if (tile := make(run)))
    return f'<ul class="tiles" aria-label="Headline figures">{items}</ul>' if items else ""


def _tile(tile: Tile) -> str:
    interval = f'<span class="range">{tile.interval}</span>' if tile.interval else ""
    why = f'<span class="why">{tile.why}</span>' if tile.why else ""
    return (
        f'<li class="tile"><span class="what">{tile.what}</span><span class="value">{tile.value}</span>'
        f"{interval}{why}{tile.target}</li>"
    )


def _target(run: RunData, key: str, value: float, show: Callable[[float], str]) -> str:
    """Return whether a figure reached its target, empty where none was set."""
    limit = number(run.part("targets").get(key))
    if limit is None:
        return ""
    least = key.endswith("_min")
    reached = value >= limit if least else value <= limit
    css, word, mark = ("good", "reached", "\u2713") if reached else ("bad", "missed", "\u2717")
    sign = "\u2265" if least else "\u2264"
    return (
        f'<span class="pill {css}"><span aria-hidden="true">{mark}</span> target {sign} {show(limit)}'
        f'<span class="hidden">, {word}</span></span>'
    )


def _gain(run: RunData) -> Tile | None:
    gain = estimate(run.headline.get("judge_gain"))
    if gain is None:
        return None
    judge = run.judges[0] if run.judges else {}
    before, after, anchor = (number(judge.get(key)) for key in ("before", "after", "anchor_human_2_5"))
    why = []
    if before is not None and after is not None:
        why.append(f"from {num(before, digits=2)} to {num(after, digits=2)}")
    if anchor is not None:
        why.append(f"snippets that people rated 2.5 and more get {num(anchor, digits=2)}")
    return Tile(
        "Judge gain",
        num(gain.value, signed=True, digits=2),
        _interval(signed_range(gain)),
        "; ".join(why),
        _target(run, "judge_gain_min", gain.value, short),
    )


def _wins(run: RunData) -> Tile | None:
    wins = estimate(run.headline.get("win_rate"))
    if wins is None:
        return None
    return Tile(
        f"Win rate over {esc(run.name_of('before'))}",
        percent(wins.value),
        _interval(share_range(wins)),
        "of prompts on which the judge prefers the new text; 50\u202f% is a draw",
        _target(run, "win_rate_min", wins.value, percent),
    )


def _kl(run: RunData) -> Tile | None:
    kl = estimate(run.headline.get("kl_per_sequence"))
    if kl is None:
        return None
    known = kl.lo is not None and kl.hi is not None
    return Tile(
        "KL to the reference",
        f"{num(kl.value, digits=1)} <small>nats</small>",
        _interval(f"{num(kl.lo, digits=1)} to {num(kl.hi, digits=1)}") if known else "",
        "per sequence: how far the policy moved from where it began",
        _target(run, "kl_max", kl.value, short),
    )


def _perplexity(run: RunData) -> Tile | None:
    change = perplexity_change(run.headline)
    if change is None:
        return None
    head = run.headline
    before, after = number(head.get("perplexity_before")), number(head.get("perplexity_after"))
    size = (
        f"{num(before, digits=1)} to {num(after, digits=1)} "
        if before is not None and after is not None
        else ""
    )
    corpus = head.get("perplexity_corpus")
    return Tile(
        "Perplexity change",
        f"{num(change.value, signed=True, digits=1)}\u202f%",
        _interval(
            f"{num(change.lo, signed=True, digits=1)} to {num(change.hi, signed=True, digits=1)}\u202f%"
        )
        if change.lo is not None
        else "",
        f"{size}on ordinary text{f' ({esc(corpus)})' if corpus else ''}: what the gain cost in language",
        _target(run, "perplexity_change_percent_max", change.value, lambda v: f"{short(v)}\u202f%"),
    )


def _time(run: RunData) -> Tile | None:
    wall, memory = number(run.summary.get("wall_s")), number(run.summary.get("peak_memory_gb"))
    if wall is None:
        return None
    downloads = number(run.summary.get("downloads_s")) or 0.0
    return Tile(
        "Time",
        seconds(wall),
        f"{num(memory, digits=1)} GiB of memory at the peak" if memory is not None else "",
        f"and {seconds(downloads)} of downloads" if downloads > 0 else "",
    )


def _interval(text: str) -> str:
    return f'{text} <span class="ci">(95\u202f%)</span>' if text else ""
