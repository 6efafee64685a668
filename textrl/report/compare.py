"""Figures and figures of speech that set two things side by side: before and after, arm and arm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from textrl.report import scales
from textrl.report.figures import COLOURS, marker, path, plot
from textrl.report.reading import RunData
from textrl.report.schema import FrontierPoint
from textrl.report.text import esc, num, number, percent


@dataclass(frozen=True)
class Change:
    """One row of a before/after figure; `anchor` is what people's best snippets get."""

    name: str
    before: float
    after: float
    anchor: float | None = None


def dumbbells(changes: Sequence[Change], alt: str) -> str:
    """Draw before -> after on one common axis; an empty string without rows."""
    if not changes:
        return ""
    values = [v for c in changes for v in (c.before, c.after, c.anchor) if v is not None]
    x = scales.axis(values, pad=0.1, count=5)
    rows = "".join(_dumbbell(change, x) for change in changes)
    ticks = "".join(f'<span class="xt" style="left:{_pc(at)}">{text}</span>' for at, text in x.labels())
    anchored = any(change.anchor is not None for change in changes)
    people = '<li><span class="key tick"></span>snippets people rated 2.5 and more</li>' if anchored else ""
    return (
        f'<figure class="wide"><ul class="legend"><li><span class="key before"></span>before</li>'
        f'<li><span class="key after"></span>after</li>{people}</ul>'
        f'<div class="bells" role="img" aria-label="{esc(alt)}">{rows}'
        f'<span></span><div class="ticks">{ticks}</div></div></figure>'
    )


def _dumbbell(change: Change, x: scales.Axis) -> str:
    before, after = _pc(x.at(change.before)), _pc(x.at(change.after))
    grid = "".join(
        f'<line class="grid" x1="{_pc(at)}" x2="{_pc(at)}" y1="0" y2="100%"/>' for at, _ in x.labels()
    )
    anchor = ""
    if change.anchor is not None:
        at = _pc(x.at(change.anchor))
        anchor = f'<line class="anchor" x1="{at}" x2="{at}" y1="5" y2="29"/>'
    return (
        f'<span class="who">{esc(change.name)}</span><svg width="100%" height="34" aria-hidden="true">{grid}'
        f'<line class="span" x1="{before}" x2="{after}" y1="17" y2="17"/>{anchor}'
        f'<circle class="before" cx="{before}" cy="17" r="6"/>'
        f'<circle class="after" cx="{after}" cy="17" r="7"/></svg>'
    )


@dataclass(frozen=True)
class Trail:
    """The evaluated checkpoints of one seed of one arm, by rising KL."""

    arm: str
    seed: str
    points: tuple[FrontierPoint, ...]

    def at(self, kl: float, key: str) -> float | None:
        """Interpolate a figure at a KL between two measured points; None outside them."""
        known = [(p["kl"], v) for p in self.points if (v := number(p.get(key))) is not None]
        for kl_a, a in known:
            if kl_a == kl:
                return a
        for (kl_a, a), (kl_b, b) in pairwise(known):
            if kl_a < kl < kl_b:
                return a + (b - a) * (kl - kl_a) / (kl_b - kl_a)
        return None


def trails(run: RunData) -> list[Trail]:
    """Group the frontier's points into trails, arms in order of appearance."""
    groups: dict[tuple[str, str], list[FrontierPoint]] = {}
    for point in run.frontier:
        groups.setdefault((str(point.get("arm", "run")), str(point.get("seed", ""))), []).append(point)
    arms = list(dict.fromkeys(arm for arm, _ in groups))
    ordered = sorted(groups.items(), key=lambda item: arms.index(item[0][0]))
    return [Trail(arm, seed, tuple(sorted(points, key=lambda p: p["kl"]))) for (arm, seed), points in ordered]


def frontier_charts(found: Sequence[Trail]) -> str:
    """Draw KL against judge gain and KL against the change of perplexity."""
    gain = _scatter(
        found, "gain", "Judge gain against KL", "judge gain", "Up and left is better: more for less drift."
    )
    cost = _scatter(
        found,
        "ppl_change",
        "Perplexity of ordinary text against KL",
        "change, %",
        "Low is better: ordinary language is kept.",
    )
    return f'<div class="charts two">{gain}{cost}</div>' if gain or cost else ""


