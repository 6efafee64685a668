"""Rules over the metrics of an RL stage.

"Start" and "end" are the first and the last fifth of the stage. Every rule returns None when the stage
does not log what it reads. What a finding most likely means, and what to do, comes from `meanings`.
"""

from __future__ import annotations

import math
from statistics import fmean, median, variance

from textrl.report import meanings
from textrl.report.meanings import LOGPROB_GAP, OFFSET, without_kl
from textrl.report.meanings import ends as _ends
from textrl.report.meanings import series_of as _get
from textrl.report.reading import Series, Stage
from textrl.report.text import num, percent, short
from textrl.report.verdicts import StageRule, Verdict, judged

NEGATIVE_KL = -0.2  # nats per sequence, mean of WINDOW steps
WINDOW = 5
FLAT_SE = 2.0  # standard errors between start and end
FLAT_STEPS = 10
ENTROPY_ALARM, ENTROPY_NOTICE, ENTROPY_RISE = 0.3, 0.5, 1.5
LENGTH_GROWTH, LENGTH_SHRINK = 1.5, 0.6
CLIP_HIGH = 0.3
PTX_RISE = 0.05  # nats per token
GRAD_SPIKE = 10.0  # times the median
KL_HIGH = 25.0  # nats per sequence
RATIO_FIRST = 1e-3  # distance of a first minibatch's ratio from 1
JUDGE_FALL = 0.25  # of the rise up to its peak


def negative_kl(stage: Stage) -> Verdict | None:
    """KL is never negative; a negative estimate means two different distributions were compared."""
    series = _get(stage, "train/kl_ref")
    if series is None:
        return None
    width = min(WINDOW, len(series.values))
    means = [fmean(series.values[i : i + width]) for i in range(len(series.values) - width + 1)]
    lowest = min(means)
    text = f"the lowest mean of {width} steps is {num(lowest)} nats"
    if lowest < NEGATIVE_KL:
        text += f"; most likely {meanings.negative_kl(stage)}"
    return judged(lowest < NEGATIVE_KL, "alarm", text + ".")


def high_kl(stage: Stage) -> Verdict | None:
    """Far from the reference, the reward model judges text it was never trained on."""
    series = _get(stage, "train/kl_ref")
    if series is None:
        return None
    end = fmean(series.tail())
    more = "; raise the KL reward's weight, or set kl_limit" if end > KL_HIGH else ""
    return judged(end > KL_HIGH, "notice", f"KL is {num(end)} nats per sequence at the end{more}.")


def _summed_reward(stage: Stage) -> Series | None:
    """Return the reward that is meant to rise: the sum of all sources but the KL penalty."""
    parts = [series for _, series in without_kl(stage)]
    if not parts:
        return _get(stage, "reward/total", "rollout/ep_rew_mean")
    shared = sorted(set.intersection(*(set(part.steps) for part in parts)))
    at = [dict(zip(part.steps, part.values, strict=True)) for part in parts]
    return Series(tuple(shared), tuple(math.fsum(part[step] for part in at) for step in shared))


def flat_reward(stage: Stage) -> Verdict | None:
    """No rise beyond the noise of the steps themselves."""
    series = _summed_reward(stage)
    if series is None or len(series.values) < FLAT_STEPS:
        return None
    head, tail = series.head(), series.tail()
    error = (
        math.sqrt(variance(head) / len(head) + variance(tail) / len(tail))
        if min(len(head), len(tail)) > 1
        else 0.0
    )
    rise = fmean(tail) - fmean(head)
    text = f"reward without the KL penalty went from {num(fmean(head))} to {num(fmean(tail))}"
    text += f" (standard error {num(error)})"
    flat = rise <= FLAT_SE * error
    more = f"; most likely {meanings.flat_reward(stage)}" if flat else ""
    return judged(flat, "notice", text + more + ".")


def entropy(stage: Stage) -> Verdict | None:
    """The policy narrows to a few texts, or dissolves."""
    series = _get(stage, "train/entropy")
    if series is None:
        return None
    start, end = _ends(series)
    if start <= 0:
        return None
    text = (
        f"entropy went from {num(start)} to {num(end)} nats per token ({percent(end / start)} of its start)"
    )
    bad = end < ENTROPY_NOTICE * start or end > ENTROPY_RISE * start
    more = f"; most likely {meanings.entropy(stage, start, end)}" if bad else ""
    return judged(bad, "alarm" if end < ENTROPY_ALARM * start else "notice", text + more + ".")


def length(stage: Stage) -> Verdict | None:
    """Rewards that favour long or short text are gamed by length."""
    series = _get(stage, "rollout/ep_len_mean")
    if series is None:
        return None
    start, end = _ends(series)
    text = f"responses went from {num(start)} to {num(end)} tokens"
    eos = _get(stage, "rollout/eos_rate")
    if eos is not None:
        text += f"; {percent(_ends(eos)[0])} ended by themselves at the start"
        text += f", {percent(_ends(eos)[1])} at the end"
    bad = end > LENGTH_GROWTH * start or end < LENGTH_SHRINK * start
    more = f"; most likely {meanings.length(stage, start, end)}" if bad else ""
    return judged(bad, "alarm", text + more + ".")


def clipping(stage: Stage) -> Verdict | None:
    """Updates so large that PPO cuts most of them."""
    series = _get(stage, "train/clip_fraction")
    if series is None:
        return None
    end = fmean(series.tail())
    more = "; lower the learning rate or the number of epochs" if end > CLIP_HIGH else ""
    return judged(end > CLIP_HIGH, "notice", f"{percent(end)} of tokens are clipped at the end{more}.")


