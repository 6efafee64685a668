"""Puts the sections together and writes ``report.html``.

The page carries everything inside itself: a content security policy forbids scripts and every request,
so model text that got past the escaping could still neither run nor phone home.
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path

from textrl import __version__
from textrl.errors import UserError
from textrl.report import headline, sections, tiles
from textrl.report.curves import stage_title
from textrl.report.diagnosis import diagnose
from textrl.report.reading import RunData, read_run
from textrl.report.text import esc, num, number
from textrl.report.verdicts import Finding

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_STATUS_CSS = {"finished": "good", "running": "warn", "interrupted": "bad", "failed": "bad"}


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run folder from whatever the folder holds, and return its path.

    Raises:
        UserError: When the folder does not exist, is not a run folder, or cannot be written to.
    """
    run_dir = Path(run_dir)
    run = read_run(run_dir)
    target = run_dir / "report.html"
    # Not textrl.files.replace_file: that module imports torch, which a report does not need.
    temporary = run_dir / f".report.html.{os.getpid()}"
    try:
        temporary.write_text(render(run), encoding="utf-8", errors="replace")
        temporary.replace(target)
    except OSError as error:
        raise UserError(
            f"The report '{target}' could not be written ({error.strerror}); make room, then write it again."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def render(run: RunData) -> str:
    """Return the page."""
    findings = diagnose(run)
    shown = _sections(run, findings)
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title, _, _ in shown)
    nav = f'<nav aria-label="Sections"><ul>{links}</ul></nav>' if len(shown) > 2 else ""
    css = files("textrl.report").joinpath("style.css").read_text(encoding="utf-8")
    body = "".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-h"><h2 id="{anchor}-h">{title}</h2>'
        f"{_intro(intro)}{html}</section>"
        for anchor, title, intro, html in shown
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta name="referrer" content="no-referrer"><link rel="icon" href="data:,">'
        f"<title>{esc(run.name)} \u00b7 textrl report</title><style>{css}</style></head><body>"
        f'<header>{_top(run)}<p class="lead">{headline.sentence(run)}</p></header>'
        f"<main>{tiles.tiles(run)}{_warnings(run, findings)}{nav}{body}</main>"
        f"<footer>Written by textrl {esc(__version__)} from the files in this run\u2019s folder.</footer>"
        "</body></html>\n"
    )


def _intro(text: str) -> str:
    return f'<p class="intro">{text}</p>' if text else ""


def _sections(run: RunData, findings: list[Finding]) -> list[tuple[str, str, str, str]]:
    """Return (anchor, title, introduction, body) of the sections that have something to show."""
    shown = min(sections.SAMPLES, len(run.samples))
    prompts = int(number(run.headline.get("prompts")) or 0)
    every = (
        (
            "evidence",
            "Is the gain real?",
            "Judges were fitted before RL on other texts and other features than the policy\u2019s. The "
            "reward "
            "model is "
            "what was trained on: where it rises and the judges do not, it was gamed.",
            sections.evidence(run),
        ),
        (
            "samples",
            "Samples, before and after",
            f"{shown} of {max(len(run.samples), prompts):,} prompts, not chosen by their score.",
            sections.samples(run),
        ),
        (
            "diagnosis",
            "Diagnosis",
            "Rules over the metrics, with their thresholds.",
            sections.diagnosis(findings),
        ),
        (
            "frontier",
            "What the gain costs",
            "Reward bought with drift from the reference, and with forgetting of ordinary language.",
            sections.frontier(run),
        ),
        (
            "training",
            "Training curves",
            "Thin lines: every step; thick lines: running mean. The figure beside a name is the last value.",
            sections.training(run),
        ),
        ("time", "Time", "", sections.times(run)),
        ("reproduce", "Reproduce", "", sections.reproduction(run)),
    )
    return [section for section in every if section[3]]


def _top(run: RunData) -> str:
    status = run.status
    facts = [str(run.summary["model"])] if run.summary.get("model") else []
    if run.summary.get("seed") is not None:
        facts.append(f"seed {run.summary['seed']}")
    date = run.environment.get("date")
    if date:
        facts.append(str(date)[:16].replace("T", " "))
    rest = "".join(f"<span>{esc(fact)}</span>" for fact in facts)
    pill = f'<span class="pill {_STATUS_CSS[status]}">{status}</span>'
    return f'<div class="top"><h1>{esc(run.name)}</h1>{pill}{rest}</div>'


def _warnings(run: RunData, findings: list[Finding]) -> str:
    """Say first what a reader must know before believing the rest."""
    out = ""
    if run.status != "finished":
        out += f'<div class="banner bad" role="status"><p>{esc(_how_far(run))}</p></div>'
    alarms = [finding.title for finding in findings if finding.level == "alarm"]
    if alarms:
        names = esc(", ".join(dict.fromkeys(alarms)))
        out += f'<div class="banner bad"><p><a href="#diagnosis">Alarm</a>: {names}.</p></div>'
    if run.notes:
        out += '<div class="banner">' + "".join(f"<p>{esc(note)}</p>" for note in run.notes) + "</div>"
    return out


def _how_far(run: RunData) -> str:
    """Say how far a run came that did not finish."""
    words = {"running": "This run is still going", "failed": "This run failed"}
    text = words.get(run.status, "This run was interrupted before its end")
    planned = run.summary.get("planned_stages")
    stopped = next((stage for stage in reversed(run.stages) if stage.name not in run.done), None)
    if stopped is not None:
        at = f"in the stage {stage_title(stopped.name)}, at step {num(stopped.last_step, digits=0)}"
        text += f", {at}" if run.status == "running" else f": it stopped {at}"
    done = [stage_title(name) for name in run.done]
    if done:
        of = f" of {len(planned)}" if isinstance(planned, list) and planned else ""
        text += f"; {len(done)}{of} stage{'s' if len(done) != 1 or of else ''} finished ({', '.join(done)})"
    if run.status in ("interrupted", "failed"):
        text += ". Run the same command with --resume to continue"
    return text + "."
