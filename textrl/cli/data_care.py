"""``textrl data split | dedup | screen | stats | agreement``: care for data before anything is trained on it.

What the commands need is imported when one of them runs.
"""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

_Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]
_Flag = Annotated[bool, Parameter(negative="", show_default=False)]


def add_to(app: App) -> None:
    """Add the commands to the app of ``textrl data``."""
    app.command(
        split, help_epilogue="Example: `textrl data split rankings.jsonl --by user_id --out data/parts`"
    )
    app.command(dedup, help_epilogue="Example: `textrl data dedup prompts.jsonl --out unique.jsonl`")
    app.command(
        screen,
        help_epilogue="Example: `textrl data screen data/parts/train.jsonl --action mask --out train.jsonl`",
    )
    app.command(stats, help_epilogue="Example: `textrl data stats prompts.jsonl`")
    app.command(agreement, help_epilogue="Example: `textrl data agreement ratings.jsonl`")


def split(
    file: Path,
    /,
    *,
    out: Path,
    by: _Names = ("user_id",),
    test: float = 0.1,
    validation: float = 0.1,
    max_per_user: int | None = None,
    shared_prompts: _Flag = False,
    seed: int = 0,
    json: _Flag = False,
) -> int:
    """Split a file so that no user, group or prompt is in two parts.

    Records come out unchanged. Groups and prompts (without regard to case and white space) are always kept
    whole; so is everything that hangs together through them.

    Args:
        file: A .jsonl, .jsonl.gz or .parquet file.
        out: The folder to make, with train, validation, test and split.json.
        by: Columns whose values are kept whole too, for example user_id or annotator; --by alone means none.
        test: Share of the records to test on.
        validation: Share of the records to validate on.
        max_per_user: Most prompts of one user (the first column of --by); others are left out.
        shared_prompts: Let a prompt be in two parts, where a file has few prompts.
        seed: Another one gives another split.
        json: Print JSON.
    """
    from textrl.data.preferences.split import SplitSettings
    from textrl.data.preferences.split_files import split_file

    settings = SplitSettings(by, test, validation, max_per_user, shared_prompts, seed)
    report = split_file(file, out, settings)
    if json:
        return _json(report.plain())
    rows = [
        [name, f"{part['records']:,}", f"{part['share']:.1%}", f"{part['asked']:.1%}"]
        + [f"{count:,}" for count in part["distinct"].values()]
        for name, part in report.parts.items()
    ]
    columns = [_plural(name) for name in next(iter(report.parts.values()))["distinct"]]
    _table(["part", "records", "share", "asked", *columns], rows)
    held = [name for name in settings.apart if any(part["distinct"][name] for part in report.parts.values())]
    both = ", ".join(f"{report.both_sides[name]} {_plural(name)}" for name in held)
    print(f"\nIn two parts: {both or 'nothing'}.")
    if report.left_out:
        print(f"Left out by --max-per-user: {report.left_out:,} of {report.records:,} records.")
    _warn(report.warnings)
    print(f"Written to {out}.")
    return 0


def dedup(
    file: Path,
    /,
    *,
    out: Path | None = None,
    method: _Names = ("prefix",),
    on: Literal["prompt", "text"] = "prompt",
    prefix: int = 200,
    threshold: float = 0.8,
    pairs: Path | None = None,
    json: _Flag = False,
) -> int:
    """Find records that repeat others: identical ones, and prompts that are nearly the same.

    Args:
        file: A .jsonl, .jsonl.gz or .parquet file.
        out: The file to write without them; without it they are only counted.
        method: How to find prompts that are nearly the same: prefix (they begin with the same characters),
            minhash (they share most runs of five characters; needs datasketch), or both.
        on: Compare the prompts, or prompt and completions as one text.
        prefix: For prefix: how many characters must be the same.
        threshold: For minhash: share of runs that must be in common (Jaccard similarity).
        pairs: JSONL to write with each record that goes and the one that stays for it.
        json: Print JSON.
    """
    from textrl.data.preferences.dedup import DedupSettings, dedup_file

    report = dedup_file(file, DedupSettings(method, on, prefix, threshold), out, pairs)
    if json:
        return _json(report.plain())
    print(
        f"{report.records:,} records, {report.prompts:,} different {'texts' if on == 'text' else 'prompts'}"
    )
    _table(["duplicates", "records"], [[name, f"{count:,}"] for name, count in report.removed.items()])
    print(f"\n{report.kept:,} records stay.")
    for name, examples in report.examples.items():
        for example in examples:
            like = (
                f"{example['similarity']:.0f} characters"
                if name == "prefix"
                else f"{example['similarity']:.2f}"
            )
            print(f"\n{name}, {like} in common:\n  stays  {example['kept']}\n  goes   {example['removed']}")
    _warn(report.warnings)
    print(
        f"\nWritten to {out}."
        if out
        else "\nNothing is written; add --out FILE to write the records that stay."
    )
    return 0


def screen(
    file: Path,
    /,
    *,
    action: Literal["report", "mask", "drop"] = "report",
    out: Path | None = None,
    kinds: _Names = (),
    json: _Flag = False,
) -> int:
    """Find personal data: e-mail, IBAN, payment card, social security number, IP address, telephone number.

    Names and addresses of houses are not found: no pattern tells them from other words. Screen the part that
    is trained on, after the split.

    Args:
        file: A .jsonl, .jsonl.gz or .parquet file.
        action: Report what is there, mask it (as [EMAIL]), or drop the records that have it.
        out: The file to write with mask or drop.
        kinds: Only these: email, iban, card, ssn, ip, phone.
        json: Print JSON.
    """
    from textrl.data.preferences.pii import screen_file

    report = screen_file(file, action, out, kinds)
    if json:
        return _json(report.plain())
    print(f"{report.affected:,} of {report.records:,} records have personal data.")
    if report.findings:
        print()
        rows = [
            [
                kind,
                f"{count:,}",
                ", ".join(f"{at['row']} ({at['column']}) {at['text']}" for at in report.places[kind]),
            ]
            for kind, count in sorted(report.findings.items(), key=lambda item: -item[1])
        ]
        _table(["kind", "found", "first records"], rows, left=(0, 2))
        print("\nPatterns and check digits found these; names and addresses of houses are not looked for.")
    if out is not None:
        print(f"Written to {out}: {report.written:,} records.")
    return 0


