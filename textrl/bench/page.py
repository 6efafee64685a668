"""A self-contained HTML page of tables and pictures, in the report's dress."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from textrl import __version__
from textrl.bench.tables import Table
from textrl.report.text import esc

#: As in the run report: no scripts, no requests.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_OWN = (
    ".drawn svg{max-width:100%;height:auto;display:block;margin:0 auto}.drawn{margin:14px 0;padding:10px}"
    "td:not(.words),tbody th{white-space:nowrap}td.words{min-width:12em}"
)


def page(title: str, lead: str, sections: Sequence[tuple[str, Sequence[Table], Sequence[str]]]) -> str:
    """Return the page.

    Args:
        title: Its name.
        lead: One paragraph below it.
        sections: (heading, tables, SVG pictures as `textrl.bench.drawing` makes them).
    """
    css = files("textrl.report").joinpath("style.css").read_text(encoding="utf-8")
    body = "".join(
        f"<section><h2>{esc(heading)}</h2>"
        + "".join(_table(table) for table in tables)
        + "".join(f'<figure class="box drawn">{picture}</figure>' for picture in pictures if picture)
        + "</section>"
        for heading, tables, pictures in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta name="referrer" content="no-referrer"><link rel="icon" href="data:,">'
        f"<title>{esc(title)} \u00b7 textrl</title><style>{css}{_OWN}</style></head><body>"
        f'<header><div class="top"><h1>{esc(title)}</h1></div><p class="intro">{esc(lead)}</p></header>'
        f"<main>{body}</main><footer>Written by textrl {esc(__version__)}.</footer></body></html>\n"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th{_kind(i, table)}>{esc(name)}</th>" for i, name in enumerate(table.columns))
    rows = "".join(
        "<tr>"
        + "".join(
            f"<th>{esc(cell)}</th>" if i == 0 else f"<td{_kind(i, table)}>{esc(cell)}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for row in table.rows
    )
    notes = "".join(f'<p class="note">{esc(note)}</p>' for note in table.notes)
    return (
        f'<div class="scroll"><table><caption>{esc(table.title)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{notes}"
    )


def _kind(column: int, table: Table) -> str:
    return ' class="words"' if column == len(table.columns) - 1 else ""
