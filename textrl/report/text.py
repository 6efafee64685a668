"""Turning numbers and other people's text into HTML that is safe and pleasant to read."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Mapping
from typing import Any

#: Longer model text is cut in the report; the run folder keeps all of it.
MAX_CHARS = 700
#: A base letter may carry this many combining marks before the rest is dropped: stacked marks draw
#: far outside their line and would cover the neighbours.
MAX_MARKS = 4
# Characters that reorder or hide what follows them: a sample could otherwise rewrite its own score.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_KEPT = frozenset("\n\t")


def number(value: object) -> float | None:
    """Return a finite float, or None for anything else (bools and strings included)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def visible(text: str) -> str:
    """Make control, bidi and broken characters visible instead of letting them act."""
    if text.isascii() and text.isprintable():
        return text
    out: list[str] = []
    marks = 0
    for char in text:
        category = unicodedata.category(char)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > MAX_MARKS:
            continue
        code = ord(char)
        if char in _KEPT:
            out.append(char)
        elif category == "Cs":  # a lone surrogate has no UTF-8 form
            out.append("\ufffd")
        elif char in _BIDI or category == "Cc" or (code & 0xFFFE) == 0xFFFE:
            out.append(f"\u27e8U+{code:04X}\u27e9")
        else:
            out.append(char)
    return "".join(out)


def esc(value: object) -> str:
    """Return `value` as text for element content or a quoted attribute."""
    return html.escape(visible(str(value)), quote=True)


def svg_text(
    x: float,
    y: float,
    text: str,
    *,
    size: int,
    anchor: str = "start",
    colour: str = "#1c2733",
    weight: int = 400,
) -> str:
    """Return a line of text of an SVG picture, at (x, y) in its pixels."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{esc(text)}</text>'
    )


def clip(text: str, limit: int = MAX_CHARS) -> str:
    """Cut long text and say how much is missing."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\u2026 [{len(text) - limit:,} characters more]"


def num(value: float | None, *, signed: bool = False, digits: int | None = None) -> str:
    """Format a number for reading: about three significant digits and a true minus sign."""
    if value is None or not math.isfinite(value):
        return "\u2013"
    size = abs(value)
    if digits is not None:
        text = f"{size:,.{digits}f}"
    elif size == 0:
        text = "0"
    elif size < 1e-3 or size >= 1e7:
        mantissa, _, exponent = f"{size:.1e}".partition("e")
        text = f"{mantissa}e{int(exponent)}".replace("e-", "e\u2212")
    elif size >= 100:
        text = f"{size:,.0f}"
    else:
        text = f"{size:.{1 if size >= 10 else 2 if size >= 1 else 3}f}"
    rounded_to_zero = digits is not None and float(text.replace(",", "")) == 0
    if value < 0 and not rounded_to_zero:
        return "\u2212" + text
    return "+" + text if signed and not rounded_to_zero else text


def short(value: float) -> str:
    """Format a number that somebody chose, such as a target, without zeros that mean nothing."""
    return f"{value:,.4g}".replace("-", "\u2212")


def percent(fraction: float | None, *, digits: int = 0) -> str:
    """Format a fraction 0..1 as per cent."""
    return "\u2013" if fraction is None else f"{num(100 * fraction, digits=digits)}\u202f%"


def seconds(value: float | None) -> str:
    """Format a duration in seconds for reading."""
    if value is None:
        return "\u2013"
    if value < 10:
        return f"{value:.1f}\u202fs"
    whole = round(value)
    if whole < 60:
        return f"{whole}\u202fs"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}\u202fmin {rest:02d}\u202fs"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}\u202fh {minutes:02d}\u202fmin"


def label(name: str) -> str:
    """Turn a key such as ``distinct_2`` into words."""
    return name.replace("_", " ").replace("/", " / ").strip()


def flatten(mapping: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """Flatten nested mappings to (dotted key, text) rows; deeper than four levels is shown as text."""
    rows: list[tuple[str, str]] = []
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and depth < 4:
            rows.extend(flatten(value, f"{name}.", depth + 1))
        elif isinstance(value, list | tuple):
            rows.append((name, ", ".join(str(item) for item in value) or "none"))
        else:
            rows.append((name, "\u2013" if value is None else str(value)))
    return rows
