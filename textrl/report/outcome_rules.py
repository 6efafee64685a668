"""Rules over a run's outcome: the summary's figures and every stage's losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from textrl.report.reading import Estimate, RunData, Stage, estimate, gain_of, perplexity_change, phrases_of
from textrl.report.text import num, number, percent, short
from textrl.report.verdicts import RunRule, Verdict, judged

REPETITION_RISE = 0.10  # as a fraction of the text
DISTINCT_FALL = 0.25  # of its own value
PHRASE_SHARE = 0.25  # of the texts
LENGTH_GROWTH, LENGTH_SHRINK = 1.5, 0.6
PERPLEXITY_RISE = 10.0  # per cent
CHANCE = 0.55
OVERFIT = 1.02
TRAINED_ON = ("train/loss", "policy_loss", "value_loss", "ptx_loss", "grad_norm", "kl_ref", "entropy")


def nonfinite(run: RunData) -> Verdict | None:
    """A NaN anywhere in the metrics: grave in what was trained on, worth a look elsewhere."""
    if not run.stages:
        return None
    broken = [(stage.name, key) for stage in run.stages for key, s in stage.series.items() if s.nonfinite]
    if not broken:
        return Verdict("quiet", "every logged value is finite.")
    grave = any(key.startswith("reward/") or key.endswith(TRAINED_ON) for _, key in broken)
    shown = ", ".join(f"{stage} {key}" for stage, key in broken[:5])
    more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
    return Verdict("alarm" if grave else "notice", f"NaN or infinite values in {shown}{more}.")


def against_judge(run: RunData) -> Verdict | None:
    """The reward that was trained on rises, an independent judge's does not."""
    trained = _trained_gain(run)
    judged_by = [(str(j.get("name", "judge")), gain) for j in run.judges if (gain := gain_of(j))]
    if trained is None or not judged_by:
        return None
    name, gain = judged_by[0]
    text = f"the reward model gives {num(trained, signed=True)}, {name} {_interval(gain)}"
    if trained > 0 and gain.value < 0:
        return Verdict("alarm", f"{text}: the policy learned to please the reward model only.")
    return Verdict("quiet", text + ".")


def _trained_gain(run: RunData) -> float | None:
    """Return the gain by the reward model, or by the RL stage's own reward where there is no model."""
    stated = gain_of(run.part("reward_model"))
    if stated is not None:
        return stated.value
    for stage in run.stages:
        series = stage.series.get("rollout/ep_rew_mean")
        if series and len(series.values) >= 2:
            return series.tail()[-1] - series.head()[0]
    return None


def uncertain(run: RunData) -> Verdict | None:
    """The main judge's interval holds 0."""
    gain = estimate(run.headline.get("judge_gain"))
    if gain is None or gain.lo is None or gain.hi is None:
        return None
    inside = gain.lo <= 0 <= gain.hi
    more = "; more held-out prompts would narrow it" if inside else ""
    return judged(inside, "notice", f"the gain is {_interval(gain)}{more}.")


def judges_disagree(run: RunData) -> Verdict | None:
    """Judges on different features point in different directions."""
    gains = [(str(j.get("name", "judge")), gain) for j in run.judges if (gain := gain_of(j))]
    if len(gains) < 2:
        return None
    signs = {gain.value > 0 for _, gain in gains}
    text = ", ".join(f"{name} {_interval(gain)}" for name, gain in gains)
    return judged(len(signs) > 1, "alarm", text + ".")


def off_the_scale(run: RunData) -> Verdict | None:
    """A judge likes the policy's text better than what people liked best."""
    rows = [
        (str(j.get("name", "judge")), after, anchor)
        for j in run.judges
        if (after := number(j.get("after"))) is not None
        and (anchor := number(j.get("anchor_human_2_5"))) is not None
    ]
    if not rows:
        return None
    above = [name for name, after, anchor in rows if after > anchor]
    text = "; ".join(
        f"{name} gives {num(after)}, people's best snippets {num(anchor)}" for name, after, anchor in rows
    )
    more = ": read the samples before believing the gain" if above else ""
    return judged(bool(above), "notice", text + more + ".")


def repetition(run: RunData) -> Verdict | None:
    """The text repeats itself more."""
    pair = _pair(run.part("text").get("repetition"))
    if pair is None:
        return None
    before, after = pair
    bad = after - before > REPETITION_RISE
    return judged(bad, "alarm", f"repetition went from {num(before)} to {num(after)}.")


def variety(run: RunData) -> Verdict | None:
    """Fewer distinct word pairs: many samples say the same."""
    pair = _pair(run.part("text").get("distinct_2"))
    if pair is None or pair[0] <= 0:
        return None
    before, after = pair
    return judged(
        after < (1 - DISTINCT_FALL) * before, "alarm", f"distinct-2 went from {num(before)} to {num(after)}."
    )


