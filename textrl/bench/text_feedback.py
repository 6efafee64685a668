"""`textrl bench text-feedback`: what presses on words are worth to a learner of text, in one command.

Data flow: arms (`text_feedback_arms`, `text_feedback_sentiment`) -> jobs of `text_feedback_trial` and
`text_feedback_language` -> rows over seeds -> tables, checks and pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from textrl.bench import text_feedback_sentiment as sentiment
from textrl.bench import text_feedback_trial as trial
from textrl.bench.jobs import Job
from textrl.bench.page import page
from textrl.bench.running import Options, carry_out, check_names, machines, machines_note, publish
from textrl.bench.tables import Table, checks_table
from textrl.bench.text_feedback_arms import PARTS, PLAIN, PLAIN_MODEL, SEEDS, Arm, every_arm
from textrl.bench.text_feedback_pictures import pictures
from textrl.bench.text_feedback_rows import reached, row, table

#: Everything that `--only` knows; without it the parts of the made worlds are run, and not the last one.
EVERY_PART = (*PARTS, sentiment.PART)
_QUICK = "QUICK: worlds are small, runs short and seeds few, so the figures say only that everything runs."
_LEAD = (
    "A simulated reader presses good and bad at words as they appear; TAMER learns H from it, and H is "
    "combined with PPO-ptx. Every seed is another world: another prior, another hidden lexicon, another "
    "reader. Lines are means over seeds, bands 95 % intervals of the mean."
)
#: Expected CPU seconds of a run, and of one in which nothing is trained.
_COST_S, _UNTRAINED_S, _QUICK_S = 7.0, 1.5, 1.0
_OF_PART: Mapping[str, tuple[str, ...]] = {
    "techniques": ("simultaneous", "simultaneous-gap", "sequential", "sequential-gap"),
    "presses": (
        "presses-simultaneous",
        "presses-simultaneous-gap",
        "presses-sequential",
        "presses-sequential-gap",
    ),
}


def bench(options: Options, only: Sequence[str]) -> int:
    """Run the study and publish it.

    Args:
        options: Of the command line.
        only: Parts to run; empty for those of the made worlds.

    Returns:
        0, or 1 where a job failed.

    Raises:
        UserError: On an unknown part.
    """
    check_names(only, EVERY_PART, "part")
    parts = [part for part in EVERY_PART if part in (only or PARTS)]
    arms = _chosen(parts)
    seeds, own = options.count(SEEDS), options.count(sentiment.SEEDS)
    jobs = {(arm.key, seed): _job(arm, seed, options.quick) for arm in arms for seed in range(seeds)}
    if sentiment.PART in parts:
        jobs |= {
            (f"{sentiment.PART}/{arm.name}", seed): arm.job(seed, options.quick)
            for arm in sentiment.arms()
            for seed in range(own)
        }
    # Seed by seed, so that what is finished early says something about every arm.
    grid = [jobs[key] for key in sorted(jobs, key=lambda key: key[1])]
    outcome = carry_out(options, grid, "feedback on text")
    found: dict[str, dict[int, Any]] = {}
    for (key, seed), job in jobs.items():
        if job.name in outcome.results:
            found.setdefault(key, {})[seed] = outcome.results[job.name]
    return _publish(options, arms, parts, found, outcome.failures)


def _chosen(parts: Sequence[str]) -> list[Arm]:
    """Return the arms of some parts, and those that they are held against."""
    chosen = [arm for arm in every_arm() if arm.part in parts]
    wanted = {arm.key for arm in chosen} | {arm.rival for arm in chosen}
    if "presses" in parts:  # 300 presses stand among the techniques
        wanted |= {arm.key for arm in every_arm() if arm.part == "techniques"}
    return [arm for arm in every_arm() if arm.key in wanted]


def _job(arm: Arm, seed: int, quick: bool) -> Job:
    spec = arm.job(seed, quick)
    cost = _QUICK_S if quick else _COST_S if spec["iterations"] else _UNTRAINED_S
    return Job(f"{arm.key} seed {seed}", trial.TARGET, spec, {}, cost)


def _publish(
    options: Options,
    arms: Sequence[Arm],
    parts: Sequence[str],
    found: Mapping[str, Mapping[int, Any]],
    failures: Mapping[str, str],
) -> int:
    """Write everything that came out."""
    seeds, own = options.count(SEEDS), options.count(sentiment.SEEDS)
    rows = [row(arm, found.get(arm.key, {}), found.get(arm.rival or PLAIN, {}), seeds) for arm in arms]
    texts = {key.partition("/")[2]: some for key, some in found.items() if key.startswith(sentiment.PART)}
    language = sentiment.rows(texts, own) if sentiment.PART in parts else []
    came_from = machines(result for some in found.values() for result in some.values())
    brief = [_QUICK] if options.quick else []
    shown = [part for part in EVERY_PART if any(one["part"] == part for one in (*rows, *language))]
    notes = {part: [*brief, *([machines_note(came_from)] if part == shown[-1] else [])] for part in shown}
    drawn = pictures(rows, {key: list(some.values()) for key, some in found.items() if some})
    if language and (drawing := sentiment.picture(texts)):
        drawn["text-feedback-sentiment"] = drawing
    tables: list[Table] = []
    sections: list[tuple[str, Sequence[Table], Sequence[str]]] = []
    for part in shown:
        of_part = [one for one in rows if one["part"] == part]
        made = (
            sentiment.table(language, notes[part])
            if part == sentiment.PART
            else table(part, of_part, notes[part])
        )
        tables.append(made)
        stems = [f"text-feedback-{stem}" for stem in _OF_PART.get(part, (part,))]
        sections.append((part, [made], [drawn[stem] for stem in stems if stem in drawn]))
    checks = [] if options.quick else [*sentiment.reached(language), *reached(rows)]
    if checks:
        tables.append(checks_table(checks, "Figures to reach, and what was expected"))
        sections.append(("What holds", tables[-1:], []))
    data = {
        "what": options.what,
        "quick": options.quick,
        "rivals": {"true": PLAIN, "model": PLAIN_MODEL},
        "arms": [*rows, *language],
        "checks": [asdict(check) for check in checks],
        "failures": dict(failures),
        "machines": came_from,
    }
    html = page("textrl bench text-feedback", f"{_QUICK} {_LEAD}" if options.quick else _LEAD, sections)
    return publish(options, data, tables, html, drawn, failures)
