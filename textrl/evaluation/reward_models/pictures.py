"""The page's pictures: shares with whiskers, the calibration curve, histograms.

They are drawn with the report's parts (`textrl.report.figures`): inline SVG that fits any width, whose text
keeps the size of the page's, in the reader's light or dark colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textrl.evaluation.reward_models.words import share
from textrl.report import scales
from textrl.report.figures import marker, path, plot, swatch
from textrl.report.text import esc, num, percent

_SIDE = 1000  # of the stretched coordinate system of `textrl.report.figures`
_NAME = 44


@dataclass(frozen=True)
class Row:
    """One line of a picture of shares.

    Attributes:
        name: Beside it.
        figure: ``value``, ``lo``, ``hi``, ``n``.
        style: 0 for the model, 1 for people, 5 for what they are compared with.
        second: Another share on the same line, drawn hollow.
    """

    name: str
    figure: Mapping[str, Any]
    style: int = 0
    second: Mapping[str, Any] | None = None


def whiskers(rows: Sequence[Row], alt: str, *, legend: Sequence[tuple[int, str]] = (), note: str = "") -> str:
    """Draw shares on one axis, with their intervals; an empty string where there is none.

    Args:
        rows: From the top.
        alt: What it is, for people who cannot see it.
        legend: (style, what it stands for).
        note: Below it.
    """
    rows = [row for row in rows if row.figure["value"] is not None]
    if not rows:
        return ""
    every = [one for row in rows for one in (row.figure, row.second) if one is not None]
    values = [v for one in every for key in ("value", "lo", "hi") if (v := one[key]) is not None]
    x = scales.axis(values, include=[0.5], pad=0.06, count=5)
    drawn = "".join(_whisker(row, x) for row in rows)
    ticks = "".join(
        f'<span class="xt" style="left:{_pc(x.at(tick))}">{percent(tick)}</span>'
        for tick in x.ticks
        if 0 <= tick <= 1
    )
    words = "; ".join(f"{row.name} {share(row.figure)}" for row in rows)
    items = "".join(f"<li>{swatch(style)}{esc(name)}</li>" for style, name in legend)
    return (
        f'<figure class="wide">{f"""<ul class="legend">{items}</ul>""" if items else ""}'
        f'<div class="bells" role="img" aria-label="{esc(f"{alt}: {words}.")}">{drawn}'
        f'<span></span><div class="ticks">{ticks}</div></div>'
        f'{f"""<p class="note">{esc(note)}</p>""" if note else ""}</figure>'
    )


def _whisker(row: Row, x: scales.Axis) -> str:
    grid = "".join(
        f'<line class="{"zero" if abs(tick - 0.5) < 1e-9 else "grid"}" x1="{_pc(x.at(tick))}" '
        f'x2="{_pc(x.at(tick))}" y1="0" y2="100%"/>'
        for tick in x.ticks
    )
    second = "" if row.second is None else _mark(row.second, x, 1, hollow=True)
    label = f'{esc(clip_name(row.name))} <span class="ci">{esc(share(row.figure))}</span>'
    return (
        f'<span class="who">{label}</span><svg width="100%" height="30" aria-hidden="true">{grid}{second}'
        f"{_mark(row.figure, x, row.style)}</svg>"
    )


def _mark(figure: Mapping[str, Any], x: scales.Axis, style: int, *, hollow: bool = False) -> str:
    if figure["value"] is None:
        return ""
    at, colour = _pc(x.at(figure["value"])), f"var(--c{style})"
    line = ""
    if figure["lo"] is not None:
        line = (
            f'<line x1="{_pc(x.at(figure["lo"]))}" x2="{_pc(x.at(figure["hi"]))}" y1="15" y2="15" '
            f'style="stroke:{colour};stroke-width:{2 if hollow else 3};stroke-opacity:.5"/>'
        )
    paint = f"fill:var(--card);stroke:{colour};stroke-width:3" if hollow else f"fill:{colour}"
    return f'{line}<circle cx="{at}" cy="15" r="{5 if hollow else 6}" style="{paint}"/>'


def clip_name(name: str) -> str:
    """Shorten a name that would leave a picture no room; of a path, the end says more."""
    return name if len(name) <= _NAME else "\u2026" + name[1 - _NAME :]


def reliability(found: Mapping[str, Any]) -> str:
    """Draw accuracy against confidence, with intervals, and the diagonal of a calibrated model."""
    bins = found["bins"]
    ends = [
        (one["accuracy"], one["accuracy"])
        if one["accuracy_lo"] is None
        else (one["accuracy_lo"], one["accuracy_hi"])
        for one in bins
    ]
    x = scales.axis([one["confidence"] for one in bins], include=[0.5], pad=0.03)
    y = scales.axis([v for pair in ends for v in pair], include=[0.5, x.hi if x.hi < 1 else 1.0], pad=0.03)
    low, high = max(x.lo, y.lo), min(x.hi, y.hi)
    paths = path([(low, low), (high, high)], x, y, 5, "trail")
    paths += path([(one["confidence"], one["accuracy"]) for one in bins], x, y, 0, "line")
    marks = ""
    for one, (least, most) in zip(bins, ends, strict=True):
        at = _pc(x.at(one["confidence"]))
        tip = f"{one['n']:,} pairs of confidence {percent(one['confidence'], digits=1)}: right in "
        tip += percent(one["accuracy"], digits=1)
        marks += (
            f'<line class="error" x1="{at}" x2="{at}" y1="{_pc(1 - y.at(most))}" y2="{_pc(1 - y.at(least))}" '
            f'style="stroke:var(--c0)"/>{marker(at, _pc(1 - y.at(one["accuracy"])), 0, tip)}'
        )
    words = "; ".join(
        f"{percent(one['confidence'])} promised, {percent(one['accuracy'])} kept" for one in bins
    )
    area = plot(
        x,
        y,
        paths,
        marks,
        alt=f"Calibration curve: {words}.",
        x_label="confidence, sigmoid of the gap",
        y_label="share of pairs in people\u2019s order",
    )
    legend = f"<li>{swatch(0)}the model</li><li>{swatch(5)}promised = kept</li>"
    return _chart("Calibration", f"error {percent(found['ece'], digits=1)}", legend, area, _below(found))


def _below(found: Mapping[str, Any]) -> str:
    return (
        "Below the grey line the model promises too much. Chance alone, of independent pairs, gives an "
        f"error of {percent(found['ece_chance'], digits=1)} here, at most "
        f"{percent(found['ece_chance_high'], digits=1)} in 95 of 100 cases. "
        f"Gaps times {num(found['scale'])} fit best: error then "
        f"{percent(found['scaled_ece'], digits=1)}."
    )


def histogram(found: Mapping[str, Any]) -> str:
    """Draw how the scores of better and worse sides are spread."""
    edges, sides = found["edges"], (("better", 0), ("worse", 1))
    shares = {name: [count / (sum(found[name]) or 1) for count in found[name]] for name, _ in sides}
    x = scales.axis(edges, pad=0.0)
    y = scales.axis([v for some in shares.values() for v in some], include=[0.0], pad=0.06)
    paths = "".join(_steps(edges, shares[name], x, y, style) for name, style in sides)
    alt = "Histogram of scores. " + " ".join(
        f"Most of the {name} sides lie around {num((edges[i] + edges[i + 1]) / 2)}."
        for name, _ in sides
        for i in [max(range(len(shares[name])), key=shares[name].__getitem__)]
    )
    area = plot(x, y, paths, "", alt=alt, x_label="score", y_label="share of the sides of decided pairs")
    legend = f"<li>{swatch(0)}better by people</li><li>{swatch(1)}worse by people</li>"
    note = "The outermost thousandth on either end is drawn into the last bar."
    return _chart("Scores of better and worse texts", "", legend, area, note)


def _steps(
    edges: Sequence[float], heights: Sequence[float], x: scales.Axis, y: scales.Axis, style: int
) -> str:
    corners = [(edges[0], 0.0)]
    for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
        corners += [(left, height), (right, height)]
    corners.append((edges[-1], 0.0))
    at = " ".join(f"{_SIDE * x.at(px):.1f},{_SIDE * (1 - y.at(py)):.1f}" for px, py in corners)
    return (
        f'<polygon points="{at}" style="fill:var(--c{style});fill-opacity:.16"/>'
        f"{path(corners, x, y, style, 'line')}"
    )


def _chart(title: str, now: str, legend: str, area: str, note: str) -> str:
    head = f'<span class="now">{esc(now)}</span>' if now else ""
    return (
        f'<figure class="chart"><figcaption><span class="title">{esc(title)}</span>{head}</figcaption>'
        f'<ul class="legend">{legend}</ul>{area}<p class="note">{esc(note)}</p></figure>'
    )


def _pc(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"
