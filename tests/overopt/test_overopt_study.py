"""What comes out of the study: curves, intervals, tables, figure and files; what the command refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from textrl.bench.jobs import Job, Outcome
from textrl.bench.running import Options
from textrl.errors import UserError
from textrl.evaluation.overopt import study
from textrl.evaluation.overopt.command import overopt
from textrl.evaluation.overopt.curves import drop, gather, interval, join, mean_interval
from textrl.evaluation.overopt.picture import draw


def result(seed: int, *, falls: float = 1.0) -> dict[str, Any]:
    """Return what a trial might say: gold rises and then falls by `falls`; a proxy that only rises."""
    ppo = [
        {"iteration": float(i), "kl": float(i * i), "proxy": 0.5 * i, "gold": g + 0.1 * seed * (i > 0)}
        for i, g in enumerate([0.0, 0.8, 1.5, 1.5 - falls / 2, 1.5 - falls])
    ]
    best = [{"n": n, "kl": 0.3 * n, "proxy": 0.3 * n, "gold": 0.2 * n} for n in range(5)]
    proxy = {"agreement": 0.8, "parameters": 32, "steps": 10, "label_agreement": 0.72}
    return {"ppo": ppo, "best_of_n": best, "proxy": proxy, "cpu_s": 2.0, "machine": machine()}


def machine() -> dict[str, Any]:
    return {"cpu": "a processor", "cores": 2, "versions": {"torch": "2"}}


def test_intervals_are_students() -> None:
    values = np.random.default_rng(0).normal(size=(4, 3))
    mean, lo, hi = mean_interval(values)
    wanted = stats.t.interval(0.95, df=3, loc=values.mean(0), scale=stats.sem(values))
    assert mean.tolist() == pytest.approx(values.mean(0).tolist())
    assert lo.tolist() == pytest.approx(wanted[0].tolist(), rel=1e-3)
    assert hi.tolist() == pytest.approx(wanted[1].tolist(), rel=1e-3)
    assert interval([1.0], 2) == "1.00"
    assert interval([1.0, 1.0, 1.0], 1) == "1.0 [1.0, 1.0]"


def test_curves_are_means_over_seeds_at_the_same_point() -> None:
    shown = gather("a", [result(0), result(1)])
    curves = shown.curves["ppo"]
    assert curves.d == pytest.approx([0, 1, 2, 3, 4])
    assert curves.gold.mean == pytest.approx([0, 0.85, 1.55, 1.05, 0.55])
    assert drop(curves)[0] == pytest.approx([1.0, 1.0])
    assert drop(curves)[1] == pytest.approx([1.0, 1.0])
    assert curves.summaries[1]["peak_gold"] == pytest.approx(1.6)
    law = shown.fits["ppo"]
    assert law is not None
    assert law.form == "rl"
    assert law.points == 8
    json.dumps(shown.plain(), allow_nan=False)
    with pytest.raises(ValueError, match="equally many"):
        join([[{"d": 0, "gold": 0, "proxy": 0}], []])


def test_the_figure_is_a_picture_with_a_line_for_each_score() -> None:
    shown = [gather("<first>", [result(0), result(1)]), gather("second", [result(0)])]
    svg = draw(shown)
    root = ElementTree.fromstring(svg)
    text = " ".join(root.itertext())
    for word in ("<first>", "second", "Best-of-n", "PPO", "sqrt(KL"):
        assert word in text
    # Two panels, two proxies: gold, proxy and law each, besides the legend and the grid.
    dashed = re.findall(r'stroke-dasharray="7 4"', svg)
    dotted = re.findall(r'stroke-dasharray="1 4"', svg)
    assert len(dashed) == 4
    assert len(dotted) == sum(law is not None and law.r2 >= 0.5 for one in shown for law in one.fits.values())
    assert svg.count("fill-opacity") == 2  # one seed has no interval
    assert draw([]) == ""


def test_checks_say_what_was_found_and_not_what_was_hoped() -> None:
    first = study.CELLS[0].name
    held = study.checks_of([gather(first, [result(0), result(1)])])
    assert [check.holds for check in held] == [True]
    missed = study.checks_of([gather(first, [result(0), result(1, falls=-1.0)])])
    assert [check.holds for check in missed] == [False]
    control = study.checks_of([gather("the gold judge itself", [result(0)])])
    assert [check.holds for check in control] == [False]


def test_the_study_publishes_and_names_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The grid of jobs itself is tested in tests/bench; here it gives results at once, but for one."""
    jobs: list[Job] = []

    def done(options: Options, grid: list[Job], title: str) -> Outcome:
        jobs.extend(grid)
        results = {job.name: result(job.spec["seed"]) for job in grid[:-1]}
        return Outcome(results, {grid[-1].name: "no memory"})

    monkeypatch.setattr(study, "carry_out", done)
    assert overopt(out=tmp_path / "o", seeds=2) == 1
    shown = capsys.readouterr().out
    assert "words, 1,000 pairs" in shown
    assert "1/2" in shown
    assert len({job.name for job in jobs}) == 2 * len(study.CELLS)
    data = json.loads((tmp_path / "o" / "results.json").read_text())
    assert data["failures"] == {jobs[-1].name: "no memory"}
    assert [cell["name"] for cell in data["cells"]] == [cell.name for cell in study.CELLS]
    page = (tmp_path / "o" / "report.html").read_text()
    assert "<script" not in page
    assert "Where the gold score turns" in page
    ElementTree.parse(tmp_path / "o" / "figures" / "overopt.svg")


def test_the_command_refuses_what_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="which is a file"):
        overopt(out=file)
    with pytest.raises(UserError, match="--seeds is 0"):
        overopt(out=tmp_path, seeds=0)
