"""The report's sections below the headline. Each returns HTML, empty where the run has no such part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any

from textrl.report import compare
from textrl.report.curves import curves, stage_title
from textrl.report.figures import bar, swatch
from textrl.report.reading import Estimate, RunData, estimate, gain_of, phrases_of
from textrl.report.text import clip, esc, flatten, label, num, number, percent, seconds
from textrl.report.verdicts import Finding

SAMPLES = 8
_TEXT_LABELS = {
    "distinct_1": "Distinct-1",
    "length_words": "Length, words",
    "distinct_2": "Distinct-2",
    "repetition": "Repetition",
    "length_tokens": "Length, tokens",
}
_TEXT_NOTES = {
    "distinct_1": "share of words that are different",
    "distinct_2": "share of word pairs that are different; a fall is a collapse",
    "repetition": "share of word pairs seen earlier in the same text",
}


def evidence(run: RunData) -> str:
    """Judges, the reward model's own score, and measures on which a collapse shows."""
    judges, text = _judges_table(run), _text_health(run) + _phrases(run)
    tables = judges + (f"<div>{text}</div>" if text else "")
    return _judges_figure(run) + (f'<div class="pair">{tables}</div>' if tables else "")


def _judges_figure(run: RunData) -> str:
    drawn = [
        compare.Change(str(j.get("name", "judge")), before, after, number(j.get("anchor_human_2_5")))
        for j in run.judges
        if (before := number(j.get("before"))) is not None and (after := number(j.get("after"))) is not None
    ]
    alt = "Judges' mean scores. " + " ".join(
        f"{c.name}: {num(c.before)} before, {num(c.after)} after"
        + (f", {num(c.anchor)} for people's best snippets." if c.anchor is not None else ".")
        for c in drawn
    )
    return compare.dumbbells(drawn, alt)


