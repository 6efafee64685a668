"""The grid of the over-optimisation study, and what comes out of it: tables, checks, one figure, one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from textrl.bench.jobs import Job
from textrl.bench.page import page
from textrl.bench.running import Options, carry_out, machines, machines_note, publish
from textrl.bench.tables import NOTHING, Check, Table, checks_table, figure
from textrl.evaluation.overopt.curves import METHODS, Method, Shown, drop, gather, interval
from textrl.evaluation.overopt.fits import Fit
from textrl.evaluation.overopt.picture import draw

TARGET = "textrl.evaluation.overopt.trial:run_trial"
SEEDS = 3
WORLD: dict[str, Any] = {"vocabulary": 32, "length": 12, "prompts": 4, "repetition": 0.5, "taste": 0.5}
FULL: dict[str, Any] = {"samples": 2048, "iterations": 24, "every": 1, "measured": 128}
QUICK: dict[str, Any] = {"samples": 256, "iterations": 20, "every": 2, "measured": 64}
#: Of the learner: no penalty, no discount, no average; the paper's KL comes from training long.
SETTINGS: dict[str, Any] = {
    "precision": "fp32",
    "episodes_per_iteration": 256,
    "minibatches": 4,
    "epochs": 2,
    "micro_batch_size": 256,
    "learning_rate": 2.5e-3,
    "value_learning_rate": 4e-3,
    "adam_beta2": 0.999,
    "warmup_iterations": 0,
    "lam": 0.95,
    "ema_decay": 0.0,
}
_LEAD = (
    "What a gold judge says while best-of-n sampling and PPO climb a proxy of it, after Gao, Schulman and "
    "Hilton (2022). Each seed is another world: another initial policy, other words with other values, other "
    "labels."
)
_QUICK = "QUICK: few samples, short training and two proxies."


@dataclass(frozen=True)
class Cell:
    """One proxy, optimised in both ways on every seed.

    Attributes:
        size: A key of `textrl.evaluation.overopt.proxies.SIZES`, or "gold".
        pairs: Labelled comparisons that it learns from.
        kl_weight: Weight of the KL penalty in PPO.
    """

    size: str
    pairs: int = 0
    kl_weight: float = 0.0

    @property
    def name(self) -> str:
        """In tables and pictures."""
        if self.size == "gold":
            return "the gold judge itself"
        penalty = f", KL penalty {self.kl_weight:g}" if self.kl_weight else ""
        return f"{self.size}, {self.pairs:,} pairs{penalty}"

    def job(self, seed: int, quick: bool) -> Job:
        """Return the job of one seed."""
        spec = {
            "seed": seed,
            "world": WORLD,
            "size": self.size,
            "pairs": self.pairs,
            "kl_weight": self.kl_weight,
            **(QUICK if quick else FULL),
            "settings": SETTINGS,
        }
        return Job(f"{self.name} seed {seed}", TARGET, spec)


#: By size at one amount of data, by data at one size, with a penalty, and what could be had.
CELLS = (
    Cell("words", 1000),
    Cell("narrow", 1000),
    Cell("wide", 1000),
    Cell("wide", 200),
    Cell("wide", 5000),
    Cell("words", 1000, kl_weight=0.1),
    Cell("gold"),
)
QUICK_CELLS = (Cell("words", 1000), Cell("gold"))


def run_study(options: Options) -> int:
    """Run what is not finished, and publish everything.

    Args:
        options: Of the command line.

    Returns:
        0, or 1 where a job failed.
    """
    cells = QUICK_CELLS if options.quick else CELLS
    seeds = range(options.count(SEEDS))
    jobs = {cell: [cell.job(seed, options.quick) for seed in seeds] for cell in cells}
    # Seed by seed, so that what is finished early says something about every proxy.
    grid = [job for of_one_seed in zip(*jobs.values(), strict=True) for job in of_one_seed]
    outcome = carry_out(options, grid, "over-optimisation")
    found = {
        cell: [outcome.results[job.name] for job in some if job.name in outcome.results]
        for cell, some in jobs.items()
    }
    shown = [gather(cell.name, results) for cell, results in found.items() if results]
    came_from = machines(result for results in found.values() for result in results)
    checks = checks_of(shown)
    tables = [
        proxies_table(found, len(seeds)),
        *(scores_table(method, shown) for method in METHODS),
        checks_table(checks, "What the study is there to show"),
    ]
    notes = [*([_QUICK] if options.quick else []), machines_note(came_from)]
    tables[0] = Table(tables[0].title, tables[0].columns, tables[0].rows, (*tables[0].notes, *notes))
    pictures = {"overopt": draw(shown)}
    html = page(
        "textrl eval overopt",
        f"{_QUICK} {_LEAD}" if options.quick else _LEAD,
        [
            ("Proxy and gold score", [], list(pictures.values())),
            ("The proxies", tables[:1], []),
            ("Where the gold score turns", tables[1:3], []),
            ("What the study is there to show", tables[3:], []),
        ],
    )
    data = {
        "what": "overopt",
        "quick": options.quick,
        "seeds": len(seeds),
        "cells": [one.plain() for one in shown],
        "proxies": {cell.name: [result["proxy"] for result in results] for cell, results in found.items()},
        "checks": [asdict(check) for check in checks],
        "failures": outcome.failures,
        "machines": came_from,
        "cpu_s": sum(result["cpu_s"] for results in found.values() for result in results),
    }
    return publish(options, data, tables, html, pictures, outcome.failures)


def proxies_table(found: Mapping[Cell, Sequence[Mapping[str, Any]]], seeds: int) -> Table:
    """Return what is known about the proxies before anything is optimised."""
    rows = []
    for cell, results in found.items():
        done = str(seeds) if len(results) == seeds else f"{len(results)}/{seeds}"
        if not results:
            rows.append((cell.name, done, *[NOTHING] * 4))
            continue
        of = [result["proxy"] for result in results]
        rows.append(
            (
                cell.name,
                done,
                figure(of[0].get("parameters"), 0),
                _percent([one["label_agreement"] for one in of if "label_agreement" in one]),
                _percent([one["agreement"] for one in of]),
                figure(float(np.mean([result["cpu_s"] for result in results])), 0),
            )
        )
    columns = ("proxy", "seeds", "parameters", "labels right", "pairs right", "CPU s a seed")
    return Table(
        "The proxies, measured on texts of the initial policy",
        columns,
        tuple(rows),
        (
            "Labels right: training labels that follow the gold judge. Pairs right: pairs of fresh texts of "
            "the initial policy that the proxy orders as the gold judge does.",
        ),
    )


def scores_table(method: Method, shown: Sequence[Shown]) -> Table:
    """Return where the gold score peaks under one method, where it ends, and the fitted law."""
    rows = []
    for one in shown:
        curve, law = one.curves[method], one.fits[method]
        rows.append(
            (
                one.name,
                interval([s["peak_gold"] for s in curve.summaries], 2),
                interval([s["peak_d"] for s in curve.summaries], 1),
                interval([s["end_gold"] for s in curve.summaries], 2),
                interval([s["end_proxy"] for s in curve.summaries], 2),
                interval([s["end_d"] for s in curve.summaries], 1),
                _law(law),
            )
        )
    columns = (
        "proxy", "gold at its peak", "peak at d", "gold at the end", "proxy at the end", "end at d",
        "fit: alpha, beta, R2",
    )  # fmt: skip
    formula = "d (alpha - beta d)" if method == "best_of_n" else "d (alpha - beta log d)"
    title = "Best-of-n" if method == "best_of_n" else "PPO"
    return Table(
        title,
        columns,
        tuple(rows),
        (
            "Scores are gains over the initial policy, in standard deviations of its texts' scores; d is the "
            f"root of the KL in nats. Brackets: 95 % t intervals over seeds. Fitted to all: {formula}.",
        ),
    )


def checks_of(shown: Sequence[Shown]) -> list[Check]:
    """Hold the study against what it is there to show."""
    checks = []
    by_name = {one.name: one for one in shown}
    first = by_name.get(CELLS[0].name)
    if first is not None:
        fall, rise = drop(first.curves["ppo"])
        text = f"gold {interval([-x for x in fall], 2)}, proxy {interval(rise, 2)}"
        holds = min(fall) > 0 and min(rise) > 0
        checks.append(Check(f"{first.name}, PPO, every seed: gold falls while the proxy rises", text, holds))
    control = by_name.get("the gold judge itself")
    if control is not None:
        fall, _ = drop(control.curves["ppo"])
        text = f"falls by {interval(fall, 2)} from its peak"
        checks.append(Check("the gold judge itself, PPO: no fall", text, max(fall) < 0.1))
    data = [by_name.get(Cell("wide", pairs).name) for pairs in (200, 1000, 5000)]
    peaks = [float(np.mean([s["peak_gold"] for s in one.curves["ppo"].summaries])) for one in data if one]
    if len(peaks) == 3:
        text = " < ".join(f"{peak:.2f}" for peak in peaks)
        ordered = peaks[0] < peaks[1] < peaks[2]
        checks.append(Check("more labels, higher peak of the gold score (wide, PPO)", text, ordered))
    return checks


def _percent(values: Sequence[float]) -> str:
    return f"{100 * float(np.mean(values)):.1f} %" if values else NOTHING


def _law(law: Fit | None) -> str:
    return NOTHING if law is None else f"{law.alpha:.2f}, {law.beta:.3f}, {law.r2:.2f}"