def stock_phrases(run: RunData) -> Verdict | None:
    """One phrase in a large share of the texts: a collapse into praise looks like this."""
    before, after = (dict(phrases_of(run, side)) for side in ("before", "after"))
    if not after:
        return None
    phrase, share = max(after.items(), key=lambda item: item[1])
    text = f"\u201c{phrase}\u201d stands in {percent(share)} of the texts after RL"
    text += f", in {percent(before[phrase])} before" if phrase in before else ""
    return judged(share > PHRASE_SHARE and share > 2 * before.get(phrase, 0.0), "alarm", text + ".")


def evaluated_length(run: RunData) -> Verdict | None:
    """Length on held-out prompts."""
    pair = _pair(run.part("text").get("length_tokens"))
    if pair is None or pair[0] <= 0:
        return None
    before, after = pair
    bad = after > LENGTH_GROWTH * before or after < LENGTH_SHRINK * before
    return judged(bad, "alarm", f"held-out responses went from {num(before)} to {num(after)} tokens.")


def ordinary_text(run: RunData) -> Verdict | None:
    """The model forgets ordinary language."""
    change = perplexity_change(run.headline)
    if change is None:
        return None
    text = f"perplexity of ordinary text changed by {num(change.value, signed=True, digits=1)}\u202f%."
    return judged(change.value > PERPLEXITY_RISE, "alarm", text)


def weak_reward_model(run: RunData) -> Verdict | None:
    """A reward model near chance has nothing to teach."""
    accuracy = number(run.part("reward_model").get("pair_accuracy"))
    if accuracy is None:
        return None
    text = f"the reward model orders {percent(accuracy)} of held-out pairs as people did"
    best = number(run.summary.get("order_ceiling"))
    if best is None or best >= 1:
        return judged(accuracy < CHANCE, "alarm", f"{text}.")
    text += f"; people contradict each other, and no order has more than {percent(best)}."
    # Where it has all that can be had, the data are to blame.
    return judged(accuracy < CHANCE, "alarm" if accuracy < best - 1e-9 else "notice", text)


def overfitting(run: RunData) -> Verdict | None:
    """A validation loss that turns up again."""
    texts, bad = [], False
    for stage in run.stages:
        low_end = _validation(stage)
        if low_end:
            low, end = low_end
            bad = bad or end > OVERFIT * low
            texts.append(f"{stage.name}: lowest validation loss {num(low)}, last {num(end)}")
    return judged(bad, "notice", "; ".join(texts) + ".") if texts else None


def _validation(stage: Stage) -> tuple[float, float] | None:
    for key, series in stage.series.items():
        if key.endswith("loss") and key.startswith(("eval/", "val/", "val_")) and len(series.values) > 1:
            return min(series.values), series.values[-1]
    return None


def odd_preferences(run: RunData) -> Verdict | None:
    """What was said of the preferences before they were learnt from."""
    notes = run.summary.get("data_notes")
    if not isinstance(notes, list):
        return None
    text = "; ".join(str(note) for note in notes)
    return judged(bool(text), "notice", f"{text}." if text else "nothing stood out.")


def _pair(raw: object) -> tuple[float, float] | None:
    if not isinstance(raw, Mapping):
        return None
    mapping: Mapping[str, Any] = raw
    before, after = number(mapping.get("before")), number(mapping.get("after"))
    return None if before is None or after is None else (before, after)


def _interval(gain: Estimate) -> str:
    value = num(gain.value, signed=True, digits=2)
    if gain.lo is None or gain.hi is None:
        return value
    return f"{value} ({num(gain.lo, signed=True, digits=2)} to {num(gain.hi, signed=True, digits=2)})"


RUN_RULES: tuple[tuple[str, str, RunRule], ...] = (
    ("Reward up, judge down", "reward model's gain above 0 while the judge's is below 0", against_judge),
    ("Judges disagree", "gains of different sign", judges_disagree),
    ("Ordinary text", f"perplexity up by more than {short(PERPLEXITY_RISE)} %", ordinary_text),
    ("Repetition", f"repetition up by more than {short(REPETITION_RISE)}", repetition),
    ("Variety", f"distinct-2 down by more than {percent(DISTINCT_FALL)}", variety),
    (
        "Stock phrases",
        f"one phrase in more than {percent(PHRASE_SHARE)} of the texts, and twice as often as before",
        stock_phrases,
    ),
    (
        "Length on held-out prompts",
        f"after above {percent(LENGTH_GROWTH)} or below {percent(LENGTH_SHRINK)} of before",
        evaluated_length,
    ),
    (
        "Broken numbers",
        "any NaN or infinite value (alarm: in a reward, loss, gradient norm, KL or entropy)",
        nonfinite,
    ),
    ("No clear gain", "0 inside the judge's 95 % interval", uncertain),
    ("Beyond people's best", "judge's score above what snippets rated 2.5 and more get", off_the_scale),
    ("Preferences", "any contradiction, empty text, or person in two parts", odd_preferences),
    ("Reward model", f"held-out pair accuracy below {percent(CHANCE)}", weak_reward_model),
    ("Overfitting", f"last validation loss above {percent(OVERFIT)} of the lowest", overfitting),
)