def _scatter(found: Sequence[Trail], key: str, title: str, y_label: str, note: str) -> str:
    arms = list(dict.fromkeys(trail.arm for trail in found))
    points = [p for trail in found for p in trail.points if number(p.get(key)) is not None]
    if not points:
        return ""
    bounds = [
        v for p in points for name in (f"{key}_lo", f"{key}_hi") if (v := number(p.get(name))) is not None
    ]
    y = scales.axis([*_values(points, key), *bounds], include=(0.0,))
    x = scales.axis(_values(points, "kl"), include=(0.0,), count=5)
    paths, marks, words = "", "", []
    for trail in found:
        own = [p for p in trail.points if number(p.get(key)) is not None]
        style = arms.index(trail.arm)
        xy = list(zip(_values(own, "kl"), _values(own, key), strict=True))
        if len(xy) > 1:
            paths += path(xy, x, y, style, "line trail")
        marks += "".join(_error_bar(p, key, x, y, style) for p in own)
        for (kl, value), point in zip(xy, own, strict=True):
            where = f"{trail.arm}, seed {trail.seed}, step {point.get('step', '?')}"
            tip = f"{where}: KL {num(kl)}, {num(value, signed=True)}"
            marks += marker(_pc(x.at(kl)), _pc(1 - y.at(value)), style, tip)
        if xy:
            words.append(
                f"{trail.arm} seed {trail.seed}: " + ", ".join(f"{num(v)} at {num(kl)}" for kl, v in xy)
            )
    legend = "".join(f"<li>{_shape(style)}{esc(arm)}</li>" for style, arm in enumerate(arms))
    alt = f"Scatter chart: {title}. {'; '.join(words)}."
    area = plot(
        x, y, paths, marks, alt=alt, x_label="KL to the reference, nats per sequence", y_label=y_label
    )
    return (
        f'<figure class="chart"><figcaption><span class="title">{esc(title)}</span></figcaption>'
        f'<ul class="legend">{legend}</ul>{area}'
        f'<p class="note">{esc(note)} One mark per evaluated checkpoint, one line per seed.</p></figure>'
    )


def _error_bar(point: FrontierPoint, key: str, x: scales.Axis, y: scales.Axis, style: int) -> str:
    lo, hi = number(point.get(f"{key}_lo")), number(point.get(f"{key}_hi"))
    if lo is None or hi is None:
        return ""
    at = _pc(x.at(point["kl"]))
    return (
        f'<line x1="{at}" x2="{at}" y1="{_pc(1 - y.at(lo))}" y2="{_pc(1 - y.at(hi))}" class="error" '
        f'style="stroke:var(--c{style % COLOURS})"/>'
    )


def equal_kl(found: Sequence[Trail]) -> str:
    """Compare the arms in words, as HTML, at the largest KL that every seed of every arm reached.

    Returns an empty string when there is one arm only, or when that KL lies before some seed's first
    measured point, where there is nothing to interpolate between.
    """
    arms = list(dict.fromkeys(trail.arm for trail in found))
    if len(arms) < 2:
        return ""
    kl = min(trail.points[-1]["kl"] for trail in found)
    parts = []
    for arm in arms:
        own = [trail for trail in found if trail.arm == arm]
        gains = [v for trail in own if (v := trail.at(kl, "gain")) is not None]
        costs = [v for trail in own if (v := trail.at(kl, "ppl_change")) is not None]
        if len(gains) < len(own):
            return ""
        words = f"<b>{esc(arm)}</b> gains {_spread(gains, lambda v: num(v, signed=True, digits=2))}"
        if len(costs) == len(own):
            words += f" with perplexity {_spread(costs, _change)}"
        parts.append(words)
    return (
        f"At equal KL ({num(kl)} nats, the largest that every run reached; interpolated): "
        f"{'; '.join(parts)}.{' Mean over seeds, range in brackets.' if len(found) > len(arms) else ''}"
    )


def arms_table(found: Sequence[Trail]) -> str:
    """Return the last checkpoint of every arm, as mean and range over its seeds."""
    arms: dict[str, list[FrontierPoint]] = {}
    for trail in found:
        last = max(trail.points, key=lambda p: number(p.get("step")) or 0.0)
        arms.setdefault(trail.arm, []).append(last)
    measures: tuple[tuple[str, str, Callable[[float], str]], ...] = (
        ("KL, nats per sequence", "kl", lambda v: num(v, digits=1)),
        ("Judge gain", "gain", lambda v: num(v, signed=True, digits=2)),
        ("Win rate", "win_rate", percent),
        ("Perplexity of ordinary text", "ppl_change", _change),
    )
    head = "".join(f'<th scope="col">{esc(arm)}</th>' for arm in arms)
    many = any(len(last) > 1 for last in arms.values())
    spread = ": mean over seeds, range in brackets" if many else ""
    rows = (
        '<tr><th scope="row">Seeds</th>'
        + "".join(f"<td>{len(last)}</td>" for last in arms.values())
        + "</tr>"
    )
    for name, key, show in measures:
        cells = "".join(f"<td>{_spread(_values(last, key), show)}</td>" for last in arms.values())
        rows += f'<tr><th scope="row">{name}</th>{cells}</tr>'
    return (
        '<div class="scroll" role="region" aria-label="Arms side by side" tabindex="0"><table>'
        f"<caption>The last checkpoint of each arm{spread}</caption>"
        f'<thead><tr><th scope="col">Measure</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _values(points: Sequence[FrontierPoint], key: str) -> list[float]:
    return [value for point in points if (value := number(point.get(key))) is not None]


def _spread(values: Sequence[float], shown: Callable[[float], str]) -> str:
    if not values:
        return "\u2013"
    mean = shown(sum(values) / len(values))
    if len(values) == 1:
        return mean
    return f'{mean} <span class="ci">[{shown(min(values))} to {shown(max(values))}]</span>'


def _change(value: float) -> str:
    return f"{num(value, signed=True, digits=1)}\u202f%"


def _shape(style: int) -> str:
    inner = marker("50%", "50%", style, "").replace("<title></title>", "")
    return f'<svg class="swatch" width="14" height="14" aria-hidden="true">{inner}</svg>'


def _pc(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"
