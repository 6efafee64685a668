"""The figure of the study: gold and proxy scores against sqrt(KL), best-of-n beside PPO, as one SVG file.

The chart of `textrl.bench.drawing` has one plot and functions of x; here two plots share a scale and a
legend, each proxy has two lines, and a policy's path may turn back.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textrl.bench.drawing import COLOURS
from textrl.evaluation.overopt.curves import METHODS, Band, Curves, Method, Shown
from textrl.evaluation.overopt.fits import Fit
from textrl.report import scales
from textrl.report.text import esc, svg_text

_WIDTH, _LEFT, _TOP, _GAP = 1000, 52, 74, 44
_PLOT, _HEIGHT, _ROW = 446, 340, 20
_FONT = 'font-family="system-ui,-apple-system,Segoe UI,Roboto,Arial,sans-serif"'
#: A law that explains less of the measured gains is in the tables only: its line would follow nothing.
_LEAST_R2 = 0.5
_TITLES: dict[Method, str] = {"best_of_n": "Best-of-n", "ppo": "PPO"}


def draw(shown: Sequence[Shown]) -> str:
    """Draw the figure; an empty string where nothing is finished.

    Args:
        shown: Up to eight proxies are told apart.
    """
    if not shown:
        return ""
    title = "Gold score (solid) and proxy score (dashed) against the distance from the initial policy"
    heights = [
        value
        for one in shown
        for curves in one.curves.values()
        for band in (curves.gold, curves.proxy)
        for value in band.mean
    ]
    y = scales.axis(heights, include=[0.0], pad=0.08, count=6)
    parts = [svg_text(14, 22, title, size=15, weight=600)]
    parts.append(
        svg_text(14, 42, "gain over the initial policy, standard deviations", size=12, colour="#555")
    )
    for place, method in enumerate(METHODS):
        left = _LEFT + place * (_PLOT + _GAP)
        parts.append(_panel(method, shown, left, y))
    below = _TOP + _HEIGHT + 58
    for index, one in enumerate(shown):
        row, column = divmod(index, 3)
        at_x, at_y = _LEFT + column * 312, below + row * _ROW
        colour = COLOURS[index % len(COLOURS)]
        parts.append(_line([(at_x, at_y - 4), (at_x + 24, at_y - 4)], colour, 2.2, ""))
        parts.append(svg_text(at_x + 30, at_y, one.name, size=13))
    height = below + (-(-len(shown) // 3)) * _ROW + 24
    note = (
        "Shaded: the gold score's standard error over seeds. Dotted: the law of Gao et al. (2022), where it "
        f"explains {_LEAST_R2:.0%} or more."
    )
    parts.append(svg_text(_LEFT, height - 14, note, size=12, colour="#555"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}" role="img" {_FONT}><title>{esc(title)}</title>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


class _Frame:
    """Maps distances and scores to px."""

    def __init__(self, left: float, x: scales.Axis, y: scales.Axis) -> None:
        self.left, self.x, self.y = left, x, y

    def at(self, d: float, score: float) -> tuple[float, float]:
        return self.left + _PLOT * self.x.at(d), _TOP + _HEIGHT * (1 - self.y.at(score))

    def path(self, d: Sequence[float], scores: Sequence[float]) -> list[tuple[float, float]]:
        return [self.at(*point) for point in zip(d, scores, strict=True)]

    def grid(self) -> str:
        parts = []
        for tick, (share, text) in zip(self.y.ticks, self.y.labels(), strict=True):
            at = _TOP + _HEIGHT * (1 - share)
            strong = "#9aa3ad" if tick == 0 else "#e3e6ea"
            parts.append(_line([(self.left, at), (self.left + _PLOT, at)], strong, 1, ""))
            parts.append(svg_text(self.left - 6, at + 4, text, size=12, anchor="end", colour="#555"))
        foot = _TOP + _HEIGHT
        for share, text in self.x.labels():
            at = self.left + _PLOT * share
            parts.append(_line([(at, foot), (at, foot + 4)], "#999", 1, ""))
            parts.append(svg_text(at, foot + 18, text, size=12, anchor="middle", colour="#555"))
        return "".join(parts)


def _panel(method: Method, shown: Sequence[Shown], left: float, y: scales.Axis) -> str:
    """Return one plot with all proxies; the first one lies on top."""
    farthest = [d for one in shown for d in one.curves[method].d]
    frame = _Frame(left, scales.axis([0.0, *farthest], pad=0.02, count=6), y)
    parts = [frame.grid(), svg_text(left, _TOP - 8, _TITLES[method], size=13, weight=600)]
    for index in reversed(range(len(shown))):
        colour = COLOURS[index % len(COLOURS)]
        parts.append(_curves(frame, shown[index].curves[method], shown[index].fits[method], colour))
    label = "d = sqrt(KL to the initial policy in nats)"
    parts.append(svg_text(left + _PLOT, _TOP + _HEIGHT + 36, label, size=12, anchor="end", colour="#555"))
    return "".join(parts)


def _curves(frame: _Frame, curves: Curves, law: Fit | None, colour: str) -> str:
    parts = [_band(frame, curves.d, curves.gold, colour)]
    if law is not None and law.r2 >= _LEAST_R2:
        d = np.linspace(0, max(curves.d), 60)
        low, high = frame.y.lo, frame.y.hi
        inside = [(a, b) for a, b in zip(d.tolist(), law.at(d).tolist(), strict=True) if low <= b <= high]
        parts.append(_line([frame.at(*point) for point in inside], colour, 1.2, "1 4"))
    parts.append(_line(frame.path(curves.d, curves.proxy.mean), colour, 1.6, "7 4"))
    parts.append(_line(frame.path(curves.d, curves.gold.mean), colour, 2.2, ""))
    return "".join(parts)


def _band(frame: _Frame, d: Sequence[float], band: Band, colour: str) -> str:
    """Return mean -+ standard error, a quadrilateral a step: paths that turn back would cross themselves."""
    if not band.se:
        return ""
    upper, lower = (
        frame.path(d, [mean + sign * error for mean, error in zip(band.mean, band.se, strict=True)])
        for sign in (1, -1)
    )
    pieces = []
    for i in range(len(d) - 1):
        corners = (upper[i], upper[i + 1], lower[i + 1], lower[i])
        pieces.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + "z")
    return f'<path d="{"".join(pieces)}" fill="{colour}" fill-opacity=".13" fill-rule="nonzero"/>'


def _line(points: Sequence[tuple[float, float]], colour: str, width: float, dash: str) -> str:
    if len(points) < 2:
        return ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'stroke-linejoin="round"{dashes}/>'
    )
