"""The sections of an evaluation's page; each returns HTML, empty where there is nothing to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textrl.evaluation.reward_models.pictures import Row, clip_name, histogram, reliability, whiskers
from textrl.evaluation.reward_models.words import (
    Finding,
    contradicted,
    is_contradicted,
    margin_name,
    members_and_others,
    points,
    share,
)
from textrl.report.text import clip, esc, num, percent

Found = Mapping[str, Any]


def findings(some: Sequence[Finding]) -> str:
    """Everything worth a warning, with its threshold."""
    if not some:
        return "<p>No check found anything.</p>"
    items = ""
    for one in some:
        css, word = ("bad", "Alarm") if one.level == "alarm" else ("warn", "Look")
        items += (
            f'<li class="finding {one.level}"><span class="pill {css}">{word}</span>'
            f"<strong>{esc(one.title)}</strong><p>{esc(one.text)}</p>"
            f'<p class="limit">Said when {esc(one.threshold)}.</p></li>'
        )
    return f'<ul class="findings">{items}</ul>'


def accuracy(found: Found) -> str:
    """Shares of pairs in people's order: all, by group, by margin, and what people reach."""
    rows, people = [Row("All pairs", found["accuracy"])], found["ceiling"]
    against = is_contradicted(found)
    if against:
        rows.append(Row("The most that any scores could have", found["reachable"]["accuracy"], 1))
    if people is not None:
        rows += [
            Row("One person, against the others", people["human"], 1),
            Row("The model, on those pairs", people["model"]),
            Row("Two persons, against each other", people["between"], 1),
        ]
    legend = [(0, "the model"), (1, "people")] if people is not None or against else []
    note = f"{contradicted(found) if against else ''} {_basis(people)}".strip()
    html = whiskers(rows, "Agreement with people", legend=legend, note=note)
    for column, groups in found["by"].items():
        html += f"<h3>By {esc(column)}</h3>"
        html += whiskers([Row(_with_n(one), one["accuracy"]) for one in groups], f"Accuracy by {column}")
    if found["margins"]:
        kind = found["data"]["margin"]
        margins = [
            Row(f"{margin_name(one, kind)} (n {one['accuracy']['n']:,.0f})", one["accuracy"])
            for one in found["margins"]
        ]
        html += "<h3>By margin</h3>" + whiskers(margins, "Accuracy by margin")
    return html + _kwise(found["kwise"])


def _with_n(one: Found) -> str:
    return f"{clip_name(one['name'])} (n {one['accuracy']['n']:,.0f})"


def _basis(people: Found | None) -> str:
    if people is None:
        return ""
    if people["basis"] == "ratings":
        return (
            "One rating of each text is set apart and held against the mean of the others, and so is the "
            "model. The raters of two texts need not be the same people."
        )
    return (
        f"{people['annotators']} annotators; where several judged the same two texts, each is held against "
        "the majority of the others, and so is the model."
    )


def _kwise(found: Found | None) -> str:
    if found is None:
        return ""
    tau = found["tau_b"]
    ends = "" if tau["lo"] is None else f" [{num(tau['lo'], digits=2)}, {num(tau['hi'], digits=2)}]"
    rows = [
        ("Rankings of three and more", f"{found['rankings']:,}"),
        ("Left out, since people tied all", f"{found['all_tied']:,}"),
        ("Kendall\u2019s tau-b, mean", f"{num(tau['value'], digits=3)}{ends}"),
        ("Top 1", share(found["top_1"])),
        ("Top 1 by chance", percent(found["top_1_by_chance"], digits=1)),
    ]
    note = (
        "Top 1: the highest-scored text is among those that people ranked best; of equal scores one is "
        "drawn. tau-b corrects for ties on both sides; it is 0 where the model ties all."
    )
    return "<h3>Whole rankings</h3>" + _table(("Measure", "Value"), rows, "Rankings of K texts", note)


def scores(found: Found) -> str:
    """The calibration curve, and how scores are spread."""
    curve = reliability(found["calibration"]) if found["calibration"] is not None else ""
    spread = histogram(found["scores"]["histogram"])
    names = (("all", "All texts"), ("better", "Better sides"), ("worse", "Worse sides"), ("gap", "Gaps"))
    scores = found["scores"]
    rows = [(name, *_quantiles(scores[key])) for key, name in names]
    rows.append(("Gaps of decided pairs, size", *_quantiles(scores["decided_gap"])))
    if scores["tied_gap"] is not None:
        rows.append(("Gaps of tied pairs, size", *_quantiles(scores["tied_gap"])))
    head = ("Of", "mean", "sd", "least", "5 %", "median", "95 %", "greatest")
    note = (
        "Tied pairs should have the smaller gaps."
        if scores["tied_gap"] is not None
        else "There are no tied pairs to compare with."
    )
    return f'<div class="charts two">{curve}{spread}</div>' + _table(
        head, rows, "How scores are spread", note
    )


def _quantiles(one: Found) -> tuple[str, ...]:
    return tuple(num(one[key]) for key in ("mean", "sd", "least", "q05", "median", "q95", "greatest"))


