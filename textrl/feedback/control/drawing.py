"""Mountain Car and Cart Pole drawn with Pillow alone: a millisecond a frame, and no further package.

Shapes are drawn at twice the size and halved, which smooths their edges. What never moves is drawn once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw

_SCALE = 2
_SKY, _GROUND, _EDGE = (247, 249, 252), (205, 219, 205), (92, 122, 96)
_BODY, _WHEEL, _FLAG, _POLE = (45, 86, 160), (52, 56, 66), (214, 108, 30), (176, 116, 58)
_ARROW, _POST, _TRACK = (214, 108, 30), (90, 94, 104), (92, 96, 106)
Point = tuple[float, float]


def mountain_car(task: Any, action: int | None, width: int) -> Image.Image:
    """Draw the car on its track.

    Args:
        task: Gymnasium's MountainCarEnv, or one derived from it.
        action: What is done next: 0 pushes left, 2 right; None at the end of an episode.
        width: Of the picture, pixels.
    """
    position = float(task.state[0])
    low, high = float(task.min_position), float(task.max_position)
    picture = _hills(width, low, high, float(task.goal_position)).copy()
    draw = ImageDraw.Draw(picture)
    full = picture.width
    unit = full / 15  # half of a car's length
    slope = 3 * 0.45 * math.cos(3 * position)
    angle = math.atan(slope)
    foot = _on_track(position, low, high, full)

    def place(x: float, y: float) -> Point:
        """Car's own coordinates (forward, up) to the picture's."""
        return (
            foot[0] + x * math.cos(angle) - y * math.sin(angle),
            foot[1] - x * math.sin(angle) - y * math.cos(angle),
        )

    h = unit / 2
    outline = [(-2, 0.5), (-2, 1.3), (-1, 1.5), (-0.6, 2.3), (0.8, 2.3), (1.3, 1.5), (2, 1.3), (2, 0.5)]
    draw.polygon([place(x * h, y * h) for x, y in outline], fill=_BODY)
    for x in (-1.1, 1.1):
        cx, cy = place(x * h, 0.5 * h)
        draw.ellipse((cx - h / 2, cy - h / 2, cx + h / 2, cy + h / 2), fill=_WHEEL)
    if action in (0, 2):
        _arrow(draw, [place(x * h, 3.2 * h) for x in ((1.5, -1.5) if action == 0 else (-1.5, 1.5))], h)
    return picture.reduce(_SCALE)


def cart_pole(task: Any, action: int | None, width: int) -> Image.Image:
    """Draw the cart and its pole.

    Args:
        task: Gymnasium's CartPoleEnv, or one derived from it.
        action: What is done next: 0 pushes left, 1 right; None at the end of an episode.
        width: Of the picture, pixels.
    """
    full, tall = width * _SCALE, width * _SCALE * 2 // 3
    picture = Image.new("RGB", (full, tall), _SKY)
    draw = ImageDraw.Draw(picture)
    ground = tall * 0.78
    metre = full / (2.4 * float(task.x_threshold))
    draw.line([(0, ground), (full, ground)], fill=_TRACK, width=_SCALE * 2)
    for edge in (-task.x_threshold, task.x_threshold):
        x = full / 2 + float(edge) * metre
        draw.line([(x, ground - tall / 30), (x, ground + tall / 30)], fill=_FLAG, width=_SCALE * 2)
    x, angle = full / 2 + float(task.state[0]) * metre, float(task.state[2])
    w, h = full / 16, full / 28
    draw.rounded_rectangle((x - w, ground - h * 1.5, x + w, ground - h * 0.3), radius=h / 4, fill=_BODY)
    for wheel in (-0.6, 0.6):
        cx = x + wheel * w
        draw.ellipse((cx - h * 0.35, ground - h * 0.7, cx + h * 0.35, ground), fill=_WHEEL)
    axle = (x, ground - h * 1.5)
    length = 2 * float(task.length) * metre * 0.9
    tip = (x + length * math.sin(angle), axle[1] - length * math.cos(angle))
    draw.line([axle, tip], fill=_POLE, width=round(h / 2))
    for cx, cy in (axle, tip):
        draw.ellipse((cx - h / 4, cy - h / 4, cx + h / 4, cy + h / 4), fill=_POLE)
    if action in (0, 1):
        side = 1 if action else -1
        y = ground - h * 0.9
        _arrow(draw, [(x + side * w * 1.1, y), (x + side * w * 1.9, y)], h * 0.8)
    return picture.reduce(_SCALE)


@functools.lru_cache(maxsize=4)
def _hills(width: int, low: float, high: float, goal: float) -> Image.Image:
    """Draw what does not move: sky, hills, and the flag."""
    full = width * _SCALE
    picture = Image.new("RGB", (full, full * 3 // 4), _SKY)
    draw = ImageDraw.Draw(picture)
    places = [low + (high - low) * i / 200 for i in range(201)]
    line = [_on_track(place, low, high, full) for place in places]
    draw.polygon([*line, (full, picture.height), (0, picture.height)], fill=_GROUND)
    draw.line(line, fill=_EDGE, width=_SCALE * 2, joint="curve")
    x, y = _on_track(goal, low, high, full)
    draw.line([(x, y), (x, y - full / 10)], fill=_POST, width=_SCALE * 2)
    flag = [(x, y - full / 10), (x + full / 22, y - full / 12), (x, y - full / 15)]
    draw.polygon(flag, fill=_FLAG)
    return picture


def _on_track(position: float, low: float, high: float, full: int) -> Point:
    """Return where a position, in metres, lies in the picture; the heights are the task's."""
    metre = full / (high - low)
    height = math.sin(3 * position) * 0.45 + 0.55
    return (position - low) * metre, full * 3 / 4 - height * metre - full / 40


def _arrow(draw: ImageDraw.ImageDraw, ends: Sequence[Point], size: float) -> None:
    """Draw an arrow from the first end to the second."""
    (x0, y0), (x1, y1) = ends
    length = math.hypot(x1 - x0, y1 - y0) or 1.0
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    back = (x1 - ux * size, y1 - uy * size)
    draw.line([(x0, y0), back], fill=_ARROW, width=round(size / 3))
    across = (uy * size / 2, -ux * size / 2)
    corners = [(back[0] + side * across[0], back[1] + side * across[1]) for side in (1, -1)]
    draw.polygon([(x1, y1), *corners], fill=_ARROW)
