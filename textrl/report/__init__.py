"""The run report: one self-contained HTML file made from a run folder.

Data flow: `reading` (files to `RunData`) -> `diagnosis` (words), `figures` and `curves` (pictures) ->
`sections` -> `page` (the file). `schema` documents what a run folder may hold. Nothing here imports
torch, so ``write_report`` works on a run folder copied to any machine.
"""

from textrl.report.page import write_report

__all__ = ["write_report"]
