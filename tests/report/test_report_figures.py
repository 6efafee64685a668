from __future__ import annotations

import html
import math
import re
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textrl.report import compare, scales, text
from textrl.report.curves import charts_of
from textrl.report.figures import Chart, Line, line_chart
from textrl.report.headline import plain_sentence
from textrl.report.reading import RunData, Series, Stage

FINITE = st.floats(-1e12, 1e12)
# The same cases every time, and no clock: other tests may be using the processor.
STEADY = settings(deadline=None, derandomize=True)


@STEADY
@given(values=st.lists(FINITE, min_size=1, max_size=30), log=st.booleans())
def test_axis_holds_its_values_and_has_round_ordered_ticks(values: list[float], log: bool) -> None:
    axis = scales.axis(values, log=log)
    places = [axis.at(value) for value in values]
    assert all(0 <= place <= 1 for place in places)
    assert [axis.at(value) for value in sorted(values)] == sorted(places)
    assert 2 <= len(axis.ticks) <= 12
    assert sorted(axis.ticks) == list(axis.ticks)
    labels = [label for _, label in axis.labels()]
    assert all(-1e-9 <= place <= 1 + 1e-9 for place, _ in axis.labels())
    if max(values) - min(values) > 1e-3 * max(map(abs, values)):
        assert len(set(labels)) == len(labels)


def test_axis_by_hand() -> None:
    axis = scales.axis([0.0, 10.0], pad=0.0)
    assert axis.labels() == [(0.0, "0.0"), (0.25, "2.5"), (0.5, "5.0"), (0.75, "7.5"), (1.0, "10.0")]
    assert axis.at(4.0) == pytest.approx(0.4)
    log = scales.axis([1.0, 1000.0], log=True)
    assert [label for _, label in log.labels()] == ["1.00", "10.0", "100", "1,000"]
    assert log.at(10.0) - log.at(1.0) == pytest.approx(log.at(100.0) - log.at(10.0))
    assert scales.axis([-0.2, 1.0]).labels()[0][1] == "0.0"


def test_running_mean_by_hand() -> None:
    assert scales.running_mean([0, 3, 6, 0, 0], 3) == pytest.approx([1.5, 3, 3, 2, 0])


@STEADY
@given(st.lists(st.tuples(st.integers(0, 10**6), FINITE), min_size=1, max_size=400, unique_by=lambda p: p[0]))
def test_thinning_keeps_order_and_extremes(points: list[tuple[int, float]]) -> None:
    points.sort()
    kept = scales.thin(points, 50)
    assert len(kept) <= 60
    assert kept == sorted(kept)
    values = [value for _, value in points]
    assert {min(values), max(values)} <= {value for _, value in kept}


def test_a_line_is_drawn_where_its_values_are() -> None:
    chart = Chart("T", (Line("a", Series((0.0, 5.0, 10.0), (0.0, 2.0, 1.0))),), unit="nats", note="Look.")
    html = line_chart(chart)
    (drawn,) = re.findall(r'points="([^"]+)"', html)
    points = [tuple(map(float, point.split(","))) for point in drawn.split()]
    assert [x for x, _ in points] == [0.0, 500.0, 1000.0]
    top = 1000 * (1 - 2.0 / 2.08)  # 4 % of room above, none below zero
    assert [y for _, y in points] == pytest.approx([1000.0, top, (1000 + top) / 2], abs=0.06)
    alt = "Line chart: T (nats). a goes from 0 at step 0 to 1.00 at step 10, lowest 0, highest 2.00."
    assert f'aria-label="{alt}"' in html


def test_charts_of_nothing_and_of_one_value() -> None:
    assert line_chart(Chart("T", (Line("a", Series((), ())),))) == ""
    assert "step 3.00: 7.00" in line_chart(Chart("T", (Line("a", Series((3.0,), (7.0,))),)))


def test_a_wide_range_of_norms_gets_a_logarithmic_axis() -> None:
    series = Series((1.0, 2.0, 3.0), (0.5, 400.0, 3.0))
    assert "Logarithmic axis." in line_chart(Chart("Norm", (Line("a", series),), log=True))
    assert "Logarithmic axis." not in line_chart(Chart("Norm", (Line("a", series),)))


def test_every_metric_gets_one_chart_and_twins_are_drawn_once() -> None:
    one = Series((1.0, 2.0), (1.0, 2.0))
    names = (
        "reward/total",
        "rollout/ep_rew_mean",
        "reward/a b",
        "train/kl_ref",
        "custom/thing",
        "train/policy_loss",
    )
    main, further = charts_of(Stage("ppo", dict.fromkeys(names, one), 2, None))
    assert [chart.title for chart in main] == ["Reward by source", "KL to the reference"]
    assert [line.label for line in main[0].lines] == ["total", "a b"]
    assert [chart.title for chart in further] == ["Policy loss", "custom / thing"]
    other = dict.fromkeys(names, one) | {"rollout/ep_rew_mean": Series((1.0, 2.0), (1.0, 2.5))}
    assert "Episode reward" in [chart.title for chart in charts_of(Stage("ppo", other, 2, None))[0]]


