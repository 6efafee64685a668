"""Pictures as SVG files that stand alone: curves with bands, and maps of a two-dimensional state space.

They have a white ground and colours of their own, so that they look the same on a page of ours, in a
Markdown file and in a reader's viewer. The report's figures (`textrl.report.figures`) are HTML, which fits
any width but cannot be a file; scales and escaping are shared with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textrl.report import scales
from textrl.report.text import esc, svg_text

#: Eight colours that people with colour blindness can tell apart (Okabe and Ito), the yellow darkened.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#a89a00")
_DASHES = ("", "7 3", "2 3")
_FONT = 'font-family="system-ui,-apple-system,Segoe UI,Roboto,Arial,sans-serif"'
_WIDTH, _LEFT, _RIGHT, _TOP = 760, 62, 18, 40
_LEGEND_COLUMNS, _LEGEND_ROW = 3, 18


@dataclass(frozen=True)
class Curve:
    """One line of a chart.

    Attributes:
        label: In the legend.
        x: (N,) increasing.
        y: (N,).
        lo: (N,) lower edge of a band; empty for none.
        hi: (N,) upper edge.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    lo: Sequence[float] = ()
    hi: Sequence[float] = ()


@dataclass(frozen=True)
class Map:
    """A picture of values over a two-dimensional state space.

    Attributes:
        title: Above it.
        values: (rows, columns); the first row lies at the bottom.
        x: (first, last) of the horizontal axis.
        y: (first, last) of the vertical one.
        names: For maps of classes: what 0, 1, 2 ... stand for; empty for maps of numbers.
    """

    title: str
    values: Sequence[Sequence[float]]
    x: tuple[float, float]
    y: tuple[float, float]
    names: tuple[str, ...] = ()


