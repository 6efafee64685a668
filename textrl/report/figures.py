"""Figures as HTML and inline SVG.

Lines are drawn in a stretched coordinate system with strokes that do not stretch, marks and labels
are placed in per cent, and colours are CSS variables. So a figure fills any width, its text keeps the
size of the page's text on a phone, and it follows the reader's light or dark setting, none of which a
finished picture does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textrl.report import scales
from textrl.report.reading import Series
from textrl.report.text import esc, num

#: Colours ``--c0`` to ``--c5`` exist; further lines repeat them with another dash.
COLOURS = 6
_DASHES = ("", "6 3", "2 3")
_SIDE = 1000  # the stretched coordinate system
_SMOOTH_FROM = 40
_MAX_POINTS = 500
_MAX_HITS = 60


@dataclass(frozen=True)
class Line:
    """One line of a chart; `style` picks its colour and dash."""

    label: str
    series: Series
    style: int = 0


@dataclass(frozen=True)
class Chart:
    """A chart of metrics over steps.

    Attributes:
        note: What to look for, in one sentence.
        include: Values the vertical axis must show, such as 0.
        log: Use a logarithmic axis where the values span a factor of fifty.
        guide: A value to mark with a dashed line, such as a target, and its name.
    """

    title: str
    lines: tuple[Line, ...]
    unit: str = ""
    note: str = ""
    include: tuple[float, ...] = ()
    log: bool = False
    guide: tuple[float, str] | None = None


def swatch(style: int) -> str:
    """Return the little line that stands for a style in a legend."""
    dash = _dash(style)
    return (
        f'<svg class="swatch" width="22" height="10" aria-hidden="true"><line x1="1" x2="21" y1="5" y2="5" '
        f'style="stroke:var(--c{style % COLOURS})" stroke-width="3"{dash}/></svg>'
    )


def line_chart(chart: Chart) -> str:
    """Draw a chart with its caption; an empty string when no line has a value."""
    lines = [line for line in chart.lines if line.series.values]
    if not lines:
        return ""
    values = [v for line in lines for v in line.series.values]
    guide = [chart.guide[0]] if chart.guide else []
    y = scales.axis(values, include=[*chart.include, *guide], log=chart.log)
    x = scales.axis([s for line in lines for s in line.series.steps], pad=0.0)
    paths = "".join(_line(line, x, y) for line in reversed(lines))  # the first line lies on top
    marks = "".join(_ends(line, x, y) for line in lines)
    if chart.guide:
        at = _pc(1 - y.at(chart.guide[0]))
        marks += f'<line class="guide" x1="0" x2="100%" y1="{at}" y2="{at}"/>'
    head = f'<span class="now">{num(lines[0].series.values[-1])}</span>' if len(lines) == 1 else ""
    unit = f' <span class="unit">{esc(chart.unit)}</span>' if chart.unit else ""
    note = f"{chart.note} Logarithmic axis.".strip() if y.log else chart.note
    legend = _legend(lines) if len(lines) > 1 else "<span></span>"  # keeps the rows of neighbours aligned
    return (
        f'<figure class="chart"><figcaption><span class="title">{esc(chart.title)}{unit}</span>{head}'
        f"</figcaption>{legend}"
        f"{plot(x, y, paths, marks, alt=_alt(chart, lines), x_label='step')}"
        f'<p class="note">{esc(note)}</p></figure>'
    )


def plot(
    x: scales.Axis, y: scales.Axis, paths: str, marks: str, *, alt: str, x_label: str, y_label: str = ""
) -> str:
    """Return a plot area: grid, stretched `paths`, `marks` in per cent, tick labels as text.

    Args:
        paths: SVG in the stretched 1000 x 1000 system.
        marks: SVG in per cent of the plot area.
        alt: The figure in words, for people who cannot see it.
    """
    grid = "".join(
        f'<line class="{"zero" if not y.log and tick == 0 else "grid"}" x1="0" x2="100%" '
        f'y1="{_pc(1 - y.at(tick))}" y2="{_pc(1 - y.at(tick))}"/>'
        for tick in y.ticks
    )
    y_text = "".join(f'<span class="yt" style="top:{_pc(1 - at)}">{text}</span>' for at, text in y.labels())
    x_text = "".join(f'<span class="xt" style="left:{_pc(at)}">{text}</span>' for at, text in x.labels())
    y_name = f'<span class="yl">{esc(y_label)}</span>' if y_label else ""
    return (
        f'<div class="plot" role="img" aria-label="{esc(alt)}">{y_name}<div class="area">'
        f'<svg width="100%" height="100%" aria-hidden="true">{grid}'
        f'<svg viewBox="0 0 {_SIDE} {_SIDE}" preserveAspectRatio="none" width="100%" height="100%">'
        f"{paths}</svg>{marks}</svg>{y_text}{x_text}</div>"
        f'<span class="xl">{esc(x_label)}</span></div>'
    )


def path(points: Sequence[tuple[float, float]], x: scales.Axis, y: scales.Axis, style: int, css: str) -> str:
    """Return a polyline through (x, y) values in the stretched system."""
    at = " ".join(f"{_SIDE * x.at(px):.1f},{_SIDE * (1 - y.at(py)):.1f}" for px, py in points)
    return f'<polyline class="{css}" points="{at}" style="stroke:var(--c{style % COLOURS})"{_dash(style)}/>'


def bar(parts: Sequence[tuple[str, float, str]], alt: str) -> str:
    """Draw one stacked bar of (name, value, shown value) parts."""
    total = sum(value for _, value, _ in parts) or 1.0
    left, rects = 0.0, ""
    for index, (name, value, shown) in enumerate(parts):
        rects += (
            f'<rect x="{_pc(left)}" width="{_pc(value / total)}" y="0" height="100%" '
            f'style="fill:var(--c{index % COLOURS})"><title>{esc(name)}: {esc(shown)}</title></rect>'
        )
        left += value / total
    return f'<svg class="bar" width="100%" height="26" role="img" aria-label="{esc(alt)}">{rects}</svg>'


def marker(x_at: str, y_at: str, style: int, tip: str) -> str:
    """Return a mark at a place in per cent; its shape tells styles apart without colour."""
    shapes = (
        '<circle r="5"/>',
        '<rect x="-4.6" y="-4.6" width="9.2" height="9.2"/>',
        '<path d="M0-6.4 6 4.6H-6Z"/>',
        '<path d="M0-6.4 6.4 0 0 6.4-6.4 0Z"/>',
        '<path d="M0 6.4 6-4.6H-6Z"/>',
        '<rect x="-5.6" y="-3.2" width="11.2" height="6.4"/>',
    )
    # An inner <svg> is the only element that can stand at a place in per cent and hold any shape.
    return (
        f'<svg x="{x_at}" y="{y_at}" overflow="visible" class="mark" style="fill:var(--c{style % COLOURS})">'
        f"<title>{esc(tip)}</title>{shapes[style % len(shapes)]}</svg>"
    )


def _legend(lines: Sequence[Line]) -> str:
    items = "".join(
        f"<li>{swatch(line.style)}{esc(line.label)} <b>{num(line.series.values[-1])}</b></li>"
        for line in lines
    )
    return f'<ul class="legend">{items}</ul>'


def _line(line: Line, x: scales.Axis, y: scales.Axis) -> str:
    points = list(zip(line.series.steps, line.series.values, strict=True))
    if len(points) < _SMOOTH_FROM:
        return path(points, x, y, line.style, "line")
    width = max(3, len(points) // 16) | 1
    means = scales.running_mean(line.series.values, width)
    smooth = list(zip(line.series.steps, means, strict=True))
    return path(scales.thin(points, _MAX_POINTS), x, y, line.style, "raw") + path(
        scales.thin(smooth, _MAX_POINTS), x, y, line.style, "line"
    )


def _ends(line: Line, x: scales.Axis, y: scales.Axis) -> str:
    """Return invisible points that show their value under a pointer, and a dot for a single value."""
    points = list(zip(line.series.steps, line.series.values, strict=True))
    if len(points) == 1:
        step, value = points[0]
        return marker(_pc(x.at(step)), _pc(1 - y.at(value)), line.style, f"step {num(step)}: {num(value)}")
    stride = max(1, -(-len(points) // _MAX_HITS))
    return "".join(
        f'<circle class="hit" cx="{_pc(x.at(step))}" cy="{_pc(1 - y.at(value))}" r="6" '
        f'style="--dot:var(--c{line.style % COLOURS})"><title>{esc(line.label)}, step {step:.10g}: '
        f"{num(value)}</title></circle>"
        for step, value in points[::stride]
    )


def _alt(chart: Chart, lines: Sequence[Line]) -> str:
    unit = f" ({chart.unit})" if chart.unit else ""
    parts = []
    for line in lines:
        s = line.series
        parts.append(
            f"{line.label} goes from {num(s.values[0])} at step {s.steps[0]:.10g} to {num(s.values[-1])} "
            f"at step {s.steps[-1]:.10g}, lowest {num(min(s.values))}, highest {num(max(s.values))}"
        )
    return f"Line chart: {chart.title}{unit}. {'; '.join(parts)}."


def _dash(style: int) -> str:
    dash = _DASHES[(style // COLOURS) % len(_DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _pc(fraction: float) -> str:
    return f"{100 * fraction:.2f}%"