def _run(frontier: list[dict[str, object]]) -> RunData:
    return RunData(Path("run"), summary={"frontier": frontier})  # type: ignore[typeddict-item]


def test_arms_are_compared_at_equal_kl() -> None:
    points: list[dict[str, object]] = [
        {"arm": "ptx", "seed": 0, "kl": 4.0, "gain": 1.0, "ppl_change": 1.0},
        {"arm": "ptx", "seed": 0, "kl": 8.0, "gain": 2.0, "ppl_change": 3.0},
        {"arm": "ptx", "seed": 1, "kl": 6.0, "gain": 2.0, "ppl_change": 2.0},
        {"arm": "ptx", "seed": 1, "kl": 2.0, "gain": 1.0, "ppl_change": 0.0},
        {"arm": "none", "seed": 0, "kl": 2.0, "gain": 1.0, "ppl_change": 10.0},
        {"arm": "none", "seed": 0, "kl": 10.0, "gain": 3.0, "ppl_change": 50.0},
    ]
    found = compare.trails(_run(points))
    assert [(trail.arm, trail.seed) for trail in found] == [("ptx", "0"), ("ptx", "1"), ("none", "0")]
    words = re.sub("<[^>]+>", "", compare.equal_kl(found))
    # At 6 nats: seed 0 of ptx half-way between 1 and 2, seed 1 at its last point; "none" half-way of 1 and 3.
    assert "At equal KL (6.00 nats" in words
    assert (
        "ptx gains +1.75 [+1.50 to +2.00] with perplexity +2.0\u202f% [+2.0\u202f% to +2.0\u202f%]" in words
    )
    assert "none gains +2.00 with perplexity +30.0\u202f%" in words
    assert plain_sentence(_run(points)) == html.unescape(words), "a study of arms is summed up by its arms"


def test_arms_that_never_meet_are_not_compared() -> None:
    points: list[dict[str, object]] = [
        {"arm": "a", "kl": 3.0, "gain": 1.0},
        {"arm": "b", "kl": 5.0, "gain": 1.0},
    ]
    assert compare.equal_kl(compare.trails(_run(points))) == ""
    assert compare.equal_kl(compare.trails(_run(points[:1]))) == ""
    assert "<td>+1.00</td>" in compare.arms_table(compare.trails(_run(points)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (1.234, "1.23"),
        (-12.34, "\u221212.3"),
        (1234.5, "1,234"),
        (0.1234, "0.123"),
        (2e-5, "2.0e\u22125"),
    ],
)
def test_numbers(value: float, shown: str) -> None:
    assert text.num(value) == shown


def test_numbers_with_signs_and_units() -> None:
    assert text.num(0.004, signed=True, digits=2) == "0.00"
    assert text.num(-0.004, digits=2) == "0.00"
    assert text.num(1.5, signed=True) == "+1.50"
    assert text.num(None) == text.num(math.nan) == "\u2013"
    assert [text.seconds(s) for s in (0.41, 59.6, 61, 3725)] == [
        "0.4\u202fs",
        "1\u202fmin 00\u202fs",
        "1\u202fmin 01\u202fs",
        "1\u202fh 02\u202fmin",
    ]
    assert text.number(True) is None
    assert text.number("1") is None


@STEADY
@given(st.text())
def test_escaped_text_is_inert(raw: str) -> None:
    shown = text.esc(raw)
    assert not set(shown) & set("<>\"'\x00\u202e")
    shown.encode("utf-8")


def _luminance(colour: str) -> float:
    full = colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
    parts = [int(full[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("scheme", [0, 1])
def test_contrast_meets_wcag_aa(scheme: int) -> None:
    """Text needs 4.5 to 1, lines in a figure 3 to 1 (WCAG 2.2, 1.4.3 and 1.4.11)."""
    css = files("textrl.report").joinpath("style.css").read_text("utf-8")
    root = re.findall(r":root\{([^}]+)\}", css)[scheme]
    colours = dict(re.findall(r"--([\w-]+):(#[0-9a-f]+)", root))

    def ratio(a: str, b: str) -> float:
        high, low = sorted((_luminance(colours[a]), _luminance(colours[b])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for ground in ("bg", "card"):
        assert all(ratio(ink, ground) >= 4.5 for ink in ("ink", "soft", "accent"))
    assert all(ratio(ink, f"{ink}-soft") >= 4.5 for ink in ("good", "warn", "bad"))
    assert all(ratio(line, "card") >= 3 for line in ("c0", "c1", "c2", "c3", "c4", "c5", "before", "accent"))
