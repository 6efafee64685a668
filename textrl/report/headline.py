"""The first sentence of a report: what came out of the run, in plain words with the figures."""

from __future__ import annotations

import html
import re

from textrl.report import compare
from textrl.report.curves import stage_title
from textrl.report.reading import Estimate, RunData, Stage, estimate, perplexity_change
from textrl.report.text import esc, num, number, percent


def sentence(run: RunData) -> str:
    """Return the run in plain words, as HTML."""
    words = f"{_improved(run)} {_cost(run)}".strip()
    return words or compare.equal_kl(compare.trails(run)) or _training_only(run)


def plain_sentence(run: RunData) -> str:
    """Return the run in plain words, for a terminal."""
    return html.unescape(re.sub(r"<[^>]+>", "", sentence(run))).strip()


def _improved(run: RunData) -> str:
    head = run.headline
    gain, wins = estimate(head.get("judge_gain")), estimate(head.get("win_rate"))
    count = number(head.get("prompts"))
    where = f"On {num(count, digits=0)} prompts it never saw" if count else "On prompts it never saw"
    judge = f"an independent judge ({esc(head['judge'])})" if head.get("judge") else "an independent judge"
    on = f"on <b>{percent(wins.value)}</b>{_small(share_range(wins))} of them" if wins else ""
    if gain is not None:
        rated = f"{where}, {judge} {_rates(gain, _policy(run))}"
        return f"{rated}, and prefers it {on}." if wins else f"{rated}."
    return (
        f"{where}, {judge} prefers the trained model\u2019s text to that of {_policy(run)} {on}."
        if wins
        else ""
    )


def _rates(gain: Estimate, before: str) -> str:
    new = "the trained model\u2019s text"
    lo, hi = gain.lo, gain.hi
    if lo is None or hi is None:
        word = "higher" if gain.value > 0 else "lower"
        return f"rates {new} <b>{num(abs(gain.value), digits=2)}</b> points {word} than that of {before}"
    if lo <= 0 <= hi:
        shown = (
            f"<b>{num(gain.value, signed=True, digits=2)}</b>{_small(f'95 % interval {signed_range(gain)}')}"
        )
        return f"sees <b>no clear difference</b> between {new} and that of {before}: {shown}"
    word, low, high = ("higher", lo, hi) if gain.value > 0 else ("lower", -hi, -lo)
    interval = _small(f"95 % interval {num(low, digits=2)} to {num(high, digits=2)}")
    return (
        f"rates {new} <b>{num(abs(gain.value), digits=2)}</b> points {word}{interval} than that of {before}"
    )


def _policy(run: RunData) -> str:
    named = run.part("names").get("before")
    return f"the {esc(named)} model" if named else "the model before RL"


def _cost(run: RunData) -> str:
    kl, change = estimate(run.headline.get("kl_per_sequence")), perplexity_change(run.headline)
    moved = f"The price was <b>{num(kl.value, digits=1)} nats</b> of KL per sequence" if kl else ""
    if change is None:
        return f"{moved}." if moved else ""
    corpus = run.headline.get("perplexity_corpus")
    text = f"perplexity on ordinary text ({esc(corpus)})" if corpus else "perplexity on ordinary text"
    way = "up" if change.value > 0 else "down"
    text += f" went {way} by <b>{num(abs(change.value), digits=1)}\u202f%</b>."
    return f"{moved}; {text}" if moved else text[0].upper() + text[1:]


def signed_range(gain: Estimate) -> str:
    """Return an interval with signs, empty when there is none."""
    if gain.lo is None or gain.hi is None:
        return ""
    return f"{num(gain.lo, signed=True, digits=2)} to {num(gain.hi, signed=True, digits=2)}"


def share_range(wins: Estimate) -> str:
    """Return an interval of fractions in per cent, empty when there is none."""
    if wins.lo is None or wins.hi is None:
        return ""
    return f"{num(100 * wins.lo, digits=0)} to {percent(wins.hi)}"


def _small(text: str) -> str:
    return f" <small>({text})</small>" if text else ""


def _training_only(run: RunData) -> str:
    """Return what the stages did when nothing was evaluated."""
    parts = []
    accuracy = number(run.part("reward_model").get("pair_accuracy"))
    for stage in run.stages:
        named = _main_metric(stage)
        if named:
            name, start, end = named
            title = esc(stage_title(stage.name))
            parts.append(f"{title}: {name} {num(start)} \u2192 <b>{num(end)}</b>")
    if accuracy is not None:
        parts.append(f"the reward model orders <b>{percent(accuracy)}</b> of held-out pairs as people did")
    if not parts:
        return "This run has no figures yet."
    text = "; ".join(parts)
    return f"{text}. No evaluation was recorded."


def _main_metric(stage: Stage) -> tuple[str, float, float] | None:
    choices = {
        "rollout/ep_rew_mean": "episode reward",
        "reward/total": "reward",
        "eval/loss": "held-out loss",
        "train/loss": "loss",
    }
    for key, name in choices.items():
        series = stage.series.get(key)
        if series and series.values:
            return name, series.values[0], series.values[-1]
    return None