def length(found: Found) -> str:
    """Accuracies that length explains, and those that it does not."""
    length, accuracy = found["length"], found["accuracy"]
    rows = [
        Row("The model, all pairs", accuracy),
        Row("\u201clonger is better\u201d alone", length["length_alone"], 5),
        Row("where people prefer the longer", length["when_longer"]),
        Row("where people prefer the shorter", length["when_shorter"]),
        Row("both of these counted the same", length["balanced"]),
        Row("lengths alike (within a tenth)", length["alike"]),
        Row("gaps without what length explains", length["residual"]),
    ]
    twice = num(length["gap_for_twice_the_length"], signed=True, digits=2)
    note = (
        f"A model that goes by length alone has 50 % in the balanced row. Twice the length moves the gap by "
        f"{twice} of its standard deviations."
    )
    return whiskers(rows, "Accuracy and length", note=note)


def shortcuts(rows: Sequence[Found]) -> str:
    """What the model goes by, beside what people go by."""
    known = [row for row in rows if row["people"]["value"] is not None]
    drawn = [
        Row(f"{row['measure']} (n {row['model']['n']:,.0f})", row["model"], 0, row["people"]) for row in known
    ]
    legend = [(0, "the model prefers more of it"), (1, "people do")]
    table = [
        (
            row["measure"],
            f"{row['model']['n']:,.0f}",
            share(row["people"]),
            share(row["model"]),
            points(row["excess"]),
            num(row["correlation"], signed=True, digits=2),
        )
        for row in known
    ]
    head = ("Measure", "pairs", "people", "model", "model - people", "correlation")
    note = "Correlation: of scores with the measure, both as distances from the mean of their prompt."
    absent = [row["measure"] for row in rows if row["people"]["value"] is None]
    if absent:
        note += f" In no pair do the sides differ in: {', '.join(absent)}."
    return whiskers(drawn, "Shortcuts", legend=legend) + (
        _table(head, table, "How often the side with more of it is preferred", note) if table else ""
    )


def others(found: Found) -> str:
    """An ensemble's members and the scorers it is compared with."""
    others = members_and_others(found)
    if not others:
        return ""
    rows = [Row(found["model"]["name"], found["accuracy"])]
    rows += [Row(one["name"], one["accuracy"], 5) for one in others]
    table = [
        (
            clip_name(one["name"]),
            share(one["accuracy"]),
            points(one["difference"]),
            share(one["agreement"]),
            num(one["correlation"], signed=True, digits=2),
            one["about"],
        )
        for one in others
    ]
    head = ("Scorer", "accuracy", "the model is better by", "agree on pairs", "correlation", "what it is")
    note = "Differences are of the same pairs, resampled together. Ensemble members come first."
    spread = found["model"].get("disagreement")
    if spread is not None:
        note += f" Members differ on a text by {num(spread, digits=2)} of the standard deviation of texts."
    return whiskers(rows, "Accuracy of scorers") + _table(head, table, "Other scorers", note, words=True)


def mistakes(rows: Sequence[Found]) -> str:
    """The widest gaps in the wrong direction, side by side."""
    items = ""
    for row in rows:
        prompt = (
            f'<p class="prompt"><span>Prompt</span><bdi dir="auto">{esc(clip(row["prompt"], 300))}</bdi></p>'
        )
        sides = ""
        for side, css, said in (
            ("better", "before", "People prefer"),
            ("worse", "after", "The model prefers"),
        ):
            sides += (
                f'<div class="side {css}"><p class="by"><span>{said}</span>'
                f"<span>score <b>{num(row[f'score_{side}'], digits=2)}</b></span></p>"
                f'<bdi class="text" dir="auto">{esc(clip(row[side]))}</bdi></div>'
            )
        shown = prompt if row["prompt"].strip() else ""
        items += f'<li class="sample">{shown}<div class="sides">{sides}</div></li>'
    return f'<ol class="samples">{items}</ol>' if items else ""


def data(found: Found, command: str) -> str:
    """What was evaluated, and the command."""
    data = found["data"]
    rows = [
        ("File", data["source"]),
        ("Model", f"{found['model']['name']}: {found['model']['about']}"),
        ("Texts", f"{data['texts']:,} of {data['prompts']:,} prompts"),
        ("Pairs", f"{data['pairs']:,}, of which {data['decided']:,} decided and {data['ties']:,} ties"),
    ]
    if data["rankings"]:
        low, high = data["k"]
        sizes = f"{low}" if low == high else f"{low} to {high}"
        rows.append(
            ("Rankings", f"{data['rankings']:,} of {sizes} texts, {data['annotators']:,} annotators named")
        )
    rows.append(("Resampling", f"{data['resamples']:,} bootstrap resamples, seed {data['seed']}"))
    rows += [("Note", note) for note in data["notes"]]
    shown = f"<pre><code>{esc(command)}</code></pre>" if command else ""
    return _table(("What", "Value"), rows, "What was evaluated", "", words=True) + shown


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], title: str, note: str, *, words: bool = False
) -> str:
    """Return a table; with `words` the last column is running text."""

    def css(column: int) -> str:
        return ' class="words"' if words and column == len(head) - 1 else ""

    columns = "".join(f'<th scope="col"{css(i)}>{esc(name)}</th>' for i, name in enumerate(head))
    body = "".join(
        f'<tr><th scope="row">{esc(row[0])}</th>'
        + "".join(f"<td{css(i)}>{esc(clip(cell, 300))}</td>" for i, cell in enumerate(row) if i)
        + "</tr>"
        for row in rows
    )
    below = f'<p class="note">{esc(note)}</p>' if note else ""
    return (
        f'<div class="scroll" role="region" aria-label="{esc(title)}" tabindex="0"><table>'
        f"<caption>{esc(title)}</caption><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>{below}"
    )
