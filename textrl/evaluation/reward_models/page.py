"""The page of an evaluation: one self-contained HTML file in the run report's dress.

As there, a content security policy forbids scripts and every request, and all text of models and files is
escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from textrl import __version__
from textrl.evaluation.reward_models import sections
from textrl.evaluation.reward_models.pictures import clip_name
from textrl.evaluation.reward_models.words import findings, headline, is_contradicted, reach, ties
from textrl.report.text import esc, num, percent

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_OWN = "td:not(.words),tbody th{white-space:nowrap}td.words{min-width:11em}.who .ci{font-weight:400}"
Found = Mapping[str, Any]


def render(found: Found, command: str = "") -> str:
    """Return the page.

    Args:
        found: What `textrl.evaluation.reward_models.evaluate.evaluate` returned.
        command: The command line that made it; shown at the end.
    """
    css = files("textrl.report").joinpath("style.css").read_text(encoding="utf-8")
    every = (
        ("findings", "What to know before using it", "", sections.findings(findings(found))),
        ("accuracy", "Agreement with people", ties(found["data"]), sections.accuracy(found)),
        ("scores", "Scores as probabilities", _SCORES, sections.scores(found)),
        (
            "shortcuts",
            "Shortcuts",
            _SHORTCUTS,
            sections.length(found) + sections.shortcuts(found["shortcuts"]),
        ),
        ("others", "Beside other scorers", "", sections.others(found)),
        ("mistakes", "Largest mistakes", _MISTAKES, sections.mistakes(found["mistakes"])),
        ("data", "Data", "", sections.data(found, command)),
    )
    shown = [section for section in every if section[3]]
    links = "".join(f'<li><a href="#{anchor}">{title}</a></li>' for anchor, title, _, _ in shown)
    body = "".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-h"><h2 id="{anchor}-h">{title}</h2>'
        f"{f'''<p class='intro'>{esc(intro)}</p>''' if intro else ''}{html}</section>"
        for anchor, title, intro, html in shown
    )
    name = clip_name(found["model"]["name"])
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<meta name="referrer" content="no-referrer"><link rel="icon" href="data:,">'
        f"<title>{esc(name)} \u00b7 textrl reward evaluation</title><style>{css}{_OWN}</style></head><body>"
        f'<header><div class="top"><h1>{esc(name)}</h1><span>{esc(clip_name(found["data"]["source"]))}</span>'
        f'</div><p class="lead">{esc(headline(found))}</p></header>'
        f'<main>{_tiles(found)}<nav aria-label="Sections"><ul>{links}</ul></nav>{body}</main>'
        f"<footer>Written by textrl {esc(__version__)}.</footer></body></html>\n"
    )


_SCORES = (
    "A model trained as Bradley-Terry says that P(i preferred to j) is the sigmoid of the gap between their "
    "scores. Here is what such promises were worth."
)
_SHORTCUTS = (
    "In pairs whose sides differ in a measure: how often people prefer the side with more of it, and how "
    "often the model does. Where the two differ, the model goes by something that people do not."
)
_MISTAKES = (
    "The widest gaps in the wrong direction, one for each prompt. Some are people's fault, not the model's."
)


def _tiles(found: Found) -> str:
    people, kwise, calibrated = found["ceiling"], found["kwise"], found["calibration"]
    length = found["length"]
    limit = f", {reach(found)} in reach" if is_contradicted(found) else ""
    why = f"of pairs in people\u2019s order; chance is 50\u202f%{limit}"
    tiles = [_tile("Accuracy", found["accuracy"], why)]
    if people is not None:
        tiles.append(_tile("One person", people["human"], "against the others, a single judgement each"))
    if kwise is not None:
        chance = percent(kwise["top_1_by_chance"])
        tau = num(kwise["tau_b"]["value"], digits=2)
        tiles.append(_tile("Top 1", kwise["top_1"], f"chance {chance}; Kendall\u2019s tau-b {tau}"))
    if calibrated is not None:
        noise = f"{percent(calibrated['ece_chance'], digits=1)} would be chance"
        error = {"value": calibrated["ece"], "lo": None, "hi": None}
        tiles.append(_tile("Calibration error", error, f"of gaps read as probabilities; {noise}"))
    why = f"\u201clonger is better\u201d alone has {percent(length['length_alone']['value'])}"
    tiles.append(_tile("Length balanced", length["balanced"], why))
    return f'<ul class="tiles" aria-label="Headline figures">{"".join(tiles)}</ul>'


def _tile(what: str, figure: Found, why: str) -> str:
    ends = ""
    if figure["lo"] is not None:
        low, high = percent(figure["lo"], digits=1), percent(figure["hi"], digits=1)
        ends = f'<span class="range">{low} to {high}</span>'
    return (
        f'<li class="tile"><span class="what">{what}</span><span class="value">'
        f'{percent(figure["value"], digits=1)}</span>{ends}<span class="why">{esc(why)}</span></li>'
    )
