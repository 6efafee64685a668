"""The run report: one self-contained HTML file made from a run folder.

Data flow: `reading` (files to `RunData`) -> `diagnosis` (words), `figures` and `curves` (pictures) ->
`sections` -> `page` (the file). `schema` documents what a run folder may hold. Nothing here imports
torch, so ``write_report`` works on a run folder copied to any machine.
"""

from pathlib import Path

from textrl.report.headline import plain_sentence
from textrl.report.page import write_report
from textrl.report.reading import read_run

__all__ = ["summary_sentence", "write_report"]


def summary_sentence(run_dir: Path) -> str:
    """Return what came out of a run in one or two sentences, for a terminal."""
    return plain_sentence(read_run(run_dir))
