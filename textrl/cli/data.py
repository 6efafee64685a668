"""``textrl data check | convert``: what a file of judgements holds, and other tools' formats."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Group, Parameter

from textrl.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from textrl.data.preferences.check import FileReport
    from textrl.data.preferences.convert import Conversion
    from textrl.data.preferences.importers.base import Options

#: Names that `--columns` may give a column to.
_RENAMED = (
    "prompt chosen rejected completion completions rank ranks rating ratings likert label margin tie "
    "annotator annotators user_id group split source messages left right"
)
_JSON = Parameter(negative="", help="Print JSON.")
_COLUMNS = Parameter(
    name="--columns", negative="", help="NAME=THEIRS: the file's name for a column; may be repeated."
)
_BUCKETS = Parameter(help="Label Studio's buckets, best first, with commas between.")


def add_to(app: App, group: Group) -> None:
    """Add ``data`` and its sub-commands to the app."""
    data = App(
        name="data",
        help="Data of people's judgements: check, convert, split by user, deduplicate, screen.",
        help_epilogue="Examples: `textrl data check pairs.jsonl`, "
        "`textrl data convert trees.jsonl.gz --to trl --out pairs.parquet`",
        group=group,
    )
    data.command(check, help_epilogue="Example: `textrl data check pairs.jsonl`")
    data.command(
        convert, help_epilogue="Example: `textrl data convert export.json --to textrl --out r.jsonl`"
    )
    from textrl.cli import data_care

    data_care.add_to(data)
    app.command(data)


def check(
    file: str,
    /,
    *,
    origin: Annotated[str | None, Parameter(name="--from")] = None,
    split: str = "train",
    columns: Annotated[tuple[str, ...], _COLUMNS] = (),
    buckets: Annotated[str, _BUCKETS] = "",
    fail_on_warnings: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, _JSON] = False,
) -> int:
    """Say what a file holds, and name what is wrong with it.

    Args:
        file: A file or the id of a dataset.
        origin: Its format: textrl, trl, hh, oasst, qa-feedback, label-studio, argilla or session; guessed
            by default.
        split: Which part of a dataset.
        columns: NAME=THEIRS: the file's name for a column.
        buckets: Label Studio's buckets, best first.
        fail_on_warnings: Return 1 where there are warnings.
        json: Print JSON.

    Returns:
        0; 1 where there are warnings and `fail_on_warnings`; 2 where records cannot be used.
    """
    from textrl.data.preferences.check import inspect_file

    options = _options(columns, buckets)
    with _progress(file, "records read") as tick:
        report = inspect_file(file, origin=origin, split=split, options=options, tick=tick)
    if json:
        print(json_module.dumps(report.as_json(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(described(report)))
    return 2 if report.bad else 1 if report.warnings and fail_on_warnings else 0


def convert(
    file: str,
    /,
    *,
    to: str,
    out: str,
    origin: Annotated[str | None, Parameter(name="--from")] = None,
    form: Annotated[str | None, Parameter(name="--as")] = None,
    split: str = "train",
    columns: Annotated[tuple[str, ...], _COLUMNS] = (),
    buckets: Annotated[str, _BUCKETS] = "",
    messages: Annotated[bool, Parameter(negative="")] = False,
    skip_bad: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, _JSON] = False,
) -> int:
    """Convert a file, and say what could not come along.

    Args:
        file: A file or the id of a dataset.
        to: Format to write: textrl, trl, hh, oasst, qa-feedback, label-studio, argilla or session.
        out: File to write: .jsonl, .json (a list), .parquet; .gz packs the first two.
        origin: Format to read; guessed from the content by default.
        form: Bring all records into one form first: pair, ranking, ranking_row, rating, label,
            demonstration or prompt.
        split: Which part of a dataset.
        columns: NAME=THEIRS: the file's name for a column.
        buckets: Label Studio's buckets, best first.
        messages: Write prompts and completions as messages (trl).
        skip_bad: Pass over records that cannot be used, instead of stopping at the first.
        json: Print JSON.
    """
    from textrl.data.preferences.convert import convert as run
    from textrl.data.preferences.schema import FORMS

    if form is not None and form not in FORMS:
        raise UserError(f"--as {form}: there is no such form.{did_you_mean(form, FORMS)}")
    options = _options(columns, buckets, messages)
    with _progress(file, "records read") as tick:
        result = run(
            file,
            out,
            to=to,
            origin=origin,
            form=form,
            split=split,
            options=options,
            skip_bad=skip_bad,
            tick=tick,
        )
    if json:
        print(json_module.dumps(vars(result), indent=2, ensure_ascii=False))
    else:
        print("\n".join(_told(result)))
    return 0


def described(report: FileReport) -> Iterator[str]:
    """Yield the lines of a report; they fit one screen."""
    good = sum(report.forms.values())
    yield f"{report.path}: {report.records:,} records, format {report.format}"
    yield _row("forms", _counted(report.forms) or "none that can be used")
    if report.sizes:
        sizes = {f"K = {k}": times for k, times in sorted(report.sizes.items())}
        yield _row("rankings", f"{sum(sizes.values()):,}: {_counted(sizes)}")
        tied = report.tied_pairs / report.pairs
        yield _row("pairs", f"{report.pairs:,}, of them tied {report.tied_pairs:,} ({tied:.1%})")
    if report.ratings is not None:
        low, mean, high = report.ratings
        yield _row("ratings", f"from {low:g} to {high:g}, mean {mean:.3g}")
    if report.labels:
        yield _row("labels", _counted({str(k).lower(): v for k, v in report.labels.items()}))
    yield _row(
        "prompts", f"{report.prompts:,} distinct" + (f", by {report.users:,} users" if report.users else "")
    )
    if report.annotators:
        yield _row("annotators", f"{len(report.annotators):,}: {_counted(report.annotators)}")
    else:
        yield _row("annotators", "not named")
    if report.splits:
        yield _row("splits", _counted(report.splits))
    for column, (least, median, most, largest) in report.lengths.items():
        span = f"{least:,} to {largest:,} characters, half up to {median:,}, 95 % up to {most:,}"
        yield _row(f"{column}s", span)
    yield _row(
        "columns", ", ".join(name for name, times in report.columns.items() if times == good) or "none in all"
    )
    partial = {name: times for name, times in report.columns.items() if times < good}
    if partial:
        yield _row("  in some", _counted(partial, 6))
    if report.strangers:
        yield _row("  not read", ", ".join(report.strangers[:8]))
    for said, times in report.left_out.most_common(6):
        yield f"left out  {times:,}  {said}"
    for warning in report.warnings:
        first = f"; the first: {warning.first}" if warning.first else ""
        yield f"warning   {warning.count:,}  {warning.text}{first}"
    if report.bad:
        yield f"BAD       {report.bad:,} records cannot be used:"
        yield from (f"            {example}" for example in report.bad_examples)
        more = report.bad - len(report.bad_examples)
        if more > 0:
            yield f"            and {more:,} more"
    elif not report.warnings:
        yield "Nothing wrong was found."


def _told(result: Conversion) -> Iterator[str]:
    guessed = " (guessed from the content; --from says otherwise)" if result.guessed else ""
    yield f"read      {result.read:,} records, format {result.origin}{guessed}"
    yield f"found     {_counted(result.forms)}"
    yield f"wrote     {result.written:,} records, format {result.to}: {result.out}"
    for said, times in result.notes.most_common():
        yield f"note      {times:,}  {said}"
    if result.bad:
        yield f"BAD       {result.bad:,} records were passed over:"
        yield from (f"            {example}" for example in result.bad_examples)


def _row(name: str, value: str) -> str:
    return f"{name:<12}{value}"


def _counted(counts: Mapping[Any, int], most: int = 8) -> str:
    """Return ``a 3, b 2``, the most frequent first; what is more than `most` is counted together."""
    order = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{str(name).replace('_', ' ')} {times:,}" for name, times in order[:most]]
    rest = order[most:]
    return ", ".join(shown) + (f" and {len(rest):,} more" if rest else "")


def _options(columns: Sequence[str], buckets: str, messages: bool = False) -> Options:
    from textrl.data.preferences.importers.base import Options

    rename = {}
    for entry in columns:
        name, sign, theirs = entry.partition("=")
        if not sign or not theirs:
            raise UserError(f"--columns {entry}: write NAME=THEIRS, for example --columns prompt=question.")
        if name not in _RENAMED.split():
            raise UserError(
                f"--columns {entry}: there is no column '{name}'.{did_you_mean(name, _RENAMED.split())}"
            )
        rename[name] = theirs
    return Options(rename, tuple(part.strip() for part in buckets.split(",") if part.strip()), messages)


@contextmanager
def _progress(file: str, what: str) -> Iterator[Callable[[int], None]]:
    """Show how many records have been read, on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from textrl.data.preferences.sources import records_expected

    parts = (
        TextColumn("{task.completed:,.0f} {task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*parts, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=records_expected(file))
        yield lambda done: progress.update(task, completed=done)