def critic(stage: Stage) -> Verdict | None:
    """A critic worse than a constant adds noise to the advantages."""
    series = _get(stage, "train/explained_variance")
    if series is None:
        return None
    end = fmean(series.tail())
    more = "; raise value_learning_rate, or start the value network from the reward model" if end < 0 else ""
    return judged(end < 0, "notice", f"explained variance is {num(end)} at the end{more}.")


def forgetting(stage: Stage) -> Verdict | None:
    """The pretraining loss rises although it is trained on."""
    series = _get(stage, "train/ptx_loss")
    if series is None:
        return None
    start, end = _ends(series)
    bad = end - start > PTX_RISE
    more = "; raise ptx_coef, or the KL reward's weight" if bad else ""
    return judged(bad, "notice", f"ptx loss went from {num(start)} to {num(end)} nats per token{more}.")


def spikes(stage: Stage) -> Verdict | None:
    """Single updates far larger than the others."""
    series = _get(stage, "train/grad_norm")
    if series is None:
        return None
    middle = median(series.values)
    count = sum(value > GRAD_SPIKE * middle for value in series.values)
    text = f"the largest gradient norm is {num(max(series.values))}, the median {num(middle)}"
    return judged(
        count > 0, "notice", f"{text}; {count} of {len(series.values)} steps are above the threshold."
    )


def logprob_gap(stage: Stage) -> Verdict | None:
    """Rollout and training must compute the same log-probabilities."""
    series = _get(stage, "train/logprob_gap")
    if series is None:
        return None
    worst = max(abs(value) for value in series.values)
    bad = worst > LOGPROB_GAP
    more = "; set precision to fp32" if bad else ""
    return judged(
        bad, "notice", f"log-probs of rollout and training differ by up to {num(worst)} nats{more}."
    )


def first_ratio(stage: Stage) -> Verdict | None:
    """Before the first step of an update the policy is the one that acted: every ratio must be 1."""
    found = [s for end in ("min", "max") if (s := _get(stage, f"train/ratio_first_{end}"))]
    if not found:
        return None
    worst = max(abs(value - 1) for series in found for value in series.values)
    more = "; something random, such as dropout, is at work in training" if worst > RATIO_FIRST else ""
    return judged(
        worst > RATIO_FIRST, "notice", f"ratios of first minibatches are within {num(worst)} of 1{more}."
    )


def offset(stage: Stage) -> Verdict | None:
    """A reference that is stored in another way has a KL to the policy before anything is learnt."""
    series = stage.series.get("train/kl_offset")
    if series is None or not series.values:
        return None
    start = series.values[-1]
    more = "; set reference_precision to fp16 or same" if abs(start) > OFFSET else ""
    return judged(
        abs(start) > OFFSET, "notice", f"before any step the KL was {num(start)} nats per sequence{more}."
    )


def judge_falls(stage: Stage) -> Verdict | None:
    """Over-optimisation inside one run: the judge's curve turns down while the reward still climbs."""
    reward = _summed_reward(stage)
    judge = next((s for k, s in stage.series.items() if "judge" in k.lower() and len(s.values) >= 3), None)
    if reward is None or judge is None or not reward.values:
        return None
    first, last, peak = judge.values[0], judge.values[-1], max(judge.values)
    start, end = _ends(reward)
    text = f"the judge peaked at {num(peak)} and ended at {num(last)}"
    text += f" while the reward went from {num(start)} to {num(end)}."
    return judged(end > start and peak - last > JUDGE_FALL * max(peak - first, 1e-9), "alarm", text)


STAGE_RULES: tuple[tuple[str, str, StageRule], ...] = (
    ("Negative KL", f"mean of {WINDOW} steps below {short(NEGATIVE_KL)} nats per sequence", negative_kl),
    ("Flat reward", f"rise from start to end within {short(FLAT_SE)} standard errors", flat_reward),
    (
        "Entropy",
        f"end below {percent(ENTROPY_NOTICE)} of start (alarm: {percent(ENTROPY_ALARM)}) "
        f"or above {percent(ENTROPY_RISE)}",
        entropy,
    ),
    (
        "Response length",
        f"end above {percent(LENGTH_GROWTH)} or below {percent(LENGTH_SHRINK)} of start",
        length,
    ),
    ("Far from the reference", f"KL above {short(KL_HIGH)} nats per sequence at the end", high_kl),
    ("Clipping", f"more than {percent(CLIP_HIGH)} of tokens clipped at the end", clipping),
    ("Critic", "explained variance below 0 at the end", critic),
    ("Pretraining loss", f"end more than {short(PTX_RISE)} nats per token above start", forgetting),
    ("Gradient spikes", f"a norm above {short(GRAD_SPIKE)} times the median", spikes),
    ("Rollout against training", f"log-probs differ by more than {short(LOGPROB_GAP)} nats", logprob_gap),
    ("Ratio at the start", f"a first minibatch's ratio off 1 by more than {short(RATIO_FIRST)}", first_ratio),
    ("KL before training", f"beyond {short(OFFSET)} nats per sequence at step 0", offset),
    (
        "Judge turns down",
        f"judge below its peak by more than {percent(JUDGE_FALL)} of its rise while reward rises",
        judge_falls,
    ),
)
