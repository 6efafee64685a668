"""What a run folder's ``summary.json`` and ``samples.jsonl`` may hold.

Every key is optional: the report leaves out what is missing. Fractions are 0..1, times are seconds,
KL is in nats per sequence, perplexity is per token. ``before`` is the policy that RL started from
(the SFT model), ``after`` the one it ended with.
"""

from __future__ import annotations

from typing import Literal, TypedDict


class Interval(TypedDict, total=False):
    """A figure with its 95 % interval; a bare number is accepted in its place."""

    value: float
    lo: float
    hi: float


class BeforeAfter(TypedDict, total=False):
    """One measure before and after RL."""

    before: float
    after: float


class Headline(TypedDict, total=False):
    """The figures a reader takes away.

    Attributes:
        prompts: How many held-out prompts the figures stand on.
        judge: Name of the judge behind `judge_gain` and `win_rate`.
        judge_gain: Mean of after minus before, in the judge's units.
        win_rate: Fraction of prompts where after beats before; a tie counts one half.
        kl_per_sequence: KL to the reference in nats per sequence; k1 over the evaluation samples.
        perplexity_before: Token-weighted perplexity on ordinary text.
        perplexity_after: The same text after RL.
        perplexity_change_percent: ``100 * (after / before - 1)``; computed when missing.
        perplexity_corpus: What that text is, in words; not in the pretraining stream.
    """

    prompts: int
    judge: str
    judge_gain: Interval
    win_rate: Interval
    kl_per_sequence: float | Interval
    perplexity_before: float
    perplexity_after: float
    perplexity_change_percent: float | Interval
    perplexity_corpus: str


class JudgeSummary(TypedDict, total=False):
    """What one judge says.

    Attributes:
        features: The feature family it stands on, in words.
        pair_accuracy: Fraction of held-out human pairs it orders as people did.
        anchor_human_2_5: Its mean score for held-out snippets that people rated 2.5 and more.
    """

    name: str
    features: str
    pair_accuracy: float
    anchor_human_2_5: float
    before: float
    after: float
    gain: Interval
    win_rate: Interval


class RewardModelSummary(TypedDict, total=False):
    """The trained reward's own opinion of the same samples."""

    before: float
    after: float
    gain: Interval
    pair_accuracy: float


class TextSummary(TypedDict, total=False):
    """Measures on which a collapse shows; further names are shown too."""

    distinct_1: BeforeAfter
    distinct_2: BeforeAfter
    repetition: BeforeAfter
    length_tokens: BeforeAfter
    length_words: BeforeAfter


class Phrase(TypedDict, total=False):
    """A phrase and the fraction of texts it stands in."""

    phrase: str
    share: float


class Phrases(TypedDict, total=False):
    """The most common phrases, most common first."""

    before: list[Phrase]
    after: list[Phrase]


class StageTime(TypedDict, total=False):
    """How long a stage took, downloads not counted."""

    name: str
    seconds: float


class FrontierPoint(TypedDict, total=False):
    """One evaluated checkpoint of one seed of one arm; `ppl_change` is in per cent."""

    arm: str
    seed: int
    step: int
    kl: float
    gain: float
    gain_lo: float
    gain_hi: float
    ppl_change: float
    win_rate: float


class Targets(TypedDict, total=False):
    """What the run was meant to reach; a tile with a target says whether it did."""

    judge_gain_min: float
    win_rate_min: float
    kl_max: float
    perplexity_change_percent_max: float


class Summary(TypedDict, total=False):
    """``summary.json``.

    Attributes:
        title: A name for the run; the folder's name when missing.
        status: What the run last said of itself; inferred from the other files when missing.
        names: What to call the two policies, e.g. ``{"before": "SFT", "after": "PPO-ptx"}``.
        planned_stages: The stages the run means to go through, by the names in ``stages.json``.
        wall_s: Time of the whole run, downloads not counted.
        downloads_s: Time that went into downloads.
        command: The exact command, as one string or as a list of words.
        order_ceiling: The most held-out pairs that any scores could have right, as a share.
        data_notes: What is odd about the preferences that were learnt from, a sentence each.
    """

    title: str
    model: str
    status: Literal["finished", "interrupted", "running", "failed"]
    names: dict[str, str]
    headline: Headline
    targets: Targets
    judges: list[JudgeSummary]
    reward_model: RewardModelSummary
    text: TextSummary
    phrases: Phrases
    frontier: list[FrontierPoint]
    stages: list[StageTime]
    planned_stages: list[str]
    downloads_s: float
    wall_s: float
    peak_memory_gb: float
    command: str | list[str]
    seed: int
    order_ceiling: float
    data_notes: list[str]


class Sample(TypedDict, total=False):
    """A row of ``samples.jsonl``: `before` and `after` are the continuations, without the prompt."""

    prompt: str
    before: str
    after: str
    judge_before: float
    judge_after: float
