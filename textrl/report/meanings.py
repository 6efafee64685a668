"""What a broken curve most likely means in this run, and which setting to turn.

The same symptom has several causes. Other metrics of the stage tell them apart; each function returns
the likeliest one that they allow, as a clause that continues the finding's sentence.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from textrl.report.reading import Series, Stage
from textrl.report.text import num, percent

LOGPROB_GAP = 0.05  # nats
OFFSET = 0.1  # nats per sequence
STILL = 1e-5  # nats per token: an update that hardly moves the policy
MOVED = 1.0  # nats per sequence: a policy that did move
HELD_BACK = 0.5  # share of an iteration's learning rate
EOS_FALL = 0.15  # of the episodes


def series_of(stage: Stage, *keys: str) -> Series | None:
    """Return the first of the metrics that has at least two values."""
    return next((s for key in keys if (s := stage.series.get(key)) and len(s.values) >= 2), None)


def ends(series: Series) -> tuple[float, float]:
    """Return the means of the first and of the last fifth."""
    return fmean(series.head()), fmean(series.tail())


def without_kl(stage: Stage) -> Iterator[tuple[str, Series]]:
    """Yield the reward's sources by name, all but the KL penalty."""
    for key, series in stage.series.items():
        name = key.removeprefix("reward/")
        if name != key and name != "total" and "kl" not in name.lower().split("_"):
            yield name, series


def negative_kl(stage: Stage) -> str:
    """Why an estimate of the KL lies below 0."""
    gap, offset = _worst(stage, "train/logprob_gap"), _last(stage, "train/kl_offset")
    if gap is not None and gap > LOGPROB_GAP:
        return (
            f"the text is sampled from another distribution than it is scored under (log-probs differ by up "
            f"to {num(gap)} nats): look for top-k, top-p or dropout, and set precision to fp32"
        )
    if offset is not None and offset < -OFFSET:
        return (
            f"the reference is stored in low precision, which alone gave {num(offset)} nats at step 0: set "
            "reference_precision to fp16 or same"
        )
    k3 = series_of(stage, "train/kl_ref_k3")
    if k3 is not None and fmean(k3.values) < MOVED:
        return (
            f"the policy has hardly moved (k3, which is never negative, is {num(fmean(k3.values))}) and the "
            "mean of few sequences falls below 0 by chance: raise episodes_per_iteration"
        )
    return (
        "the policy writes text that is likelier under the reference than under itself, so another "
        "distribution sampled than scored (temperature, top-k, dropout?): compare the sampling settings, and "
        "raise episodes_per_iteration to rule out chance"
    )


def flat_reward(stage: Stage) -> str:
    """Why the reward does not rise."""
    sources = list(without_kl(stage))
    constant = [name for name, series in sources if len(set(series.values)) == 1]
    if sources and len(constant) == len(sources):
        return (
            f"every text gets the same reward ({', '.join(constant)} never changed), so there is nothing to "
            "learn: check the source on texts of your own"
        )
    factor = series_of(stage, "train/kl_back_off")
    if factor is not None and fmean(factor.tail()) < HELD_BACK:
        return "kl_limit holds the policy back: raise it, or the KL reward's weight"
    step, kl = series_of(stage, "train/approx_kl"), series_of(stage, "train/kl_ref")
    if step is not None and fmean(step.values) < STILL:
        return (
            f"the policy hardly moves ({num(fmean(step.values))} nats per token and update): raise "
            "learning_rate, or epochs"
        )
    if kl is not None and ends(kl)[1] > MOVED:
        return (
            f"the policy moves (KL {num(ends(kl)[1])} nats) but not towards reward, so the signal is lost in "
            "noise: raise episodes_per_iteration, or lower learning_rate"
        )
    return (
        "the pull towards the reference is stronger than the reward: lower the KL reward's weight, raise "
        "learning_rate, or train longer"
    )


def entropy(stage: Stage, start: float, end: float) -> str:
    """Why the entropy left its range."""
    if end > start:
        return (
            "the policy dissolves into noise, usually by steps that are too large: lower learning_rate, or "
            "set target_kl"
        )
    kl = series_of(stage, "train/kl_ref")
    far = f" (KL {num(ends(kl)[1])} nats)" if kl is not None else ""
    rewards = [ends(series) for _, series in without_kl(stage)]
    if rewards and sum(last - first for first, last in rewards) > 0:
        return (
            f"the policy narrows to the few texts that the reward likes best{far}: raise the KL reward's "
            "weight or ptx_coef, and read the samples"
        )
    return (
        f"the policy narrows without gaining reward{far}, so single updates are too large: lower "
        "learning_rate, or set target_kl"
    )


def length(stage: Stage, start: float, end: float) -> str:
    """Why responses grow or shrink."""
    if end < start:
        return (
            "ending early is the cheapest way to keep the KL penalty small, or the reward likes short text: "
            "lower the KL reward's weight, or add a 'length' reward with a min"
        )
    eos = series_of(stage, "rollout/eos_rate")
    if eos is not None and ends(eos)[1] < ends(eos)[0] - EOS_FALL:
        return (
            f"it unlearns to stop ({percent(ends(eos)[1])} still end by themselves), since a text that is "
            "cut is paid like one that ends: add a 'length' reward with a max below max_new_tokens"
        )
    return (
        "the reward grows with length, so length is what is learnt: look at the reward by source, and add a "
        "'length' reward with a max"
    )


def _worst(stage: Stage, key: str) -> float | None:
    series = stage.series.get(key)
    return max(abs(value) for value in series.values) if series and series.values else None


def _last(stage: Stage, key: str) -> float | None:
    series = stage.series.get(key)
    return series.values[-1] if series and series.values else None