def chart(
    title: str, curves: Sequence[Curve], *, x_label: str, y_label: str, log_x: bool = False, height: int = 300
) -> str:
    """Draw curves; an empty string where none has a point.

    Args:
        title: Above the picture.
        curves: Up to 24 are told apart.
        x_label: Below it.
        y_label: Above the vertical axis.
        log_x: Use a logarithmic axis where the curves span a factor of fifty.
        height: Of the plot, px.
    """
    curves = [curve for curve in curves if len(curve.x)]
    if not curves:
        return ""
    x = scales.axis([v for curve in curves for v in curve.x], pad=0.0, log=log_x)
    # Of bands that reach further, such as those of two seeds, only this much is shown.
    y = scales.axis([v for curve in curves for v in curve.y], pad=0.12, count=5)
    plot = _Plot(_LEFT, _TOP, _WIDTH - _LEFT - _RIGHT, height, x, y)
    parts = [plot.grid(), svg_text(_LEFT, _TOP - 8, y_label, size=11, colour="#555")]
    for style in reversed(range(len(curves))):  # the first curve lies on top
        parts.append(plot.curve(curves[style], style))
    below = _TOP + height + 34
    shown = f"{x_label} (logarithmic)" if x.log else x_label
    parts.append(svg_text(_WIDTH - _RIGHT, below - 2, shown, size=11, anchor="end", colour="#555"))
    columns = legend_columns([curve.label for curve in curves])
    column = (_WIDTH - _LEFT) // columns
    for style, curve in enumerate(curves):
        row, place = divmod(style, columns)
        at_x, at_y = _LEFT + place * column, below + 14 + row * _LEGEND_ROW
        parts.append(f'<line x1="{at_x}" x2="{at_x + 22}" y1="{at_y}" y2="{at_y}" {_stroke(style)}/>')
        parts.append(svg_text(at_x + 28, at_y + 4, curve.label, size=12))
    rows = -(-len(curves) // columns)
    return _svg(title, parts, _WIDTH, below + 14 + rows * _LEGEND_ROW)


def legend_columns(labels: Sequence[str]) -> int:
    """Return how many labels fit beside each other, 1 to 3; an SVG cannot measure its text."""
    widest = 28 + 6.6 * max(map(len, labels)) + 12  # px of 12 px type, as wide as it comes
    return max(1, min(_LEGEND_COLUMNS, int((_WIDTH - _LEFT) // widest)))


def maps(title: str, panels: Sequence[Map], *, x_label: str, y_label: str, columns: int = 2) -> str:
    """Draw maps beside and below each other; an empty string where there are none.

    Args:
        title: Above the picture.
        panels: Each with a scale of its own.
        x_label: What lies along the horizontal axes.
        y_label: What lies along the vertical ones.
        columns: How many stand beside each other.
    """
    if not panels:
        return ""
    side, gap, foot = 250, 104, 76
    parts = []
    for index, panel in enumerate(panels):
        row, place = divmod(index, columns)
        left, top = _LEFT + place * (side + gap), _TOP + 22 + row * (side + foot)
        parts.append(_map(panel, left, top, side, x_label, y_label))
    rows = -(-len(panels) // columns)
    width = _LEFT + min(columns, len(panels)) * (side + gap)
    return _svg(title, parts, width, _TOP + 22 + rows * (side + foot))


@dataclass(frozen=True)
class _Plot:
    """A plot area in px."""

    left: float
    top: float
    width: float
    height: float
    x: scales.Axis
    y: scales.Axis

    def grid(self) -> str:
        """Return grid lines and tick labels."""
        parts = []
        for share, text in self.y.labels():
            at = self.top + self.height * (1 - share)
            right = self.left + self.width
            parts.append(
                f'<line x1="{self.left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e3e6ea"/>'
            )
            parts.append(svg_text(self.left - 6, at + 4, text, size=11, anchor="end", colour="#555"))
        for share, text in self.x.labels():
            at = self.left + self.width * share
            foot = self.top + self.height
            parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{foot}" y2="{foot + 4}" stroke="#999"/>')
            parts.append(svg_text(at, foot + 17, text, size=11, anchor="middle", colour="#555"))
        return "".join(parts)

    def curve(self, curve: Curve, style: int) -> str:
        """Return a curve and its band."""
        band = ""
        if len(curve.lo):
            edge = [
                *zip(curve.x, curve.hi, strict=True),
                *reversed(list(zip(curve.x, curve.lo, strict=True))),
            ]
            colour = COLOURS[style % len(COLOURS)]
            band = f'<polygon points="{self._points(edge)}" fill="{colour}" fill-opacity=".13"/>'
        line = self._points(list(zip(curve.x, curve.y, strict=True)))
        drawn = f'<polyline points="{line}" fill="none" stroke-linejoin="round" {_stroke(style)}>'
        return f"{band}{drawn}<title>{esc(curve.label)}</title></polyline>"

    def _points(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(
            f"{self.left + self.width * self.x.at(px):.1f},{self.top + self.height * (1 - self.y.at(py)):.1f}"
            for px, py in points
        )


#: From low to high: dark blue, teal, light green, yellow.
_NUMBERS = ((38, 38, 96), (32, 96, 144), (46, 152, 138), (140, 200, 100), (250, 232, 90))
_CLASSES = ("#0072b2", "#c9ced4", "#d55e00", "#ffffff", "#cc79a7", "#e69f00")
_LEVELS = 24


def _map(panel: Map, left: float, top: float, side: float, x_label: str, y_label: str) -> str:
    """Return one map with its axes and its scale."""
    values = panel.values
    flat = [value for row in values for value in row]
    low, high = min(flat), max(flat)
    spread = (high - low) or 1.0
    rows, columns = len(values), len(values[0])
    rectangles: dict[int, list[str]] = {}
    for row, line in enumerate(values):
        kinds = [
            int(value) if panel.names else min(int((value - low) / spread * _LEVELS), _LEVELS - 1)
            for value in line
        ]
        start = 0
        for column in range(1, columns + 1):  # neighbours of one colour are one rectangle
            if column == columns or kinds[column] != kinds[start]:
                wide = column - start
                drawn = f"M{start} {rows - row - 1}h{wide}v1h{-wide}z"
                rectangles.setdefault(kinds[start], []).append(drawn)
                start = column
    # One path for each colour, in cells; crisp edges leave no seams between them.
    body = "".join(
        f'<path d="{"".join(found)}" fill="{_fill(kind, bool(panel.names))}"/>'
        for kind, found in sorted(rectangles.items())
    )
    drawn = (
        f'<g transform="translate({left} {top}) scale({side / columns:.4f} {side / rows:.4f})" '
        f'shape-rendering="crispEdges">{body}</g>'
    )
    x, y = (scales.axis(ends, pad=0.0, count=3) for ends in (panel.x, panel.y))
    plot = _Plot(left, top, side, side, x, y)
    frame = f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="#999"/>'
    heading = svg_text(left, top - 10, panel.title, size=13, weight=600)
    axes = f"{x_label} (across), {y_label} (up)"
    foot = svg_text(left + side, top + side + 32, axes, size=11, anchor="end", colour="#555")
    scale = _scale(panel, left + side + 8, top, side, low, high)
    return f"{heading}{plot.grid()}{drawn}{frame}{foot}{scale}"


def _scale(panel: Map, left: float, top: float, side: float, low: float, high: float) -> str:
    """Return what the colours stand for."""
    if panel.names:
        return "".join(
            f'<rect x="{left}" y="{top + 20 * i}" width="12" height="12" fill="{_fill(i, True)}" '
            f'stroke="#999"/>{svg_text(left + 17, top + 20 * i + 10, name, size=11)}'
            for i, name in enumerate(panel.names)
        )
    step = side / _LEVELS
    bars = "".join(
        f'<rect x="{left}" y="{top + side - (i + 1) * step:.2f}" width="10" height="{step + 0.2:.2f}" '
        f'fill="{_fill(i, False)}"/>'
        for i in range(_LEVELS)
    )
    ends = [
        svg_text(left + 14, at, f"{value:.3g}", size=11) for at, value in ((top + 9, high), (top + side, low))
    ]
    return bars + "".join(ends)


def _fill(kind: int, classes: bool) -> str:
    if classes:
        return _CLASSES[kind % len(_CLASSES)]
    share = kind / (_LEVELS - 1) * (len(_NUMBERS) - 1)
    first = min(int(share), len(_NUMBERS) - 2)
    mixed = [a + (b - a) * (share - first) for a, b in zip(_NUMBERS[first], _NUMBERS[first + 1], strict=True)]
    return "#" + "".join(f"{round(part):02x}" for part in mixed)


def _stroke(style: int) -> str:
    dash = _DASHES[(style // len(COLOURS)) % len(_DASHES)]
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'stroke="{COLOURS[style % len(COLOURS)]}" stroke-width="1.8"{dashes}'


def _svg(title: str, parts: Sequence[str], width: float, height: float) -> str:
    head = svg_text(14, 18, title, size=14, weight=600)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" {_FONT}><title>{esc(title)}</title>'
        f'<rect width="100%" height="100%" fill="#fff"/>{head}{"".join(parts)}</svg>\n'
    )