def stats(source: str, /, *, split: str = "train", json: _Flag = False) -> int:
    """Count kinds of prompts, lengths, users and annotators.

    Args:
        source: A .jsonl(.gz), .json or .parquet file, or a dataset's id.
        split: Which part of a dataset.
        json: Print JSON.
    """
    from textrl.data.preferences.statistics import statistics_of

    report = statistics_of(source, split=split)
    if json:
        return _json(report.plain())
    forms = ", ".join(f"{count:,} {form.replace('_', ' ')}" for form, count in report.forms.items())
    print(f"{report.records:,} records ({forms}), {report.prompts:,} different prompts\n")
    heads = ["texts", "words: mean", "p05", "p50", "p95", "p99", "max", "characters: mean"]
    rows = [
        [f"{kind} prompts", *_lengths(found["lengths"])]
        for kind, found in report.kinds.items()
        if found["lengths"]
    ]
    rows += [[column, *_lengths(vars(one))] for column, one in report.completions.items()]
    _table(["", *heads], rows)
    print()
    if report.longer_chosen is not None:
        print(
            f"The chosen completion is the longer one in {report.longer_chosen:.1%} of "
            f"{report.pairs_compared:,} pairs."
        )
    for column, found in report.people.items():
        print(
            f"{column}: {found['people']:,} in {found['records']:,} records; the busiest has "
            f"{found['busiest']:,} ({found['busiest_share']:.1%})."
        )
    if report.splits:
        print("split: " + ", ".join(f"{name} {count:,}" for name, count in report.splits.items()) + ".")
    return 0


def agreement(
    source: str, /, *, resamples: int = 1000, seed: int = 0, split: str = "train", json: _Flag = False
) -> int:
    """Measure how far people agree: pairwise share, Krippendorff's alpha, Cohen's kappa, with intervals.

    Args:
        source: A .jsonl(.gz), .json or .parquet file, or a dataset's id, with rankings, ratings or labels.
        resamples: Of the bootstrap over prompts that gives the 95 % intervals.
        seed: Of the bootstrap.
        split: Which part of a dataset.
        json: Print JSON.
    """
    from textrl.data.preferences.agreement import agreement_of

    report = agreement_of(source, resamples=resamples, seed=seed, split=split)
    if json:
        return _json(report.plain())
    for kind, found in report.kinds.items():
        print(
            f"{kind}: {found.judgements:,} judgements of {found.items:,} items, {found.shared:,} of them "
            f"by two people or more ({found.clusters:,} prompts), {found.raters:,} named people"
        )
        rows = [["people who agree", _figure(found.agreement, percent=True)]]
        if found.ties is not None:
            rows.append(["  where neither says tie", _figure(found.without_ties, percent=True)])
            rows.append(["ties among judgements", f"{found.ties:.1%}"])
        rows += [[f"alpha, {metric}", _figure(figure)] for metric, figure in found.alpha.items()]
        if found.kappa_mean is not None:
            rows.append([f"kappa, mean of {found.kappa_pairs:,} pairs of people", f"{found.kappa_mean:.3f}"])
        rows += [
            [f"  {' and '.join(line['raters'])} ({line['items']:,} items)", _figure(line["kappa"])]
            for line in found.kappas
        ]
        for row in rows:
            print(f"  {row[0]:<{max(len(one[0]) for one in rows)}}  {row[1]}")
        if found.repeated:
            print(
                f"  {found.repeated:,} judgements repeat one of the same person, {found.contradicted:,} of "
                "them say something else; they are left out."
            )
        for note in found.notes:
            print(f"  {note}")
        print()
    if report.anonymous:
        print(f"{report.anonymous:,} judgements name nobody and are taken for different people's.")
    if report.others:
        print(f"{report.others:,} records judge nothing.")
    print(f"Intervals: 95 %, {report.resamples:,} bootstrap resamples of whole prompts, seed {report.seed}.")
    return 0


def _json(report: Mapping[str, Any]) -> int:
    print(json_module.dumps(report, indent=1, ensure_ascii=False, allow_nan=False))
    return 0


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"\nWarning: {warning}")


def _plural(column: str) -> str:
    return {"user_id": "users", "prompt": "prompts", "group": "groups", "annotator": "annotators"}.get(
        column, f"'{column}'"
    )


def _lengths(lengths: Mapping[str, Any]) -> list[str]:
    words = lengths["words"]
    shown = [
        f"{words['mean']:,.1f}",
        *(f"{words[name]:,.0f}" for name in ("p05", "p50", "p95", "p99", "max")),
    ]
    return [f"{lengths['texts']:,}", *shown, f"{lengths['characters']['mean']:,.0f}"]


def _figure(figure: Mapping[str, float | None] | None, percent: bool = False) -> str:
    if figure is None or figure["value"] is None:
        return "not defined (nothing can disagree)"
    form = "{:.1%}" if percent else "{:.3f}"
    if figure["lo"] is None or figure["hi"] is None:
        return form.format(figure["value"]) + " (one prompt: no interval)"
    return f"{form.format(figure['value'])} [{form.format(figure['lo'])}, {form.format(figure['hi'])}]"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> None:
    """Print columns, numbers to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