def _judges_table(run: RunData) -> str:
    columns: list[Mapping[str, Any]] = [*run.judges]
    model = run.part("reward_model")
    if model:
        columns.append(
            {"name": "Reward model", "features": "what PPO was trained on; its own scale", **model}
        )
    if not columns:
        return ""
    measures: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
        ("Stands on", lambda j: esc(j["features"]) if j.get("features") else "\u2013"),
        ("Agrees with people on pairs", lambda j: percent(number(j.get("pair_accuracy")))),
        ("Before", lambda j: num(number(j.get("before")), digits=2)),
        ("After", lambda j: num(number(j.get("after")), digits=2)),
        ("Gain", lambda j: _with_interval(gain_of(j), lambda v: num(v, signed=True, digits=2))),
        ("Win rate", lambda j: _with_interval(estimate(j.get("win_rate")), percent)),
        (
            "People\u2019s best snippets (rated 2.5 and more)",
            lambda j: num(number(j.get("anchor_human_2_5")), digits=2),
        ),
    )
    head = "".join(f'<th scope="col">{esc(j.get("name", "judge"))}</th>' for j in columns)
    rows = ""
    for name, show in measures:
        cells = [show(column) for column in columns]
        if any(cell != "\u2013" for cell in cells):
            rows += (
                f'<tr><th scope="row">{name}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
            )
    return (
        '<div class="scroll" role="region" aria-label="Judges and reward model" tabindex="0"><table>'
        "<caption>Every scorer on the same samples; 95 % intervals in brackets. Judges compress people\u2019s"
        " scale: compare with what they give to the snippets people liked best.</caption>"
        f'<thead><tr><th scope="col">Measure</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _with_interval(value: Estimate | None, show: Callable[[float], str]) -> str:
    if value is None:
        return "\u2013"
    if value.lo is None or value.hi is None:
        return show(value.value)
    return f'{show(value.value)} <span class="ci">[{show(value.lo)}, {show(value.hi)}]</span>'


def _text_health(run: RunData) -> str:
    rows = ""
    for key, pair in run.part("text").items():
        before = number(pair.get("before")) if isinstance(pair, Mapping) else None
        after = number(pair.get("after")) if isinstance(pair, Mapping) else None
        if before is None or after is None:
            continue
        change = num(after - before, signed=True, digits=1 if abs(before) >= 10 else 3)
        note = f'<br><span class="note">{_TEXT_NOTES[key]}</span>' if key in _TEXT_NOTES else ""
        rows += (
            f'<tr><th scope="row">{esc(_TEXT_LABELS.get(key, label(key).capitalize()))}{note}</th>'
            f"<td>{num(before)}</td><td>{num(after)}</td><td>{change}</td></tr>"
        )
    if not rows:
        return ""
    return (
        '<div class="scroll" role="region" aria-label="The text itself" tabindex="0"><table>'
        "<caption>The text itself, on the same prompts</caption>"
        '<thead><tr><th scope="col">Measure</th><th scope="col">Before</th><th scope="col">After</th>'
        f'<th scope="col">Change</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _phrases(run: RunData) -> str:
    before, after = phrases_of(run, "before"), phrases_of(run, "after")
    if not after:
        return ""
    cells = [
        [f'{esc(clip(phrase, 60))} <span class="ci">{percent(share)}</span>' for phrase, share in side]
        for side in (before, after)
    ]
    rows = "".join(
        f'<tr><td class="words">{old}</td><td class="words">{new}</td></tr>'
        for old, new in zip_longest(*cells, fillvalue="\u2013")
    )
    return (
        '<div class="scroll" role="region" aria-label="Most common phrases" tabindex="0"><table>'
        "<caption>Most common phrases, and the share of texts they stand in</caption>"
        '<thead><tr><th scope="col" class="words">Before</th><th scope="col" class="words">After</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def frontier(run: RunData) -> str:
    """KL against gain and against perplexity, for every arm."""
    found = compare.trails(run)
    if not found:
        return ""
    words = compare.equal_kl(found)
    return (f"<p>{words}</p>" if words else "") + compare.frontier_charts(found) + compare.arms_table(found)


def diagnosis(findings: list[Finding]) -> str:
    """Findings in words; the rules that found nothing fold away with their thresholds."""
    loud = [finding for finding in findings if finding.level != "quiet"]
    quiet = [finding for finding in findings if finding.level == "quiet"]
    if not findings:
        return ""
    if loud:
        items = "".join(_finding(finding) for finding in loud)
        body = f'<ul class="findings">{items}</ul>'
    else:
        body = f"<p>None of {len(quiet)} checks found anything wrong.</p>"
    if quiet:
        rows = "".join(
            f"<li><b>{esc(f.title)}</b>: {esc(f.text)} "
            f'<span class="limit">Flagged when: {esc(f.threshold)}.</span></li>'
            for f in quiet
        )
        plural = "check" if len(quiet) == 1 else "checks"
        body += (
            f'<details class="box"><summary>{len(quiet)} {plural} passed</summary><ul>{rows}</ul></details>'
        )
    return body


def _finding(finding: Finding) -> str:
    css, word = ("bad", "Alarm") if finding.level == "alarm" else ("warn", "Look")
    return (
        f'<li class="finding {finding.level}"><span class="pill {css}">{word}</span>'
        f"<strong>{esc(finding.title)}</strong>"
        f"<p>{esc(finding.text[:1].upper() + finding.text[1:])}</p>"
        f'<p class="limit">Flagged when: {esc(finding.threshold)}.</p></li>'
    )


def samples(run: RunData) -> str:
    """The first rows of samples.jsonl, before and after side by side."""
    shown = run.samples[:SAMPLES]
    if not shown:
        return ""
    items = "".join(f'<li class="sample">{_sample(run, row)}</li>' for row in shown)
    return f'<ol class="samples">{items}</ol>'


def _sample(run: RunData, row: Mapping[str, Any]) -> str:
    prompt = str(row.get("prompt", ""))
    sides = ""
    for side in ("before", "after"):
        text = str(row.get(side) if row.get(side) is not None else "")
        score = number(row.get(f"judge_{side}"))
        judged = f"<span>judge <b>{num(score, signed=True, digits=2)}</b></span>" if score is not None else ""
        body = (
            f'<bdi class="text" dir="auto">{esc(clip(text))}</bdi>'
            if text.strip()
            else '<span class="empty">(empty)</span>'
        )
        by = f'<p class="by"><span>{esc(run.name_of(side))}</span>{judged}</p>'
        sides += f'<div class="side {side}">{by}{body}</div>'
    return (
        f'<p class="prompt"><span>Prompt</span><bdi dir="auto">{esc(clip(prompt, 300)) or "(none)"}</bdi></p>'
        f'<div class="sides">{sides}</div>'
    )


def training(run: RunData) -> str:
    """Curves of every stage."""
    return curves(run.stages)


def stage_times(run: RunData) -> tuple[list[tuple[str, float]], bool]:
    """Return (name, seconds) per stage, and whether they were estimated from the metrics."""
    raw = run.summary.get("stages")
    stated = [
        (str(item.get("name", "stage")), value)
        for item in (raw if isinstance(raw, list) else [])
        if isinstance(item, Mapping) and (value := number(item.get("seconds"))) is not None and value >= 0
    ]
    if stated:
        return stated, False
    guessed, previous = [], 0.0
    for stage in run.stages:
        if stage.end_s is not None:
            guessed.append((stage.name, max(0.0, stage.end_s - previous)))
            previous = max(previous, stage.end_s)
    return guessed, True


def times(run: RunData) -> str:
    """Time per stage, downloads apart."""
    stages, estimated = stage_times(run)
    if not stages:
        return ""
    total = sum(value for _, value in stages) or 1.0
    parts = [(stage_title(name), value, seconds(value)) for name, value in stages]
    alt = "Time per stage: " + ", ".join(f"{name} {shown}" for name, _, shown in parts) + "."
    rows = "".join(
        f'<tr><th scope="row">{swatch(i)} {esc(name)}</th><td>{shown}</td>'
        f"<td>{percent(value / total)}</td></tr>"
        for i, (name, value, shown) in enumerate(parts)
    )
    extra = [("All stages", total)] if len(stages) > 1 else []
    wall, downloads = number(run.summary.get("wall_s")), number(run.summary.get("downloads_s"))
    if wall is not None and abs(wall - total) > 0.01 * total:
        extra.append(("Whole run", wall))
    if downloads is not None:
        extra.append(("Downloads, apart", downloads))
    rows += "".join(
        f'<tr><th scope="row">{name}</th><td>{seconds(value)}</td><td></td></tr>' for name, value in extra
    )
    note = (
        "Estimated from the metrics\u2019 time stamps."
        if estimated
        else "Downloads are not counted in any stage."
    )
    return (
        f'<figure class="wide">{bar(parts, alt)}<p class="note">{note}</p></figure>'
        '<div class="scroll" role="region" aria-label="Time per stage" tabindex="0"><table><thead><tr>'
        '<th scope="col">Stage</th><th scope="col">Time</th><th scope="col">Share</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def reproduction(run: RunData) -> str:
    """The exact command, versions and hardware, and the resolved config."""
    parts = []
    if run.commands:
        parts.append(f"<pre><code>{esc(chr(10).join(run.commands))}</code></pre>")
    facts = [
        (key, value)
        for key, value in (("seed", run.summary.get("seed")), ("model", run.summary.get("model")))
        if value is not None
    ]
    table = [(name, str(value)) for name, value in facts] + [
        (name.removeprefix("versions."), value)
        for name, value in flatten({k: v for k, v in run.environment.items() if k != "sessions"})
    ]
    if table:
        rows = "".join(
            f'<tr><th scope="row">{esc(name)}</th><td class="words">{esc(clip(value))}</td></tr>'
            for name, value in table
        )
        parts.append(
            '<details class="fold" open><summary>Versions and hardware</summary>'
            '<div class="scroll plain" role="region" '
            'aria-label="Versions and hardware" tabindex="0"><table><thead><tr><th scope="col">What</th>'
            '<th scope="col" class="words">Value</th></tr></thead>'
            f"<tbody>{rows}</tbody></table></div></details>"
        )
    if run.config.strip():
        parts.append(
            '<details class="fold"><summary>Resolved config</summary>'
            f"<pre><code>{esc(run.config)}</code></pre></details>"
        )
    return "".join(parts)
